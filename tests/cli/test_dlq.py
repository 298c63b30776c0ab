"""`dlq`: dead letters are counted, shown, sent back and dropped, and nothing else happens."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq.testing import RabbitMQNode

from ..conformance.brokers import becomes
from ..dead_letters.conftest import yard_at
from ..dead_letters.support import SERVICE_QUEUE, Yard
from ..faults.console import metadata_is_written
from ..support import Transports
from . import golden
from .command import environment, ran, running
from .terminal import on_terminal
from .yard import fill


@pytest.fixture
async def yard(mesh_url: str, rabbitmq_node: RabbitMQNode) -> AsyncIterator[Yard]:
    """The queues of orders, empty."""
    async with yard_at(mesh_url, rabbitmq_node.management_url) as made:
        yield made


async def dlq(yard: Yard, *arguments: str, width: int = 80) -> tuple[int, str, str]:
    """Run `dlq`."""
    return await ran("dlq", *arguments, url=yard.url, width=width)


async def read(yard: Yard, *arguments: str) -> Any:
    """Run `dlq … --json`, which succeeds; return what it prints."""
    status, out, err = await dlq(yard, *arguments, "--json")
    assert (status, err) == (0, "")
    documents = [json.loads(line) for line in out.splitlines()]
    return documents if arguments[0] == "list" else documents[0]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (("--reason", "rejcted"), "expected one of rejected, expired, maxlen, delivery_limit"),
        (("--type", "comand"), "must be one of request, command, event, response"),
    ],
)
async def test_a_filter_that_fits_nothing(option: tuple[str, str], expected: str) -> None:
    status, out, err = await ran("dlq", "orders", *option, url="amqp://127.0.0.1:1/")
    assert (status, out) == (2, "")
    assert err.startswith(f"nuropb-rmq: {option[0]}: {expected}")


# -- looking ----------------------------------------------------------------------------------


async def test_groups(yard: Yard) -> None:
    await fill(yard)
    status, out, err = await dlq(yard, "orders")
    assert (status, err) == (0, "")
    golden.compare("dlq-groups", out)
    assert (await dlq(yard, "groups", "orders"))[1] == out
    plain = (await ran("dlq", "orders", url=yard.url, encoding="ascii"))[1]
    assert {len(line) for line in plain.splitlines()[:8]} == {80}
    assert (await dlq(yard, "orders", "--error", "None"))[1] == (
        "orders: no dead letters that match\n"
    )
    found = await read(yard, "groups", "orders", "--limit", "1")
    assert [(each["count"], each["error"], each["example"]) for each in found] == [
        (3, "ValueError", "failure-0")
    ]
    await yard.holds(9)


async def test_list_and_show(yard: Yard) -> None:
    await fill(yard)
    status, out, err = await dlq(yard, "list", "orders")
    assert (status, err) == (0, "")
    golden.compare("dlq-list", out)
    status, out, err = await dlq(yard, "show", "orders", "failure-3")
    assert (status, err) == (0, "")
    golden.compare("dlq-show", out)
    assert "params" not in out  # the payload is shown when somebody asks for it
    status, out, err = await dlq(yard, "show", "orders", "failure-3", "--payload")
    assert '"params"' in out
    await yard.holds(9)


@pytest.mark.parametrize("width", [60, 140])
async def test_other_widths(yard: Yard, width: int) -> None:
    await fill(yard)
    _, out, _ = await dlq(yard, "orders", width=width)
    assert max(map(len, out.splitlines())) <= width
    golden.compare(f"dlq-groups-{width}", out)


async def test_payloads(yard: Yard) -> None:
    await fill(yard)
    letters = await read(yard, "list", "orders", "--payload")
    assert letters[0]["payload"]["params"] == {"n": 0}
    assert letters[0]["headers"]["nuropb_attempts"] == 3
    (sealed,) = (each for each in letters if each["encrypted"])
    assert sealed["payload"] is None
    assert sealed["payload_problem"] == "encrypted: only the service can read it"
    assert "payload" not in (await read(yard, "list", "orders"))[0]
    _, out, _ = await dlq(yard, "show", "orders", "failure-6", "--payload")
    assert "encrypted: only the service can read it" in out


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--reason", "rejected", "--error", "ValueError", "--method", "bill"], ["c-3"]),
        (["--type", "event", "--topic", "orders.*", "--older-than", "1h"], ["c-4"]),
        (["--trace-id", "t", "--older-than", "1h", "--limit", "2"], ["c-0", "c-1"]),
        (["--failure-id", "failure-2", "--correlation-id", "c-2", "--newer-than", "10m"], []),
    ],
)
async def test_filters(yard: Yard, arguments: list[str], ids: list[str]) -> None:
    await fill(yard)
    found = await read(yard, "list", "orders", *arguments)
    assert [each["correlation_id"] for each in found] == ids


async def test_nothing_is_there(yard: Yard) -> None:
    assert await dlq(yard, "orders") == (0, "orders: no dead letters\n", "")
    assert (await dlq(yard, "replay", "orders", "--yes"))[:2] == (
        0,
        "orders: no dead letters\n",
    )
    assert await read(yard, "list", "orders") == []


# -- sending back, dropping -------------------------------------------------------------------


async def test_a_replay_in_a_script(yard: Yard) -> None:
    await yard.declare()
    await fill(yard)
    status, out, err = await dlq(yard, "replay", "orders", "--dry-run")
    assert (status, out) == (0, "orders: 7 dead letters would be replayed\n")
    golden.compare("dlq-replay-stays", err)
    await yard.holds(9)
    status, out, err = await dlq(yard, "replay", "orders", "--yes", "--json")
    result = json.loads(out)
    assert (status, result["done"]) == (3, 7)
    assert result["left"] == {"a request, whose caller is gone": 1, "of another service": 1}
    await yard.holds(2)
    await yard.holds(7, SERVICE_QUEUE)
    told = ("--requests", "--foreign", "--expiration", "2h")
    status, out, err = await dlq(yard, "replay", "orders", "--yes", *told)
    assert (status, out, err) == (0, "orders: 2 dead letters replayed\n", "")
    await yard.holds(9, SERVICE_QUEUE)


async def test_a_purge_in_a_script(yard: Yard) -> None:
    await fill(yard)
    assert (await read(yard, "purge", "orders", "--error", "ValueError", "--dry-run"))["done"] == 6
    some = ("purge", "orders", "--error", "ValueError", "--limit", "2")
    assert (await read(yard, *some, "--dry-run"))["done"] == 2
    status, out, _ = await dlq(yard, *some, "--yes")
    assert (status, out) == (0, "orders: 2 dead letters dropped\n")
    status, out, _ = await dlq(yard, "purge", "orders", "--error", "ValueError", "--yes")
    assert (status, out) == (0, "orders: 4 dead letters dropped\n")
    status, out, err = await dlq(yard, "purge", "orders", "--yes")
    assert (status, out) == (3, "orders: 2 dead letters dropped\n")
    assert err == "1 dead letter stays: of another service (--foreign)\n"
    await yard.holds(1)


@pytest.mark.parametrize("verb", ["replay", "purge"])
async def test_nobody_can_be_asked(yard: Yard, verb: str) -> None:
    await fill(yard)
    status, out, err = await dlq(yard, verb, "orders")
    assert (status, out) == (2, "")
    assert "add --yes" in err
    await yard.holds(9)


@pytest.mark.parametrize(
    ("typed", "status", "left"),
    [("y\n", 3, 2), ("n\n", 1, 9), ("\n", 1, 9), ("\x03", 130, 9), ("\x04", 1, 9)],
    ids=["yes", "no", "enter", "ctrl-c", "ctrl-d"],
)
async def test_it_asks_once(yard: Yard, typed: str, status: int, left: int) -> None:
    await yard.declare()
    await fill(yard)
    async with on_terminal("dlq", "replay", "orders", url=yard.url) as terminal:
        await terminal.shows("replay 7 dead letters of orders? [y/N]")
        terminal.type(typed)
        assert await terminal.ended() == status
        assert "Traceback" not in terminal.text
    await yard.holds(left)


async def test_a_service_queue_that_is_not_there(yard: Yard) -> None:
    await fill(yard)
    status, out, err = await dlq(yard, "replay", "orders", "--yes")
    assert (status, out) == (3, "orders: 0 dead letters replayed\n")
    assert "the service queue does not exist" in err
    await yard.holds(9)


async def test_an_interrupt_loses_nothing(yard: Yard, tmp_path: Path) -> None:
    await yard.declare()
    await yard.fill(6000)
    async with running(tmp_path, "dlq", "replay", "orders", "--yes", url=yard.url) as command:
        await becomes(partial(_begun, yard), True)
        command.signal(signal.SIGINT)
        assert await command.ended() == 130
        (line,) = command.lines
    assert line.startswith("orders: ")
    assert "dead letters replayed, " in line
    done = int(line.split()[1])
    assert 0 < done < 6000
    replayed, left = await yard.replayed(), await yard.left()
    assert set(replayed) | set(left) == set(range(6000))
    assert len(replayed) >= done
    assert len(left) == 6000 - done


async def _begun(yard: Yard) -> bool:
    """Return whether something is in the service queue."""
    return await yard.ready(SERVICE_QUEUE) > 0


async def test_a_broker_that_goes_away(
    mortal_mesh: Transports, mortal_node: RabbitMQNode, tmp_path: Path
) -> None:
    url = mortal_mesh.url
    async with yard_at(url, mortal_node.management_url) as yard:
        await yard.declare()
        await yard.fill(6000)
        await asyncio.to_thread(metadata_is_written, mortal_node)
        async with running(tmp_path, "dlq", "replay", "orders", "--yes", url=url) as command:
            await becomes(partial(_begun, yard), True)
            await asyncio.to_thread(mortal_node.kill)
            assert await command.ended() == 3
            said = command.lines
    await mortal_node.astart()
    assert any(line.startswith("looked at ") for line in said)
    assert not any("Traceback" in line for line in said)
    async with yard_at(url, mortal_node.management_url) as yard:
        replayed, left = await yard.replayed(), await yard.left()
        assert set(replayed) | set(left) == set(range(6000))


# -- what cannot be done ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["show", "orders", "nope"], 1, "begins with 'nope': see nuropb-rmq dlq list orders"),
        (["orders", "--url", "amqp://guest:hunter2@127.0.0.1:1/"], 1, "connection refused"),
    ],
)
async def test_one_readable_line(yard: Yard, arguments: list[str], status: int, says: str) -> None:
    ended, out, err = await dlq(yard, *arguments)
    assert (ended, out) == (status, "")
    (line,) = err.splitlines()
    assert line.startswith("nuropb-rmq: ")
    assert says in line
    assert "hunter2" not in line


async def test_a_service_that_is_not_there(yard: Yard, rabbitmq_node: RabbitMQNode) -> None:
    await yard.declare()
    api = ("--management-url", rabbitmq_node.management_url)
    status, _, err = await dlq(yard, "ordres", *api)
    assert status == 1
    assert err.endswith("did you mean orders?\n")
    status, _, err = await dlq(yard, "nothing-like-it", *api)
    assert status == 1
    assert err.endswith("(the services here: orders)\n")


async def test_a_reader_that_goes_away(yard: Yard) -> None:
    await yard.fill(100)
    for form in ([], ["--json"]):
        process = await asyncio.create_subprocess_shell(
            f"{sys.executable} -m nuropb_rmq dlq list orders {' '.join(form)} | head -n 1",
            env=environment(yard.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert out
        assert err == b""


async def test_a_delivery_limit(mesh_url: str, rabbitmq_node: RabbitMQNode) -> None:
    """A quorum queue on RabbitMQ 4.x, whose letters are dropped when lookers are killed."""
    api = rabbitmq_node.management_url
    if int(rabbitmq_node.version.partition(".")[0]) < 4:
        return
    async with yard_at(mesh_url, api, queue_type="quorum") as yard:
        await yard.fill(2)
        status, _, err = await dlq(yard, "orders", "--management-url", api)
        assert status == 1
        assert "delivery-limit" in err
        found = await read(
            yard, "groups", "orders", "--management-url", api, "--allow-delivery-limit"
        )
        assert found[0]["count"] == 2
