"""Row 24: the requester is gone before its response."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import Message, NuropbException
from nuropb_rmq.testing import RabbitMQNode

from ..seams import publisher_of
from ..support import Transports, Watch, eventually, request, result_of
from .common import no_queues
from .console import depth
from .proxy import Proxy, Wire

COUNT = 10


class Gate:
    """A handler that answers what it has when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.open = asyncio.Event()

    async def __call__(self, message: Message) -> object:
        self.begun += 1
        await self.open.wait()
        return message.payload["params"]


async def test_row_24_the_service_is_unaffected(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """One has stopped, one has lost its connection: their queues are gone, and nobody minds."""
    gate = Gate()
    service = await mesh.service(gate)
    watch = Watch(service)
    stopping, cut, staying = (
        await mesh.client("stopping"),
        await mesh.client("cut", amqp_url=proxy.url),
        await mesh.client("staying"),
    )
    calls = [
        asyncio.create_task(client.request(request(n=n), timeout=60))
        for client in (stopping, cut)
        for n in range(COUNT)
    ]
    await eventually(lambda: gate.begun == 2 * COUNT)
    await stopping.stop()
    proxy.set(Wire.REFUSE)
    proxy.reset()
    await no_queues(rabbitmq_node, mesh.url, "nuropb-stopping-", "nuropb-cut-")
    caplog.clear()
    gate.open.set()
    answers = [await staying.request(request(n=n)) for n in range(COUNT)]
    assert [result_of(each)["n"] for each in answers] == list(range(COUNT))
    await publisher_of(service).flushed()
    assert await asyncio.to_thread(depth, rabbitmq_node, mesh.url, "nuropb-orders-sq") == 0
    assert await asyncio.to_thread(depth, rabbitmq_node, mesh.url, "nuropb-orders-dlq") == 0
    # The client that was cut keeps trying to connect, and says so at other places.
    assert [each for each in caplog.records if each.name == "nuropb_rmq.transport.answers"] == []
    assert watch.states == []
    assert staying.dropped == {}
    await cut.stop()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, NuropbException) for each in outcomes)
