"""The quorum profile, and single active consumers: what classic queues do, and what only these can.

One node is enough for all of it; what a node's death does to them is row 41.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import Message, NuropbCallAgain, NuropbHandlingError, ServiceNotConfigured
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, Watch, command, event, eventually, request, result_of
from .common import QUORUM, joined, within
from .console import queues, until_depths
from .processes import ServiceProcess
from .test_row_05_channel_closed import ports_of, spoil

DL_QUEUE, SERVICE_QUEUE = "nuropb-orders-dlq", "nuropb-orders-sq"
TAKEN_OVER = 5.0


async def test_everything_works_on_quorum_queues(
    quorum: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """Calls, commands and events, call-again, rejection; acks of many messages at once."""
    recorder = Recorder()

    async def handle(message: Message) -> Any:
        if message.payload.get("method") == "fail":
            raise NuropbHandlingError("no")
        if message.payload.get("method") == "again" and not message.call_again_count:
            raise NuropbCallAgain
        return await recorder(message)

    await quorum.service(handle, event_bindings=["orders.#"], dead_letter_requests=True, **QUORUM)
    client = await quorum.client()
    types = await asyncio.to_thread(queues, rabbitmq_node, quorum.url, "type")
    assert {name for name, (kind,) in types.items() if "quorum" in kind} == {
        SERVICE_QUEUE,
        DL_QUEUE,
    }
    calls = await asyncio.gather(*(client.request(request(n=n)) for n in range(200)))
    assert [result_of(each)["n"] for each in calls] == list(range(200))
    await asyncio.gather(*(client.send(command(n=n)) for n in range(200)))
    await client.send(event("orders.made", {"id": 1}))
    assert result_of(await client.request(request("again", n=1))) == {"n": 1}
    failed = await client.request(request("fail"))
    assert failed["error"] is not None
    await client.send(command("fail"))
    await until_depths(rabbitmq_node, quorum.url, {SERVICE_QUEUE: 0, DL_QUEUE: 2})
    assert len(recorder.seen) == 402


async def test_a_message_that_ends_its_consumer_is_dead_lettered(
    quorum: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """delivery_limit=2: it is delivered three times, then it is a dead letter; others are not."""
    begun = asyncio.Event()
    release = asyncio.Event()

    async def poisoned(message: Message) -> None:
        if message.payload.get("method") == "poison":
            begun.set()
            await release.wait()

    service = await quorum.service(poisoned, delivery_limit=2, **QUORUM)
    client = await quorum.client()
    watch = Watch(service)
    await client.send(command("poison"))
    await begun.wait()
    for delivered in (1, 2, 3):
        spoil(ports_of(service)[-1])
        await watch.recovered()
        if delivered < 3:
            await joined(service)
    await client.send(command("note"))
    await until_depths(rabbitmq_node, quorum.url, {SERVICE_QUEUE: 0, DL_QUEUE: 1})
    release.set()


async def test_a_classic_queue_that_is_there_already_is_named(mesh: Transports) -> None:
    """An old peer's, say: the error says which settings make the difference."""
    await mesh.service(Recorder(), instance_id="one")
    for settings in (QUORUM, {"single_active_consumer": True}):
        other = mesh.transport("orders", Recorder(), instance_id="two", **settings)
        with pytest.raises(ServiceNotConfigured, match=SERVICE_QUEUE) as caught:
            await other.start()
        assert "the same queue_type, delivery_limit, single_active_consumer" in str(caught.value)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_single_active_consumer_is_followed_by_another(
    mesh: Transports, queue_type: str
) -> None:
    """Killed with -9 it is succeeded within 5 s; nothing is lost, and the order is kept."""
    settings: dict[str, Any] = {"queue_type": queue_type}
    settings |= {"single_active_consumer": True, "prefetch_count": 1}
    recorder = Recorder()
    async with ServiceProcess(mesh.url, **settings) as active:
        await mesh.service(recorder, **settings)
        client = await mesh.client()
        for n in range(5):
            await client.send(command(n=n))
        await active.began(1)
        # Whoever is idle has its turn long before the answers to this many calls to itself.
        await mesh.service(Recorder(), "other")
        for _ in range(50):
            await client.request(request(service="other"))
        assert recorder.seen == []
        await active.kill()
        with within(TAKEN_OVER):
            await eventually(lambda: len(recorder.seen) == 5)
    assert [each.payload["params"]["n"] for each in recorder.seen] == list(range(5))
