"""mesh_broker and memory_broker(): the messages of a broker in memory, and waiting for them."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from nuropb_rmq import (
    Mesh,
    NuropbCallAgain,
    NuropbConfigurationError,
    NuropbContextManager,
    NuropbNotDeliveredError,
    NuropbRemoteError,
    NuropbTransportError,
    Transport,
    TransportConfig,
    configure,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)
from nuropb_rmq.memory.host import virtual_host
from nuropb_rmq.testing import MemoryBroker, MemoryMesh, memory_broker

SECRET = "hunter2"


class Orders:
    _service_name = "orders"

    def __init__(self) -> None:
        self._private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.calls = 0

    @nuropb_context
    async def place(self, ctx: NuropbContextManager, item: str) -> dict[str, Any]:
        ctx.add_event({"topic": "orders.placed", "event": {"item": item}})
        return {"item": item}

    async def cancel(self, order_id: str) -> None:
        raise LookupError(f"no order {order_id}")

    async def again(self) -> None:
        self.calls += 1
        if self.calls == 1:
            raise NuropbCallAgain("once more")

    @publish_to_mesh(requires_encryption=True)
    async def pay(self, card: str) -> str:
        return "paid"


class Audit:
    _service_name = "audit"

    @mesh_event("orders.*")
    async def note(self, topic: str, event: dict[str, Any]) -> None:
        raise ValueError("no room")


async def test_requests(memory_mesh: MemoryMesh, mesh_broker: MemoryBroker) -> None:
    await memory_mesh(Orders())
    client = await memory_mesh()
    context = {"user": "ann"}
    await client.request("orders", "place", {"item": "lamp"}, context=context, trace_id="t-1")
    (request,) = mesh_broker.requests("orders")
    assert (request.kind, request.service, request.method) == ("request", "orders", "place")
    assert (request.params, request.context) == ({"item": "lamp"}, context)
    assert (request.trace_id, request.topic, request.encrypted) == ("t-1", None, False)
    assert mesh_broker.requests() == mesh_broker.requests("orders", "place") == [request]
    assert mesh_broker.requests("orders", "get") == mesh_broker.requests("stock") == []
    assert mesh_broker.commands() == mesh_broker.dead_letters() == []
    assert len(mesh_broker.requests("orders", "nuropb_describe")) == 1
    (event,) = mesh_broker.events()
    assert (event.topic, event.event) == ("orders.placed", {"item": "lamp"})
    assert event.trace_id == "t-1"
    response = mesh_broker.messages[-1]
    assert (response.kind, response.result, response.error) == ("response", {"item": "lamp"}, None)
    assert response.correlation_id == request.correlation_id
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "cancel", {"order_id": "A-1"})
    error = mesh_broker.messages[-1].error
    assert error is not None
    assert error["error"] == "LookupError"
    mesh_broker.clear()
    assert mesh_broker.messages == []


async def test_events_by_pattern(memory_mesh: MemoryMesh, mesh_broker: MemoryBroker) -> None:
    """They need no listener."""
    client = await memory_mesh()
    for topic in ("orders.placed", "orders.placed.late", "stock.low"):
        await client.publish_event(topic, [topic], context={"user": "ann"})
    assert [each.event for each in mesh_broker.events("orders.*")] == [["orders.placed"]]
    assert [each.topic for each in mesh_broker.events("orders.#")] == [
        "orders.placed",
        "orders.placed.late",
    ]
    assert len(mesh_broker.events()) == 3
    assert mesh_broker.events("*.low")[0].context == {"user": "ann"}


async def test_what_the_broker_has_refused_is_not_there(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    client = await memory_mesh()
    with pytest.raises(NuropbNotDeliveredError):
        await client.command("nobody", "do", encrypted=False)
    assert mesh_broker.messages == []


async def test_a_call_again_counts_once(memory_mesh: MemoryMesh, mesh_broker: MemoryBroker) -> None:
    orders = Orders()
    mesh = await memory_mesh(orders)
    await mesh.request("orders", "again")
    assert orders.calls == 2
    assert len(mesh_broker.requests("orders")) == 1


async def test_dead_letters(memory_mesh: MemoryMesh, mesh_broker: MemoryBroker) -> None:
    """Every service's dead-letter queue gets all of them; they are told apart here."""
    await memory_mesh(Orders())
    await memory_mesh(Audit())
    client = await memory_mesh()
    await client.command("orders", "cancel", {"order_id": "A-1"}, trace_id="t-1")
    letter = await mesh_broker.dead_letter("orders")
    assert (letter.kind, letter.method, letter.params) == ("command", "cancel", {"order_id": "A-1"})
    assert (letter.queue, letter.reason, letter.trace_id) == (
        "nuropb-orders-sq",
        "rejected",
        "t-1",
    )
    assert str(letter) == "dead letter: command orders.cancel"
    await client.publish_event("orders.placed", {"item": "lamp"})
    letter = await mesh_broker.dead_letter("audit")
    assert (letter.topic, letter.event) == ("orders.placed", {"item": "lamp"})
    assert mesh_broker.dead_letters("audit") == mesh_broker.dead_letters("nuropb-audit-sq")
    assert len(mesh_broker.dead_letters("orders")) == len(mesh_broker.dead_letters("audit")) == 1
    assert len(mesh_broker.dead_letters()) == 2
    assert len(mesh_broker.commands()) == len(mesh_broker.events()) == 1


