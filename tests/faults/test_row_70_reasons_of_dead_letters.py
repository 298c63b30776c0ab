"""Row 70: a message fails while the broker takes no dead letter with its reason."""

from __future__ import annotations

import asyncio

from nuropb_rmq import Message, Observer, Settlement, State, Transport
from nuropb_rmq.testing import RabbitMQNode

from ..support import Transports, command, eventually
from .console import alarm, depth

COUNT = 20
DLQ = "nuropb-orders-dlq"


class Failing:
    """A handler that fails, once it may."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.begun += 1
        await self.go.wait()
        raise LookupError("no such order")


class Settled(Observer):
    """Notes the settlements."""

    def __init__(self, transport: Transport) -> None:
        self.all: list[Settlement] = []
        transport.observe(self)

    def settled(self, message: Message, settlement: Settlement) -> None:
        """Note it."""
        self.all.append(settlement)


async def test_row_70_under_an_alarm_they_are_rejected(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """The broker tells of its alarm when something is published: the first waits for that."""
    failing = Failing()
    service = await mesh.service(failing, prefetch_count=COUNT)
    settled, client = Settled(service), await mesh.client()
    for n in range(COUNT):
        await client.send(command(n=n))
    await eventually(lambda: failing.begun == COUNT)
    async with alarm(rabbitmq_node):
        failing.go.set()
        await eventually(lambda: len(settled.all) == COUNT, within=15)
        assert service.state is State.BLOCKED
    assert set(settled.all) <= {Settlement.REJECT, Settlement.DEAD_LETTER}
    assert Settlement.REJECT in settled.all
    # Those that were written before the alarm was told of may come twice.
    await eventually(lambda: depth(rabbitmq_node, mesh.url, DLQ) >= COUNT, within=15)


async def test_row_70_stop_loses_none(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    failing = Failing()
    service, client = await mesh.service(failing), await mesh.client()
    for n in range(COUNT):
        await client.send(command(n=n))
    await eventually(lambda: failing.begun == COUNT)
    failing.go.set()
    await service.stop(grace=0)

    def kept() -> int:
        letters = depth(rabbitmq_node, mesh.url, DLQ)
        return letters + depth(rabbitmq_node, mesh.url, "nuropb-orders-sq")

    # One whose letter was not confirmed in time is there twice.
    await eventually(lambda: COUNT <= kept() <= 2 * COUNT, within=15)
