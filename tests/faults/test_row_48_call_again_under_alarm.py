"""Row 48: messages call again while nothing can be published."""

from __future__ import annotations

import asyncio

from nuropb_rmq import Message, NuropbCallAgain, State, Transport
from nuropb_rmq.testing import RabbitMQNode

from ..seams import publisher_of
from ..support import Transports, command, eventually
from .console import alarm, until_depths

COMMANDS = 5
DL_QUEUE, SERVICE_QUEUE = "nuropb-orders-dlq", "nuropb-orders-sq"


class Again:
    """A handler that asks once for another call, from `go` on."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.done = 0
        self.go = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.counts.append(message.call_again_count)
        await self.go.wait()
        if not message.call_again_count:
            raise NuropbCallAgain
        self.done += 1


async def until_blocked(service: Transport, handler: Again) -> None:
    """Let the messages call again, the first of which is written: only then we hear of the alarm.

    Whether others were written too depends on when that is.
    """
    handler.go.set()
    await service.wait_for(State.BLOCKED, timeout=5)
    publisher = publisher_of(service)
    await eventually(lambda: publisher.waiting + publisher.unconfirmed == COMMANDS)


async def in_hand(mesh: Transports, handler: Again, *, ttl: float | None = None) -> None:
    """Send commands, and wait until a service has all of them in hand."""
    client = await mesh.client()
    for n in range(COMMANDS):
        await client.send(command(n=n), ttl=ttl)
    await eventually(lambda: len(handler.counts) == COMMANDS)


async def test_row_48_they_wait_past_the_bound_and_no_handler_runs_meanwhile(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """Also for longer than a send would wait (publish_timeout)."""
    again = Again()
    service = await mesh.service(again, outbox_messages=1, publish_timeout=0.1)
    await in_hand(mesh, again)
    async with alarm(rabbitmq_node):
        await until_blocked(service, again)
        await until_depths(rabbitmq_node, mesh.url, {SERVICE_QUEUE: COMMANDS, DL_QUEUE: 0})
        assert again.counts == [0] * COMMANDS
    await eventually(lambda: again.done == COMMANDS)
    assert again.counts == [0] * COMMANDS + [1] * COMMANDS
    await until_depths(rabbitmq_node, mesh.url, {SERVICE_QUEUE: 0, DL_QUEUE: 0})


async def test_row_48_what_expires_meanwhile_is_a_dead_letter(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    again = Again()
    service = await mesh.service(again)
    await in_hand(mesh, again, ttl=1.5)
    async with alarm(rabbitmq_node):
        await until_blocked(service, again)
        await until_depths(rabbitmq_node, mesh.url, {SERVICE_QUEUE: 0, DL_QUEUE: COMMANDS})
        assert again.counts == [0] * COMMANDS
