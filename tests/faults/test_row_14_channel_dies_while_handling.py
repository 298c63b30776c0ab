"""Row 14: the channel, or the connection, dies while a handler runs."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import Message, State
from nuropb_rmq.testing import RabbitMQNode

from ..support import Mesh, Watch, eventually, request, result_of
from .console import connections
from .proxy import Proxy
from .test_row_05_channel_closed import ports_of, spoil


@pytest.mark.parametrize("what", ["channel", "connection"])
async def test_row_14_the_handler_finishes_and_the_reply_is_sent(
    mesh: Mesh, rabbitmq_node: RabbitMQNode, proxy: Proxy, what: str
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()
    finished: list[bool] = []

    async def slow(message: Message) -> str:
        begun.set()
        await release.wait()
        finished.append(message.redelivered)
        return "done"

    service = await mesh.service(slow, amqp_url=proxy.url)
    client = await mesh.client()
    watch = Watch(service)
    call = asyncio.create_task(client.request(request()))
    await begun.wait()
    if what == "channel":
        before = await asyncio.to_thread(connections, rabbitmq_node)
        spoil(ports_of(service)[-1])
    else:
        proxy.reset()
    await watch.recovered(5)
    release.set()
    assert result_of(await call) == "done"
    # The message went back and is handled once more: at least once is what a queue promises.
    await eventually(lambda: len(finished) == 2)
    assert finished == [False, True]
    assert service.state is State.READY, "a stale ack would have closed the new channel"
    if what == "channel":
        assert await asyncio.to_thread(connections, rabbitmq_node) == before
