"""`request`, `command` and `publish`: what is sent, what is printed, and what is said otherwise."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq import (
    Mesh,
    NuropbAuthorizationError,
    NuropbContextManager,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)
from nuropb_rmq.testing import RabbitMQNode

from ..encrypting import private_key
from ..faults.console import vhost_of
from ..support import eventually
from .command import environment, ran
from .terminal import on_terminal


class Orders:
    """Takes orders."""

    _service_name = "orders"
    _private_key = private_key("orders")

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def get_total(self, order_id: str, rows: list[int] | None = None) -> dict[str, Any]:
        return {"order_id": order_id, "rows": rows, "note": "\x1b[31mč"}

    @nuropb_context
    async def who(self, ctx: NuropbContextManager) -> dict[str, Any]:
        return dict(ctx.context)

    @publish_to_mesh(requires_encryption=True)
    async def pay(self, card: str) -> str:
        return f"paid with {card}"

    async def ship(self, order_id: str) -> None:
        self.seen.append(order_id)

    async def fail(self) -> None:
        raise NuropbAuthorizationError("no \x1b[2J\nnuropb-rmq: all is well")

    async def slow(self) -> None:
        await asyncio.sleep(60)

    @mesh_event("orders.*")
    async def on_event(self, topic: str, event: Any) -> None:
        self.seen.append((topic, event))


@pytest.fixture
async def orders(mesh_url: str) -> AsyncIterator[Orders]:
    """A service that runs."""
    service = Orders()
    mesh = Mesh(mesh_url, service=service)
    await mesh.start()
    yield service
    await mesh.stop(grace=0.1)


@pytest.mark.usefixtures("orders")
async def test_a_request(mesh_url: str, tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"order_id": "A-1", "rows": [1]}', encoding="utf-8")
    request = ("request", "orders", "get_total")
    expected = {"order_id": "A-1", "rows": [1], "note": "\x1b[31mč"}
    for given in (("order_id=A-1", "rows=[1]"), (f"@{file}", 'order_id="A-1"')):
        params = [word for each in given for word in ("-p", each)]
        status, out, err = await ran(*request, *params, "--json", url=mesh_url)
        assert (status, err, json.loads(out)) == (0, "", expected)
        assert "\x1b" not in out
    status, out, err = await ran(*request, "-p", "@-", url=mesh_url, stdin=file.read_bytes())
    assert (status, err, json.loads(out)) == (0, "", expected)
    assert "\x1b" not in out


@pytest.mark.usefixtures("orders")
async def test_context_and_encryption(mesh_url: str) -> None:
    context = ("--context", "user=ada", "--context", "level=3")
    status, out, _ = await ran("request", "orders", "who", *context, "--json", url=mesh_url)
    assert (status, json.loads(out)) == (0, {"user": "ada", "level": 3})
    pay = ("request", "orders", "pay", "-p", 'card="12"')
    assert (await ran(*pay, url=mesh_url))[:2] == (0, '"paid with 12"\n')
    status, _, err = await ran(*pay, "--plain", url=mesh_url)
    assert status == 1
    assert "EncryptionRequiredError" in err


async def test_a_command_and_an_event(orders: Orders, mesh_url: str) -> None:
    command = ("command", "orders", "ship", "-p", "order_id=A-1", "--ttl", "2h")
    assert await ran(*command, url=mesh_url) == (0, "", "orders.ship: the broker has it\n")
    status, out, err = await ran("publish", "orders.new", '{"id": 1}', "--json", url=mesh_url)
    assert (status, json.loads(out), err) == (0, {"topic": "orders.new", "sent": True}, "")
    status, _, _ = await ran("publish", "orders.new", "-", url=mesh_url, stdin=b"[2]")
    assert status == 0
    status, _, _ = await ran("publish", "orders.new", "some text", url=mesh_url)
    assert status == 0
    assert (await ran("publish", "orders.new", url=mesh_url))[0] == 0
    await eventually(lambda: len(orders.seen) == 5)
    events = [event for event in orders.seen if event != "A-1"]
    assert events == [("orders.new", each) for each in ({"id": 1}, [2], "some text", None)]


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["request", "ordres", "x"], 1, "there is no service 'ordres' at amqp://guest:***@"),
        (["request", "orders", "get_totl"], 1, "no method 'get_totl': did you mean get_total?"),
        (["command", "orders", "zzz"], 1, "it has fail, get_total, pay, ship, slow, who"),
        pytest.param(
            ["request", "orders", "fail"],
            1,
            "no \\x1b[2J\\nnuropb-rmq: all is well",
            id="a hostile error",
        ),
        (["request", "orders", "get_total"], 1, "order_id"),
        (["request", "orders", "get_total", "-p", "order_id=7"], 1, """-p 'order_id="…"'"""),
        (["request", "orders", "slow", "--timeout", "0.3"], 1, "no answer within 0.3 s"),
        (["publish", "a." * 200, "1"], 1, "255"),
    ],
)
async def test_one_readable_line(
    mesh_url: str, arguments: list[str], status: int, says: str
) -> None:
    ended, out, err = await ran(*arguments, url=mesh_url)
    (line,) = err.splitlines()
    assert (ended, out) == (status, "")
    assert line.startswith("nuropb-rmq: ")
    assert says in line


@pytest.mark.usefixtures("orders")
async def test_a_name_that_was_meant(mesh_url: str, rabbitmq_node: RabbitMQNode) -> None:
    api = ("--management-url", rabbitmq_node.management_url)
    for verb in ("request", "command"):
        _, _, err = await ran(verb, "ordres", "ship", *api, url=mesh_url)
        assert err.endswith("did you mean orders?\n")


async def test_a_queue_that_is_not_bound(
    orders: Orders, mesh_url: str, rabbitmq_node: RabbitMQNode
) -> None:
    """It is there, and so is its instance; no call comes to it."""
    path = f"/api/bindings/{vhost_of(mesh_url)}/e/nuropb-rpc-exchange/q/nuropb-orders-sq/orders"
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", path)
    api = ("--management-url", rabbitmq_node.management_url)
    for verb in ("request", "command"):
        status, out, err = await ran(verb, "orders", "ship", *api, url=mesh_url)
        (line,) = err.splitlines()
        assert (status, out) == (1, "")
        assert line.startswith("nuropb-rmq: service 'orders' at amqp://guest:***@")
        assert "has a queue that is not bound" in line
        assert line.endswith("run nuropb-rmq doctor orders")
    assert orders.seen == []


async def test_no_instance_runs(mesh_url: str) -> None:
    """Its queue is there, and what is in it waits."""
    async with Mesh(mesh_url, service=Orders()):
        pass
    for verb in (["command", "orders", "ship"], ["describe", "orders"], ["stubs", "orders"]):
        status, out, err = await ran(*verb, "--timeout", "0.3", url=mesh_url)
        (line,) = err.splitlines()
        assert (status, out) == (1, "")
        assert line.startswith("nuropb-rmq: ")
        assert "within 0.3 s (--timeout): does an instance of it run? See nuropb-rmq serv" in line
    plain = ("command", "orders", "ship", "--plain", "-p", "order_id=A-1")
    assert (await ran(*plain, url=mesh_url))[0] == 0


async def test_a_parameter_of_another_type_is_not_sent(orders: Orders, mesh_url: str) -> None:
    """A command has no answer to say so: it would be a dead letter."""
    ship = ("command", "orders", "ship", "-p")
    status, out, err = await ran(*ship, "order_id=1", url=mesh_url)
    problem = (
        "orders.ship is not sent: parameter order_id: got an integer, and a string is expected"
    )
    advice = """text is written with quotes: -p 'order_id="…"'"""
    assert (status, out, err) == (1, "", f"nuropb-rmq: {problem}; {advice}\n")
    assert (await ran(*ship, 'order_id="1"', url=mesh_url))[0] == 0
    await eventually(lambda: orders.seen == ["1"])
    status, _, _ = await ran(*ship, "order_id=1", "--plain", url=mesh_url)
    assert status == 0


async def test_one_interrupt_ends_what_reads_the_terminal(mesh_url: str) -> None:
    async with on_terminal("request", "orders", "ship", "-p", "@-", url=mesh_url) as terminal:
        await terminal.shows("Ctrl-D ends it")
        terminal.type("\x03")
        assert await terminal.ended() == 130
    assert "Traceback" not in terminal.text
    assert "nuropb-rmq:" not in terminal.text


@pytest.mark.parametrize("verb", ["request", "command", "publish"])
async def test_what_makes_the_exchanges_is_a_verb(mesh_url: str, verb: str) -> None:
    words = ("orders.new", "1") if verb == "publish" else ("orders", "ship")
    status, _, err = await ran(verb, *words, url=mesh_url)
    assert status == 1
    assert "does not exist: run nuropb-rmq configure (" in err


@pytest.mark.usefixtures("orders")
async def test_closed_streams(mesh_url: str) -> None:
    """Standard input, output and error output may all be closed."""
    run = f"{sys.executable} -m nuropb_rmq request orders"
    for command, status in (
        (f"{run} get_total -p @- <&-", 2),
        (f"{run} who <&- >&-", 0),
        (f"{run} nothing <&- >&- 2>&-", 1),
    ):
        process = await asyncio.create_subprocess_shell(
            command, env=environment(mesh_url), stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
        assert (process.returncode, b"Traceback" in err) == (status, False), err


async def test_a_broker_that_refuses_or_is_not_there(mesh_url: str) -> None:
    wrong = mesh_url.replace("guest:guest@", "guest:hunter2@")
    for url, says in ((wrong, "refused user 'guest'"), (_elsewhere(mesh_url), "refused: does the")):
        status, _, err = await ran("request", "orders", "x", url=url)
        assert (status, len(err.splitlines())) == (1, 1)
        assert says in err
        assert "hunter2" not in err


def _elsewhere(url: str) -> str:
    head, _, tail = url.rpartition("@")
    return f"{head}@127.0.0.1:1/{tail.partition('/')[2]}"
