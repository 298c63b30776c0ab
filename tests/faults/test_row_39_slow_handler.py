"""Row 39: a handler is slower than the broker's consumer_timeout, or than its own deadline."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nuropb_rmq import Message
from nuropb_rmq.testing import RabbitMQNode

from ..support import Transports, Watch, eventually, request, result_of
from .common import joined
from .console import consumer_timeout, set_milliseconds, until_depths

SERVING_AGAIN = 5.0


async def test_row_39_a_handler_has_a_deadline_and_is_warned_of_before(
    mesh: Transports, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> object:
        if message.payload["method"] == "hang":
            await asyncio.Event().wait()
        return message.payload["params"]

    service = await mesh.service(handle, handler_timeout=1.0)
    client = await mesh.client()
    watch = Watch(service)
    hanging = asyncio.create_task(client.request(request("hang"), timeout=10))
    await eventually(lambda: "handled for 0.8 s" in caplog.text)
    assert not hanging.done()
    assert "handler_timeout" in caplog.text
    response = await hanging
    assert response["error"] is not None
    assert "handler_timeout" in response["error"]["description"]
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert watch.states == []


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_row_39_the_broker_is_faster(
    mesh: Transports, rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture, queue_type: str
) -> None:
    """3.x closes the channel with 406; 4.3 cancels the consumer, and of quorum queues only.

    The handler finishes in any case, and its reply is sent; the message is delivered again, and
    joins it.
    """
    interferes = queue_type == "quorum" or rabbitmq_node.version.startswith("3.")
    go = asyncio.Event()
    runs = 0

    async def handle(message: Message) -> object:
        nonlocal runs
        if message.payload["method"] == "slow":
            runs += 1
            await go.wait()
        return message.payload["params"]

    await asyncio.to_thread(set_milliseconds, rabbitmq_node, quorum_tick_interval=200)
    async with consumer_timeout(rabbitmq_node, 1.0):
        service = await mesh.service(handle, queue_type=queue_type)
        client = await mesh.client()
        watch = Watch(service)
        slow = asyncio.create_task(client.request(request("slow", n=7), timeout=60))
        await eventually(lambda: runs == 1)
        if interferes:
            with caplog.at_level(logging.WARNING):
                await watch.left(within=15)
                await watch.recovered(SERVING_AGAIN)
            assert "the broker's consumer_timeout" in caplog.text
            assert "handler_timeout" in caplog.text
        assert result_of(await client.request(request(n=1))) == {"n": 1}
        if interferes:
            await joined(service)
        assert runs == 1
        go.set()
        assert result_of(await slow) == {"n": 7}
        await until_depths(rabbitmq_node, mesh.url, {"nuropb-orders-sq": 0, "nuropb-orders-dlq": 0})
