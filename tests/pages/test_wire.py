"""docs/reference/wire.md: its tables of properties and headers are what goes over the wire."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from nuropb_rmq import Mesh, TransportConfig, mesh_event
from nuropb_rmq.amqp.frames import Properties, decode_properties, decode_table
from nuropb_rmq.broker.topology import Topology
from nuropb_rmq.memory.message import Stored
from nuropb_rmq.testing import MemoryBroker, memory_broker

from ..support import eventually
from .support import page

PAGE = page("reference/wire.md")
KINDS = ("request", "command", "event", "response")
HOURS_12 = str(12 * 3600 * 1000)


class Orders:
    """A service."""

    _service_name = "orders"

    async def total(self) -> int:
        """A method."""
        return 80

    @mesh_event("orders.created")
    async def on_created(self) -> None:
        """A handler."""


@pytest.fixture
async def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, Stored]:
    """A message of each kind."""
    seen: dict[str, Stored] = {}

    def record(_: MemoryBroker, message: Stored, dead: bool) -> None:
        headers = decode_table(decode_properties(message.properties).headers or b"")
        seen[headers["nuropb_type"]] = message

    monkeypatch.setattr(MemoryBroker, "record", record)
    with memory_broker() as broker:
        client = Mesh(broker.url, instance_id="1")
        async with Mesh(broker.url, service=Orders()), client:
            await client.request("orders", "total", timeout=7, encrypted=False)
            await client.command("orders", "total", encrypted=False)
            await client.publish_event("orders.created", {})
            await eventually(lambda: set(seen) == set(KINDS))
    return seen


def rows(heading: str) -> Iterator[list[str]]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_properties(sent: dict[str, Stored]) -> None:
    table = {row[0].strip("`"): row[1:] for row in rows("Properties")}
    assert tuple(table["property"]) == KINDS
    for kind, column in zip(KINDS, range(4), strict=True):
        found = decode_properties(sent[kind].properties)
        for name in ("content_type", "reply_to", "expiration", "delivery_mode", "priority"):
            said = table[name][column] if table[name][column] != "same" else table[name][0]
            assert _is(getattr(found, name), said, kind), (kind, name, said, found)
        assert re.fullmatch("[0-9a-f]{32}", found.correlation_id or "")
        assert found.message_id
        undescribed = set(vars_of(found)) - {*table, "headers"}
        assert not undescribed


def vars_of(found: Properties) -> dict[str, Any]:
    """Return the properties that a message has."""
    every = {name: getattr(found, name) for name in Properties.__dataclass_fields__}
    return {name: value for name, value in every.items() if value is not None}


def _is(value: object, said: str, kind: str) -> bool:
    """Return whether a property is what a cell of the table says."""
    match said:
        case "absent" | "only when given" | "only with a `ttl`":
            return value is None
        case "empty":
            return value == ""
        case "own response queue":
            return value == "nuropb-client-1-rq"
        case "the timeout, in milliseconds":
            return value == "7000"
        case "`ttl`, 12 hours by default":
            return value == HOURS_12
    return str(value) == said.strip("`") and kind in KINDS


def test_the_headers(sent: dict[str, Stored]) -> None:
    described = {name for row in rows("Headers") for name in re.findall(r"`(\w+)`", row[0])}
    for message in sent.values():
        headers = decode_table(decode_properties(message.properties).headers or b"")
        assert set(headers) <= described
        assert headers["nuropb_protocol"] == "0.1.1"
        assert headers["encrypted"] == ""


def test_the_exchanges_and_queues() -> None:
    config = TransportConfig(amqp_url="amqp://h", service_name="orders", retry_delays=(5,))
    topology = Topology.of(config, "1")
    assert topology.service_queue
    assert topology.dead_letters
    assert topology.dead_letters.exchange
    exchanges = {each.name: each.kind for each in topology.exchanges}
    exchanges[topology.dead_letters.exchange.name] = topology.dead_letters.exchange.kind
    queues = {
        "nuropb-{service}-sq": topology.service_queue,
        "nuropb-{service}-{instance}-rq": topology.response_queue,
        "nuropb-{service}-dlq": topology.dead_letters.queue,
        "nuropb-{service}-retry-{ms}": topology.retry_queues[0],
    }
    described = {row[1].strip("`"): row[2] for row in rows("Exchanges and queues")}
    assert set(described) - {"name"} == {*exchanges, *queues}
    for name, kind in exchanges.items():
        assert described[name].startswith(f"{kind}, durable")
    for name, queue in queues.items():
        ours = name.format(service="orders", instance="1", ms=5000)
        assert queue.name == ours
        assert described[name].startswith("durable" if queue.durable else "exclusive, not durable")
        assert queue.exclusive is not queue.durable
    assert Mesh("amqp://h", service=Orders()).transport.config.queue_type == "classic"