async def test_what_expires_in_the_queue(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    """The queue of a service that is stopped is still there, for the broker is held."""
    service = await memory_mesh(Orders())
    await service.stop()
    client = await memory_mesh()
    await client.command("orders", "place", {"item": "lamp"}, ttl=0.05, encrypted=False)
    assert (await mesh_broker.dead_letter("orders")).reason == "expired"


async def test_encrypted_messages_show_their_envelope(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    await memory_mesh(Orders())
    client = await memory_mesh()
    call = {"card": SECRET}
    assert await client.request("orders", "pay", call, trace_id="t-1") == "paid"
    (request,) = mesh_broker.requests("orders")
    assert (request.service, request.encrypted, request.trace_id) == ("orders", True, "t-1")
    assert (request.method, request.payload, request.params) == (None, {}, {})
    assert str(request) == "request orders.(encrypted)"
    response = mesh_broker.messages[-1]
    assert (response.kind, response.encrypted, response.result) == ("response", True, None)


async def test_no_payload_in_a_repr_or_an_error(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    client = await memory_mesh()
    await client.publish_event("orders.paid", {"card": SECRET}, context={"token": SECRET})
    assert SECRET not in repr(mesh_broker.messages)
    assert "orders.paid" in repr(mesh_broker.messages)
    with pytest.raises(AssertionError) as caught:
        await mesh_broker.command("orders", timeout=0.01)
    assert SECRET not in str(caught.value)


# -- waiting --------------------------------------------------------------------------------


async def test_waiting_returns_each_message_once(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    client = await memory_mesh()
    await client.publish_event("orders.placed", 1)
    await client.publish_event("orders.packed", 2)
    assert (await mesh_broker.event("orders.packed")).event == 2
    assert (await mesh_broker.event("orders.*")).event == 1
    waiting = asyncio.create_task(mesh_broker.event("orders.*"))
    await asyncio.sleep(0)
    assert not waiting.done()
    await client.publish_event("orders.sent", 3)
    assert (await waiting).event == 3
    assert len(mesh_broker.events("orders.*")) == 3


async def test_several_wait_at_once(memory_mesh: MemoryMesh, mesh_broker: MemoryBroker) -> None:
    client = await memory_mesh()
    waiting = [asyncio.create_task(mesh_broker.event("a", timeout=5)) for _ in range(3)]
    for n in range(3):
        await client.publish_event("a", n)
    assert sorted(each.event for each in await asyncio.gather(*waiting)) == [0, 1, 2]


async def test_waiting_for_a_call(memory_mesh: MemoryMesh, mesh_broker: MemoryBroker) -> None:
    await memory_mesh(Orders())
    client = await memory_mesh()
    request = asyncio.create_task(client.request("orders", "place", {"item": "lamp"}))
    assert (await mesh_broker.request("orders", "place")).params == {"item": "lamp"}
    await request
    await client.command("orders", "cancel", {"order_id": "A-1"})
    assert (await mesh_broker.command("orders")).method == "cancel"


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        ("event", ("stock.*",), "an event 'stock.*' within 0.01 s"),
        ("command", (), "a command to any service within 0.01 s"),
        ("command", ("orders", "pack"), "a command to orders.pack within 0.01 s"),
        ("request", ("stock",), "a request to stock within 0.01 s"),
        ("dead_letter", ("orders",), "a dead letter of orders within 0.01 s"),
        ("dead_letter", (), "a dead letter of any service within 0.01 s"),
    ],
)
async def test_waiting_in_vain_says_what_came(
    memory_mesh: MemoryMesh,
    mesh_broker: MemoryBroker,
    kind: str,
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    wait = getattr(mesh_broker, kind)
    with pytest.raises(AssertionError) as caught:
        await wait(*arguments, timeout=0.01)
    assert str(caught.value) == f"expected {expected}; all that came: nothing"
    client = await memory_mesh()
    await client.publish_event("orders.placed", 1)
    await client.publish_event("orders.placed", 2)
    with pytest.raises(AssertionError) as caught:
        await wait(*arguments, timeout=0.01)
    came = "event orders.placed (2 times)"
    assert str(caught.value) == f"expected {expected}; all that came: {came}"


async def test_waiting_in_vain_for_a_second_one(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    client = await memory_mesh()
    await client.publish_event("orders.placed", 1)
    await mesh_broker.event("orders.*")
    with pytest.raises(AssertionError, match=r"\(1 came, and had been returned before\)"):
        await mesh_broker.event("orders.*", timeout=0.01)


# -- without pytest's fixtures --------------------------------------------------------------


async def try_orders(url: str) -> None:
    async with Mesh(url, service=Orders()) as mesh:
        await mesh.request("orders", "place", {"item": "lamp"})


def test_as_a_context_in_one_event_loop_after_the_other() -> None:
    """A held broker keeps its queues while nobody is connected."""
    with memory_broker() as broker, memory_broker() as other:
        assert broker.url != other.url
        asyncio.run(try_orders(broker.url))

        async def send() -> None:
            async with Mesh(broker.url) as client:
                await client.command("orders", "cancel", {"order_id": "A-1"}, encrypted=False)

        async def serve() -> None:
            async with Mesh(broker.url, service=Orders()):
                await broker.dead_letter("orders")

        asyncio.run(send())
        asyncio.run(serve())
        assert len(broker.requests()) == len(broker.commands()) == 1
        assert other.messages == []


async def test_a_name_and_two_that_hold_it() -> None:
    with memory_broker("shop") as one, memory_broker("shop") as two:
        assert one.url == "memory://shop"
        await try_orders("memory://shop")
        assert len(one.requests()) == len(two.requests()) == 1
    with memory_broker("shop") as broker:
        assert broker.messages == []
        async with Mesh(broker.url) as client:
            with pytest.raises(NuropbNotDeliveredError):  # its queues are gone
                await client.command("orders", "cancel", encrypted=False)


@pytest.mark.parametrize("name", ["", "a b", "a/b"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(NuropbConfigurationError, match="expected memory://NAME"):  # noqa: SIM117
        with memory_broker(name):
            pass


async def test_the_same_broker_in_another_loop_at_the_same_time() -> None:
    with memory_broker() as broker:
        async with Mesh(broker.url):
            with pytest.raises(NuropbTransportError, match="in use in another event loop"):
                await asyncio.to_thread(asyncio.run, try_orders(broker.url))


async def test_waiting_in_one_thread_for_what_is_sent_in_another() -> None:
    with memory_broker() as broker:
        thread = threading.Thread(target=asyncio.run, args=(try_orders(broker.url),))
        thread.start()
        assert (await broker.event("orders.*", timeout=10)).event == {"item": "lamp"}
        await asyncio.to_thread(thread.join)


def test_a_loop_that_was_closed_under_its_meshes() -> None:
    """They are gone with it; the broker is there for the next loop, and goes on recording."""

    class Forgotten:
        def forsake(self) -> None:
            pass

    async def connect() -> None:
        virtual_host(broker.name).join(Forgotten())

    with memory_broker() as broker:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(connect())
        loop.close()
        asyncio.run(try_orders(broker.url))
        assert len(broker.requests()) == 1


# -- what it says of itself -----------------------------------------------------------------


async def test_a_service_says_at_start_that_nothing_survives(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    await memory_mesh()
    assert caplog.records == []
    mesh = await memory_mesh(Orders())
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("nuropb_rmq.broker", logging.WARNING)
    assert record.getMessage() == (
        f"service orders is on {mesh_broker.url}, a broker inside this process: only this "
        "process can call it, and its queues and messages end with it"
    )
    caplog.clear()
    await mesh.stop()
    await mesh.start()
    assert len(caplog.records) == 1


async def test_options_and_other_services(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    mesh = await memory_mesh(Orders(), service_name="bestellungen", request_timeout=3)
    assert mesh.service_name == "bestellungen"
    config = TransportConfig(amqp_url=mesh_broker.url, service_name="bare", service_queue="mine")

    async def handle(message: Any) -> None:
        raise ValueError("no")

    await configure(config)
    transport = Transport(config, handle)
    await transport.start()
    await mesh.command("bare", "do", encrypted=False)
    letter = await mesh_broker.dead_letter("bare")
    assert letter.queue == "mine"
    assert mesh_broker.dead_letters("mine") == [letter]
    await transport.stop()
    with pytest.raises(NuropbConfigurationError, match="service_name"):
        await memory_mesh(object())
