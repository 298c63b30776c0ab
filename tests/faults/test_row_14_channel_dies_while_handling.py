"""Row 14: the channel, or the connection, dies while a handler runs."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import Message, State
from nuropb_rmq.testing import RabbitMQNode

from ..support import Transports, Watch, command, eventually, request, result_of
from .common import joined
from .console import connections, until_depths
from .proxy import Proxy
from .test_row_05_channel_closed import ports_of, spoil


class Slow:
    """A handler that ends when it is let to, and notes whether its message was redelivered."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.finished: list[bool] = []

    async def __call__(self, message: Message) -> str:
        self.begun.set()
        await self.release.wait()
        self.finished.append(message.redelivered)
        return "done"


@pytest.mark.parametrize("what", ["channel", "connection"])
async def test_row_14_the_handler_finishes_and_the_reply_is_sent(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy, what: str
) -> None:
    """The message that is delivered again meanwhile is settled by it (row 50)."""
    slow = Slow()
    service = await mesh.service(slow, amqp_url=proxy.url)
    client = await mesh.client()
    watch = Watch(service)
    call = asyncio.create_task(client.request(request()))
    await slow.begun.wait()
    if what == "channel":
        before = await asyncio.to_thread(connections, rabbitmq_node)
        spoil(ports_of(service)[-1])
    else:
        proxy.reset()
    await watch.recovered(5)
    await joined(service)
    slow.release.set()
    assert result_of(await call) == "done"
    await until_depths(rabbitmq_node, mesh.url, {"nuropb-orders-sq": 0, "nuropb-orders-dlq": 0})
    assert slow.finished == [False]
    assert service.state is State.READY, "a stale ack would have closed the new channel"
    if what == "channel":
        assert await asyncio.to_thread(connections, rabbitmq_node) == before


async def test_row_14_a_handler_that_finishes_before_that_is_run_again(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """The message went back and is handled once more: at least once is what a queue promises."""
    slow = Slow()
    service = await mesh.service(slow)
    client = await mesh.client()
    await client.send(command())
    await slow.begun.wait()
    service.on_state_change(lambda *_: slow.release.set())  # at once, and not when somebody looks
    spoil(ports_of(service)[-1])
    await eventually(lambda: slow.finished == [False, True])
    watch = Watch(service)
    await service.wait_for(State.READY, timeout=5)
    await until_depths(rabbitmq_node, mesh.url, {"nuropb-orders-sq": 0, "nuropb-orders-dlq": 0})
    assert set(watch.states) <= {State.READY}, "a stale ack would have closed the new channel"
