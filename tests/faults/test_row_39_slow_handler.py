"""Row 39: a handler is slower than the broker's consumer_timeout.

RabbitMQ 3.x closes the channel with 406; 4.3 cancels the consumer, of quorum queues only. The
service serves again within 5 s, and the answer is sent when the handler has finished. Our own
deadline, handler_timeout, is meant to come first, and is warned of.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from nuropb_rmq import Message
from nuropb_rmq.testing import RabbitMQNode

from ..support import Mesh, Watch, eventually, request, result_of
from .common import works
from .console import consumer_timeout, until_depths

SERVING_AGAIN = 5.0


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_row_39_the_brokers_timeout(
    mesh: Mesh, rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture, queue_type: str
) -> None:
    """The log says which of the two settings is to be changed."""
    release = asyncio.Event()

    async def slow(message: Message) -> object:
        if message.payload["method"] == "slow":
            await release.wait()
            return message.redelivered
        return message.payload["params"]

    client = await mesh.client()
    async with consumer_timeout(rabbitmq_node, 1.0):
        service = await mesh.service(slow, queue_type=queue_type)
        watch = Watch(service)
        call = asyncio.create_task(client.request(request("slow")))
        if queue_type == "classic" and rabbitmq_node.version.startswith("4."):
            await asyncio.sleep(2.0)
            assert watch.states == [], "4.x looks at quorum queues only"
        else:
            await watch.left()
            await watch.recovered(SERVING_AGAIN)
            told = [each.message for each in caplog.records if "consumer_timeout" in each.message]
            assert told
            assert "set handler_timeout below" in told[0]
        await works(client, SERVING_AGAIN)
    release.set()
    assert result_of(await call) is False, "it is the first handler that answers first"
    await until_depths(rabbitmq_node, mesh.url, {"nuropb-orders-sq": 0})


async def test_row_39_our_own_deadline_is_warned_of(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """At 80 % of it, by the method, the correlation id, and the names of both settings."""

    async def slow(_: Message) -> None:
        await asyncio.Event().wait()

    await mesh.service(slow, handler_timeout=1.0)
    client = await mesh.client()
    caplog.set_level(logging.WARNING, "nuropb_rmq.dispatcher")
    payload = {**request("slow"), "correlation_id": "slow-one"}
    call = asyncio.create_task(client.request(payload))
    await eventually(lambda: caplog.messages)
    assert not call.done()
    answer = await call
    assert answer["error"] is not None
    assert "not done within 1 s (handler_timeout)" in str(answer["error"]["description"])
    warned, failed = caplog.messages
    assert warned == (
        "request slow (slow-one) has run for 0.8 s, and is ended after 1 s (handler_timeout; "
        "the broker's consumer_timeout must be longer)"
    )
    assert "failed" in failed
