"""Series and names of spans do not grow with what peers and users choose."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from nuropb_rmq import (
    Mesh,
    Message,
    NuropbNotDeliveredError,
    NuropbRemoteError,
    Transport,
    TransportConfig,
)
from nuropb_rmq.telemetry.instrumentor import NuropbInstrumentor
from nuropb_rmq.telemetry.names import MOST, OTHER

from ..support import event, eventually, request
from .services import Orders, Stock
from .support import Recorded, Traced, attributes_of

MANY = MOST + 100
CALLS = ("rpc.client.call.duration", "rpc.server.call.duration")
OPERATIONS = ("messaging.client.operation.duration", "messaging.process.duration")


def values(recorded: Recorded, names: tuple[str, ...], label: str) -> set[Any]:
    metrics = recorded.metrics
    return {
        attributes[label]
        for name in names
        for attributes, _ in metrics[name]
        if label in attributes
    }


async def test_methods_that_nobody_knows(in_memory: Traced, recorded: Recorded) -> None:
    """A gateway that passes on what its users ask for."""
    await in_memory.serve(Orders())
    client = await in_memory.client()
    for number in range(MANY):
        with pytest.raises(NuropbRemoteError, match="Unknown method"):
            await client.request("orders", f"total-{number}", encrypted=False)
    await client.request("orders", "total", {"number": 1})
    await recorded.count("orders/total", 2)
    described = "orders/nuropb_describe"
    assert values(recorded, CALLS, "rpc.method") == {"orders/total", described, OTHER}
    names = {each.name for each in recorded.spans if each.kind.name in {"CLIENT", "SERVER"}}
    assert names == {"orders/total", "nuropb"}
    told = {attributes_of(each).get("rpc.method_original") for each in recorded.spans}
    assert "orders/total-7" in told, "each span tells it"


async def test_services_that_are_not_there(in_memory: Traced, recorded: Recorded) -> None:
    """Calls that nobody has answered take no place of a method that works."""
    await in_memory.serve(Orders())
    client = await in_memory.client()
    for number in range(MANY):
        with pytest.raises(NuropbNotDeliveredError):
            await client.request(f"invented-{number}", "total", encrypted=False)
    await client.request("orders", "total", {"number": 1}, encrypted=False)
    assert values(recorded, CALLS[:1], "rpc.method") == {"orders/total", OTHER}


async def test_methods_of_a_handler_that_is_no_mesh(in_memory: Traced, recorded: Recorded) -> None:
    """Known once they have worked; as many as there is room for."""

    async def handler(message: Message) -> int:
        if message.payload["method"] == "bad":
            raise LookupError
        return 1

    client = (await in_memory.client()).transport
    in_memory.instrument(await in_memory.bare(handler, "orders"))
    await client.request(request("bad"))
    assert values(recorded, CALLS[1:], "rpc.method") == {OTHER}
    for number in range(MANY):
        await client.request(request(f"good-{number}"))
    for name in CALLS:
        found = values(recorded, (name,), "rpc.method")
        assert len(found) == MOST + 1
        assert OTHER in found


async def test_topics_with_ids(in_memory: Traced, recorded: Recorded) -> None:
    """A publisher's are bounded in number, a subscriber's are those of its bindings."""
    stock = Stock()
    await in_memory.serve(stock)
    client = (await in_memory.client()).transport
    for number in range(MANY):
        await client.send(event(f"orders.{number}", number))
    await eventually(lambda: len(stock.seen) == MANY)
    await recorded.count("process nuropb-events-exchange:orders.*:nuropb-stock-sq", MANY)
    sent = values(recorded, OPERATIONS[:1], "messaging.destination.name")
    assert len(sent) == MOST + 1
    assert "nuropb-events-exchange" in sent, "for those that there is no room for"
    assert "messaging.destination.name" not in recorded.metrics[OPERATIONS[1]][0][0]
    seen = values(recorded, OPERATIONS[1:], "messaging.destination.template")
    assert seen == {"nuropb-events-exchange:orders.*:nuropb-stock-sq"}
    keys = {
        attributes_of(each)["messaging.rabbitmq.destination.routing_key"] for each in recorded.spans
    }
    assert len(keys) == MANY


async def test_names_of_errors(in_memory: Traced, recorded: Recorded) -> None:
    """A service that makes up a class for every call."""

    async def handler(message: Message) -> None:
        raise type(message.payload["method"], (Exception,), {})

    client = (await in_memory.client()).transport
    in_memory.instrument(await in_memory.bare(handler, "orders"))
    for number in range(MANY):
        await client.request(request(f"E{number}"))
    await client.request(request("no identifier"))
    for name in CALLS:
        errors = values(recorded, (name,), "error.type")
        assert len(errors) == 101
        assert OTHER in errors


async def test_queues_of_responses(in_memory: Traced, recorded: Recorded) -> None:
    """Each client has another one: its name is on spans alone."""
    await in_memory.serve(Stock())
    for _ in range(10):
        client = await in_memory.client()
        await client.request("stock", "count", {"number": 1})
    await recorded.count("publish nuropb-{service}-{instance}-rq", 10)
    text = str(recorded.metrics)
    assert "-rq" not in text
    queues = {
        attributes_of(each)["messaging.destination.name"]
        for each in recorded.spans
        if "-rq" in each.name
    }
    assert len(queues) == 10


async def test_transports_of_one_service_are_summed_up(
    in_memory: Traced, recorded: Recorded
) -> None:
    """However many there have been; counters do not fall when one is gone, and levels do."""
    await in_memory.serve(Stock())
    for number in range(1, 6):
        client = await in_memory.client()
        await client.request("stock", "count", {"number": 1}, encrypted=False)
        assert recorded.total("messaging.client.sent.messages", nuropb__service="client") == number
        await client.stop()
    states = recorded.metrics["nuropb.connection.state"]
    assert len(states) == 2 * 8, "two services, eight states"
    assert recorded.total("nuropb.connection.state", nuropb__state="stopped") == 5
    for each in in_memory.removers[1:]:
        each()
    assert recorded.total("nuropb.connection.state", nuropb__service="client") == 0
    assert recorded.total("messaging.client.sent.messages", nuropb__service="client") == 5


async def test_a_transport_that_is_gone(recorded: Recorded) -> None:
    """Instrumenting keeps none alive."""
    made = Traced("memory://gone", recorded)
    config = TransportConfig(amqp_url="memory://gone", service_name="gone", client_only=True)
    transport: Transport | None = Transport(config)
    assert transport is not None
    made.instrument(transport)
    assert recorded.total("nuropb.connection.state", nuropb__service="gone") == 1
    del transport
    gc.collect()
    assert recorded.total("nuropb.connection.state", nuropb__service="gone") == 0
    made.removers[0]()


async def test_a_mesh_whose_callbacks_refer_to_it(recorded: Recorded) -> None:
    """Its health socket is one, a program's may be others: it is collected with them."""
    made = Traced("memory://gone", recorded)
    mesh = Mesh(made.url, service_name="gone", health=True)
    mesh.on_state_change(lambda *_, mesh=mesh: mesh.stats())
    made.instrument(mesh)
    assert recorded.total("nuropb.connection.state", nuropb__service="gone") == 1
    gone = weakref.ref(mesh)
    del mesh
    gc.collect()
    assert gone() is None
    made.removers[0]()


def test_a_mesh_that_a_program_instruments_as_a_whole() -> None:
    """It keeps none alive either."""
    instrumentor = NuropbInstrumentor()
    instrumentor.instrument()
    try:
        mesh = Mesh("memory://gone", health=True)
        mesh.on_state_change(lambda *_, mesh=mesh: mesh.stats())
        gone = weakref.ref(mesh)
        del mesh
        gc.collect()
        assert gone() is None
    finally:
        instrumentor.uninstrument()
