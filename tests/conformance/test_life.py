"""Starting and stopping, instances, and what is taken away while they run."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from nuropb_rmq import (
    InstanceInUseError,
    Mesh,
    NuropbException,
    NuropbNotDeliveredError,
    ServiceNotConfigured,
    State,
    TransportClosedError,
    TransportConfig,
    configure,
)

from ..mesh.support import Meshes
from ..support import Watch, eventually
from .brokers import Broker, Place, becomes
from .raw import Raw, RawChannel

QUEUE = "nuropb-orders-sq"
DLQ = "nuropb-orders-dlq"


class Orders:
    _service_name = "orders"

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.done: list[Any] = []
        self.released = asyncio.Event()

    async def echo(self, value: Any = None) -> Any:
        return value

    async def work(self, value: Any = None) -> Any:
        self.begun.append(value)
        await self.released.wait()
        self.done.append(value)
        return value

    async def _handle_event_(self, topic: str, event: Any, *_: Any) -> None:
        self.done.append(event)


async def test_it_makes_what_it_needs(place: Place) -> None:
    """On a broker where nothing has been declared."""
    async with Mesh(place.url, service=Orders()), Mesh(place.url) as mesh:
        assert await mesh.request("orders", "echo", {"value": 1}) == 1
        assert await place.exists(QUEUE)
        assert await place.exists(DLQ)
    assert await place.exists(QUEUE)


async def test_its_response_queue_goes_with_it(meshes: Meshes, place: Place) -> None:
    mesh = await meshes.client(instance_id="one")
    assert await place.exists("nuropb-client-one-rq")
    await mesh.stop()
    await becomes(lambda: place.exists("nuropb-client-one-rq"), False)


async def test_nothing_is_made_by_one_that_may_not(meshes: Meshes, place: Place) -> None:
    for service in (Orders(), None):
        mesh = meshes.mesh(service, configure=False)
        with pytest.raises(ServiceNotConfigured, match=r"run configure\(\)") as raised:
            await mesh.start()
        assert f"no exchange 'nuropb-rpc-exchange' in vhost '{place.name}'" in str(raised.value)
        assert mesh.state is State.STOPPED
    await configure(TransportConfig(amqp_url=place.url, service_name="orders"))
    await meshes.serve(Orders(), configure=False)
    client = await meshes.client(configure=False)
    assert await client.request("orders", "echo", {"value": 1}) == 1


async def test_configure_twice(place: Place) -> None:
    config = TransportConfig(amqp_url=place.url, service_name="orders")
    await configure(config)
    await configure(config)
    assert await place.depth(DLQ) == 0


async def test_an_exchange_of_another_kind(meshes: Meshes, channel: RawChannel) -> None:
    await channel.exchange("nuropb-events-exchange", "direct")
    with pytest.raises(ServiceNotConfigured, match="received 'topic' but current is 'direct'"):
        await meshes.mesh(Orders()).start()


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {"max_priority": 5}, "'x-max-priority'.*current is none"),
        ({"single_active_consumer": True}, {}, "'x-single-active-consumer'.*received none"),
        ({}, {"queue_type": "quorum"}, "'x-queue-type'.*current is 'classic'"),
        ({}, {"dl_exchange": "other"}, "'x-dead-letter-exchange'.*received 'other'"),
    ],
    ids=["max_priority", "single_active_consumer", "queue_type", "dl_exchange"],
)
async def test_instances_that_do_not_agree(
    meshes: Meshes, first: dict[str, Any], second: dict[str, Any], words: str
) -> None:
    await meshes.serve(Orders(), amqp_url=meshes.config("orders", **first))
    other = meshes.mesh(Orders(), amqp_url=meshes.config("orders", **second))
    with pytest.raises(ServiceNotConfigured, match=f"{words}.*must declare it alike"):
        await other.start()


async def test_a_quorum_queue_is_used_as_it_is(meshes: Meshes, place: Place) -> None:
    orders = Orders()
    first = await meshes.serve(orders, amqp_url=meshes.config("orders", queue_type="quorum"))
    await first.stop()
    await meshes.serve(orders)
    client = await meshes.client()
    assert await client.request("orders", "echo", {"value": 1}) == 1
    await becomes(lambda: place.consumers(QUEUE), 1)


@pytest.mark.parametrize("serves", [True, False], ids=["service", "client"])
async def test_an_instance_is_there_once(meshes: Meshes, serves: bool) -> None:
    first = await meshes.serve(Orders() if serves else None, instance_id="one")
    watch = Watch(first.transport)
    config = meshes.config("orders" if serves else "client", instance_retry=0.2)
    second = meshes.mesh(Orders() if serves else None, amqp_url=config, instance_id="one")
    with pytest.raises(InstanceInUseError, match="same instance_id"):
        await second.start()
    assert watch.states == []
    await first.stop()
    await second.start()
    assert second.state is State.READY


async def test_a_predecessor_that_goes_in_time_is_waited_for(meshes: Meshes) -> None:
    first = await meshes.serve(Orders(), instance_id="one")
    second = meshes.mesh(Orders(), instance_id="one")
    starting = asyncio.create_task(second.start())
    await asyncio.sleep(0.3)
    assert not starting.done()
    await first.stop()
    await starting
    assert second.state is State.READY


async def test_start_and_stop_again(meshes: Meshes) -> None:
    service, client = await meshes.serve(Orders()), await meshes.client()
    for _ in range(3):
        assert await client.request("orders", "echo", {"value": 1}) == 1
        await service.stop()
        await client.stop()
        with pytest.raises(TransportClosedError):
            await client.request("orders", "echo")
        await service.start()
        await client.start()
    assert await client.request("orders", "echo", {"value": 2}) == 2


# -- stop with work in hand -------------------------------------------------------------------


async def test_what_is_begun_is_finished(meshes: Meshes) -> None:
    orders = Orders()
    service, client = await meshes.serve(orders), await meshes.client()
    calls = [
        asyncio.create_task(client.request("orders", "work", {"value": n}, encrypted=False))
        for n in range(3)
    ]
    await eventually(lambda: len(orders.begun) == 3)
    stopping = asyncio.create_task(service.stop(grace=5))
    await eventually(lambda: service.state is State.DRAINING)
    orders.released.set()
    assert await asyncio.gather(*calls) == [0, 1, 2]
    await stopping
    assert service.state is State.STOPPED


class Deaf:
    """A service whose method ignores its cancellation."""

    _service_name = "deaf"

    def __init__(self) -> None:
        self.cancelled = 0
        self.released = asyncio.Event()

    async def work(self) -> None:
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancelled += 1


async def test_a_stop_that_was_cancelled_is_made_once_more(meshes: Meshes) -> None:
    deaf = Deaf()
    service = await meshes.serve(deaf, amqp_url=meshes.config("deaf", watchdog=60))
    other = await meshes.client(amqp_url=meshes.config("other", watchdog=60))
    await other.command("deaf", "work", encrypted=False)
    await eventually(lambda: service.stats().handlers_active == 1)
    stopping = asyncio.create_task(service.stop(grace=0))
    await eventually(lambda: deaf.cancelled)
    (task,) = (each for each in asyncio.all_tasks() if each.get_name() == "nuropb-stop")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await stopping
    assert not service.state.over
    deaf.released.set()
    await service.stop()
    assert service.state is State.STOPPED
    await other.stop()
    assert other.state is State.STOPPED


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_what_is_not_finished_in_time_goes_back(
    meshes: Meshes, place: Place, kind: str
) -> None:
    first, second = Orders(), Orders()
    config = meshes.config("orders", queue_type=kind)
    service = await meshes.serve(first, amqp_url=config, prefetch_count=2)
    client = await meshes.client()
    for number in range(5):
        await client.command("orders", "work", {"value": number}, encrypted=False)
    await eventually(lambda: len(first.begun) == 2)
    await service.stop(grace=0.1)
    assert first.done == []
    await becomes(lambda: place.depth(QUEUE), 5)
    second.released.set()
    await meshes.serve(second, amqp_url=config, prefetch_count=1)
    await eventually(lambda: len(second.done) == 5)
    # RabbitMQ 3.10 puts what a quorum queue gets back behind the rest.
    assert (sorted(second.done) if kind == "quorum" else second.done) == [0, 1, 2, 3, 4]


async def test_what_is_not_begun_goes_back_at_once(meshes: Meshes) -> None:
    first, second = Orders(), Orders()
    second.released.set()
    service = await meshes.serve(first, prefetch_count=2)
    client = await meshes.client()
    for number in range(6):
        await client.command("orders", "work", {"value": number}, encrypted=False)
    await eventually(lambda: len(first.begun) == 2)
    stopping = asyncio.create_task(service.stop(grace=10))
    await eventually(lambda: service.state is State.DRAINING)
    await meshes.serve(second)
    await eventually(lambda: sorted(second.done) == [2, 3, 4, 5])
    first.released.set()
    await stopping
    assert first.done == [0, 1]


async def test_stop_consuming(meshes: Meshes, place: Place) -> None:
    orders = Orders()
    service, client = await meshes.serve(orders), await meshes.client()
    call = asyncio.create_task(client.request("orders", "work", encrypted=False))
    await eventually(lambda: orders.begun)
    await service.transport.stop_consuming()
    await client.command("orders", "work", {"value": 2}, encrypted=False)
    assert await place.depth(QUEUE) == 1
    assert service.state is State.READY
    orders.released.set()
    assert await call is None
    assert orders.begun == [None]
    await service.stop()
    await service.start()
    await eventually(lambda: orders.done == [None, 2])


# -- taken away -------------------------------------------------------------------------------


async def test_the_service_queue_is_deleted(meshes: Meshes, place: Place) -> None:
    service = await meshes.serve(Orders(), event_bindings=["a.*"])
    client = await meshes.client()
    watch = Watch(service.transport)
    await place.delete_queue(QUEUE)
    await watch.recovered()
    assert await client.request("orders", "echo", {"value": 1}) == 1
    assert await place.consumers(QUEUE) == 1


async def test_the_rpc_exchange_is_deleted(meshes: Meshes, place: Place) -> None:
    """The first call is lost with its channel, the next ones find it made again."""
    config = {"exchange_check": 0.3, "reconnect_cap": 0.3}
    await meshes.serve(Orders(), amqp_url=meshes.config("orders", **config))
    client = await meshes.client(amqp_url=meshes.config("client", **config))
    await place.delete_exchange("nuropb-rpc-exchange")
    with pytest.raises(NuropbException):
        await client.request("orders", "echo", encrypted=False, timeout=2)

    async def works() -> bool:
        try:
            return bool(
                await client.request("orders", "echo", {"value": 1}, encrypted=False, timeout=2)
            )
        except NuropbException:
            return False

    await becomes(works, True)


async def test_a_name_that_is_gone_is_not_delivered_to(meshes: Meshes, place: Place) -> None:
    service, client = await meshes.serve(Orders()), await meshes.client()
    assert await client.request("orders", "echo", {"value": 1}) == 1
    await service.stop()
    await place.delete_queue(QUEUE)
    with pytest.raises(NuropbNotDeliveredError):
        await client.request("orders", "echo")


# -- several ----------------------------------------------------------------------------------


async def test_places_are_apart(broker: Broker, place: Place) -> None:
    with broker.place() as other:
        async with (
            Mesh(place.url, service=Orders(), event_bindings=["#"]),
            Mesh(place.url) as here,
            Mesh(other.url) as there,
        ):
            assert await here.request("orders", "echo", {"value": 1}) == 1
            with pytest.raises(NuropbNotDeliveredError):
                await there.request("orders", "echo")
            await there.publish_event("t", 1)
            assert await place.depth(DLQ) == 0


async def test_one_instance_gets_all_and_another_takes_over(meshes: Meshes, place: Place) -> None:
    config = meshes.config("orders", single_active_consumer=True)
    services = [Orders(), Orders()]
    started = [await meshes.serve(each, amqp_url=config) for each in services]
    for each in services:
        each.released.set()
    await becomes(lambda: place.consumers(QUEUE), 2)
    client = await meshes.client()
    for number in range(4):
        await client.request("orders", "work", {"value": number})
    assert [each.done for each in services] == [[0, 1, 2, 3], []]
    await started[0].stop()
    for number in range(4, 6):
        await client.request("orders", "work", {"value": number})
    assert services[1].done == [4, 5]


async def test_priorities_of_calls(meshes: Meshes) -> None:
    config = meshes.config("orders", max_priority=5)
    first = await meshes.serve(Orders(), amqp_url=config)
    await first.stop()
    client = await meshes.client()
    for number, priority in enumerate([None, 1, 5, 3, 200]):
        await client.command(
            "orders", "work", {"value": number}, priority=priority, encrypted=False
        )
    orders = Orders()
    orders.released.set()
    await meshes.serve(orders, amqp_url=config, prefetch_count=1)
    await eventually(lambda: len(orders.done) == 5)
    assert orders.done == [2, 4, 3, 1, 0]


async def test_what_expires_in_the_queue_is_a_dead_letter(meshes: Meshes, place: Place) -> None:
    first = await meshes.serve(Orders())
    await first.stop()
    client = await meshes.client()
    await client.command("orders", "work", {"value": 1}, ttl=0.1, encrypted=False)
    await client.command("orders", "work", {"value": 2}, encrypted=False)
    await becomes(lambda: place.depth(DLQ), 1)
    orders = Orders()
    orders.released.set()
    await meshes.serve(orders)
    await eventually(lambda: orders.done == [2])


async def test_a_message_that_is_delivered_again(
    meshes: Meshes, connection: Raw, place: Place
) -> None:
    """Another consumer had it and went: it comes marked, and before those behind it."""
    first = await meshes.serve(Orders())
    await first.stop()
    client = await meshes.client()
    for number in range(3):
        await client.command("orders", "work", {"value": number}, encrypted=False)
    consumer = await connection.channel()
    await consumer.consume(QUEUE, prefetch=2)
    await consumer.taken(2)
    await consumer.close()
    orders = Orders()
    orders.released.set()
    await meshes.serve(orders, prefetch_count=1)
    await eventually(lambda: len(orders.done) == 3)
    assert orders.done == [0, 1, 2]
