"""Row 47: a service on quorum queues is restarted again and again with work in hand."""

from __future__ import annotations

import asyncio

from nuropb_rmq import Message
from nuropb_rmq.testing import RabbitMQNode

from ..support import Transports, Watch, command, eventually
from .common import QUORUM, counts_returns
from .console import until_depths
from .test_row_05_channel_closed import ports_of, spoil

DL_QUEUE, SERVICE_QUEUE = "nuropb-orders-dlq", "nuropb-orders-sq"
LIMIT, RESTARTS, COMMANDS = 2, 4, 6


class Endless:
    """A handler that ends when it is cancelled, and notes how often each message was counted."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    async def __call__(self, message: Message) -> None:
        self.counts.append(message.headers.get("x-delivery-count", 0))
        await asyncio.Event().wait()


async def test_row_47_what_stop_gives_back_is_not_counted(
    quorum: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """In hand, waiting for room, not begun yet: none of it is a dead letter after any restarts."""
    counted = counts_returns(rabbitmq_node)
    settings = {**QUORUM, "prefetch_count": COMMANDS - 2}
    settings |= {} if counted else {"delivery_limit": LIMIT}
    client = await quorum.client()
    for restart in range(RESTARTS):
        handler = Endless()
        service = await quorum.service(handler, **settings)
        if not restart:
            for n in range(COMMANDS):
                await client.send(command(n=n))
        await eventually(lambda: len(handler.counts) == COMMANDS - 2)  # noqa: B023
        await service.stop(grace=0.05 * (restart % 2))
        assert counted or set(handler.counts) == {0}
    await until_depths(rabbitmq_node, quorum.url, {SERVICE_QUEUE: COMMANDS, DL_QUEUE: 0})


async def test_row_47_nor_what_a_session_gives_back_that_is_followed_by_another(
    quorum: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """The channel of responses ends, and that of the service queue is closed with it."""
    counted = counts_returns(rabbitmq_node)
    settings = {**QUORUM, **({} if counted else {"delivery_limit": LIMIT})}
    before, after = Endless(), Endless()
    service = await quorum.service(before, **settings)
    client = await quorum.client()
    await client.send(command())
    await eventually(lambda: before.counts)
    watch = Watch(service)
    for _ in range(LIMIT + 1):
        spoil(ports_of(service)[-2])
        await watch.recovered()
    await service.stop(grace=0)
    await quorum.service(after, **settings)
    await eventually(lambda: after.counts)
    assert counted or after.counts == [0]
