"""Row 39: a handler is slower than the broker's consumer_timeout, or than its own deadline."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nuropb_rmq import Message
from nuropb_rmq.testing import RabbitMQNode

from ..support import Mesh, Watch, eventually, request, result_of

SERVING_AGAIN = 5.0


async def test_row_39_a_handler_has_a_deadline_and_is_warned_of_before(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
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


async def test_row_39_the_broker_is_faster(
    mesh: Mesh, rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    """Up to 3.x it closes the channel of a classic queue with 406; 4.x does no such thing.

    The handler finishes in any case, and its reply is sent; the message is delivered again.
    """
    closes = rabbitmq_node.version.startswith("3.")
    go = asyncio.Event()
    runs = 0

    async def handle(message: Message) -> object:
        nonlocal runs
        if message.payload["method"] == "slow":
            runs += 1
            if runs == 1:
                await go.wait()
        return message.payload["params"]

    def broker(consumer_timeout: str, tick: str) -> None:
        rabbitmq_node.rabbitmqctl(
            "eval",
            f"application:set_env(rabbit, consumer_timeout, {consumer_timeout}), "
            f"application:set_env(rabbit, channel_tick_interval, {tick}).",
        )

    await asyncio.to_thread(broker, "1000", "500")
    try:
        service = await mesh.service(handle)
        client = await mesh.client()
        watch = Watch(service)
        slow = asyncio.create_task(client.request(request("slow", n=7), timeout=60))
        await eventually(lambda: runs == 1)
        if closes:
            with caplog.at_level(logging.WARNING):
                await watch.left(within=15)
                await watch.recovered(SERVING_AGAIN)
            assert "keep handler_timeout below the broker's consumer_timeout" in caplog.text
        assert result_of(await client.request(request(n=1))) == {"n": 1}
        go.set()
        assert result_of(await slow) == {"n": 7}
        await eventually(lambda: runs == (2 if closes else 1))
    finally:
        await asyncio.to_thread(broker, "1800000", "60000")
