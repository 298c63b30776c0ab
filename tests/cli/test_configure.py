"""The verb `configure`: it says what is missing, and makes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nuropb_rmq.cli import main

from .command import ran
from .doctoring import BY_QUEUE, DEAD, DL_QUEUE, EVENTS, PROGRAM, QUEUE, RPC, Deployment

EXCHANGES = [f"exchange {name}" for name in (RPC, EVENTS, DEAD)]


Run = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def run(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs the verb; returns the lines that it prints."""

    async def run(*arguments: str, url: str = deployment.url) -> list[str]:
        monkeypatch.setenv("NUROPB_RMQ_URL", url)
        words = ["configure", *arguments, "--management-url", deployment.node.management_url]
        assert await asyncio.to_thread(main, words) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out.splitlines()

    return run


async def things(deployment: Deployment) -> list[Any]:
    """All that is there."""
    kinds = ("queues", "exchanges", "bindings")
    query = "{vhost}?disable_stats=true"
    found = [await deployment.api("GET", f"{kind}/{query}") for kind in kinds]
    return [
        [(each.get("name"), each.get("source"), each.get("routing_key")) for each in kind]
        for kind in found
    ]


async def test_all_of_a_program(deployment: Deployment, run: Run) -> None:
    before = await things(deployment)
    told = await run(PROGRAM, "--dry-run")
    assert await things(deployment) == before
    assert told[:6] == [
        *(f"would make {each}" for each in EXCHANGES),
        f"would make exchange {BY_QUEUE}",
        f"would make queue {DL_QUEUE}",
        f"would make binding {BY_QUEUE} to {DEAD}",
    ]
    assert f"would make binding {QUEUE} to {EVENTS} (shop.*)" in told
    made = await run(PROGRAM)
    assert made == [each.replace("would make", "made") for each in told]
    assert await run(PROGRAM) == ["nothing is missing"]
    assert await run(PROGRAM, "--dry-run") == ["nothing is missing"]
    for check in ("queue-missing", "binding-events", "dlq-bindings", "retry-missing"):
        await deployment.clean(check)


async def test_a_service_by_its_name(deployment: Deployment, run: Run) -> None:
    """Its queue is not made without its type: it could not be changed later."""
    told = await run("orders")
    assert f"made queue {DL_QUEUE}" in told
    assert not [line for line in told if QUEUE in line.split()]
    options = ("--queue-type", "quorum", "--retry-delays", "1,30", "--event-binding", "shop.#")
    told = await run("orders", *options)
    assert [line for line in told if line.startswith("made queue")] == [
        f"made queue {QUEUE}",
        "made queue nuropb-orders-retry-1000-quorum",
        "made queue nuropb-orders-retry-30000-quorum",
    ]
    assert f"made binding {QUEUE} to {EVENTS} (shop.#)" in told
    assert await run("orders", *options) == ["nothing is missing"]


async def test_the_exchanges_alone(deployment: Deployment, run: Run) -> None:
    assert await run() == [f"made {each}" for each in EXCHANGES]


async def test_the_virtual_host_is_missing(deployment: Deployment, run: Run) -> None:
    other = Deployment(deployment.node, f"{deployment.url}-new")
    told = await run("--dry-run", url=other.url)
    assert told[0] == f"would make virtual host {other.vhost}"
    assert (await run(url=other.url))[0] == f"made virtual host {other.vhost}"
    await other.api("DELETE", "vhosts/{vhost}")


async def test_bindings_are_taken_out(deployed: Deployment, run: Run) -> None:
    path = f"bindings/{{vhost}}/e/{EVENTS}/q/{QUEUE}"
    await deployed.api("POST", path, {"routing_key": "old:#"})
    told = await run("orders", "--unbind", f"{EVENTS}:old:#", "--dry-run")
    assert told == [f"would take out binding {EVENTS}:old:#"]
    told = await run("orders", "--unbind", f"{EVENTS}:old:#")
    assert told == [f"took out binding {EVENTS}:old:#"]
    assert [each["routing_key"] for each in await deployed.api("GET", path)] == ["shop.*"]


async def test_the_dead_letters_of_all_services_no_longer_come(
    deployed: Deployment, run: Run
) -> None:
    """A dry run says so before."""
    path = f"bindings/{{vhost}}/e/{DEAD}/q/{DL_QUEUE}"
    await deployed.api("POST", path, {"routing_key": DL_QUEUE})
    former = f"binding {DL_QUEUE} to {DEAD} ({DL_QUEUE})"
    assert await run(PROGRAM, "--dry-run") == [f"would take out {former}"]
    assert len(await deployed.api("GET", path)) == 1
    (line,) = await run(PROGRAM, "--dry-run", "--json")
    told = json.loads(line)
    assert told["removed"] == [{"kind": "binding", "name": former.removeprefix("binding ")}]
    assert await run(PROGRAM) == [f"took out {former}"]
    assert await deployed.api("GET", path) == []
    assert await run(PROGRAM) == ["nothing is missing"]


async def test_queues_of_delays_that_nobody_uses_are_named(deployed: Deployment, run: Run) -> None:
    name = "nuropb-orders-retry-7000"
    await deployed.api("PUT", f"queues/{{vhost}}/{name}", {"durable": True})
    said = f"queue {name} is for a delay that the service does not have: delete it when empty"
    assert await run(PROGRAM) == [said, "nothing is missing"]
    (line,) = await run(PROGRAM, "--dry-run", "--json")
    assert json.loads(line)["unused"] == [{"kind": "queue", "name": name}]
    assert name in str(await things(deployed))
    assert await run("orders") == ["nothing is missing"]  # it does not know the delays


async def test_json(deployment: Deployment, run: Run) -> None:
    (line,) = await run("--json")
    told = json.loads(line)
    assert told["made"] is True
    assert told["missing"][0] == {"kind": "exchange", "name": RPC}


@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "made"])
async def test_what_is_there_cannot_be_seen(deployment: Deployment, dry: bool) -> None:
    """It is made all the same; a dry run says that it does not know."""
    arguments = ["configure", "orders", "--management-url", "http://127.0.0.1:1"]
    status, out, err = await ran(*arguments, *["--dry-run"] * dry, url=deployment.url)
    if dry:
        assert (status, out) == (1, "")
        assert "what is missing cannot be seen" in err
        assert err.count("\n") == 1
        return
    assert (status, out) == (0, "all that is needed is there now\n")
    await deployment.clean("dlq-missing")
