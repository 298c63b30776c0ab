"""Row 16: the process dies between its reply and the ack."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nuropb_rmq.amqp import frames
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, eventually, request, result_of
from .console import depth
from .processes import ServiceProcess
from .proxy import Proxy, Way

COUNT = 5


async def test_row_16_it_is_handled_again_and_answered_once(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The acks never reach the broker: another instance has the requests; one answer is seen."""
    caplog.set_level(logging.INFO, "nuropb_rmq.transport")
    proxy.drop(Way.UP, frames.BASIC_ACK)
    recorder = Recorder()
    async with ServiceProcess(proxy.url, instance_id="one") as first:
        client = await mesh.client()
        calls = [asyncio.create_task(client.request(request(n=n))) for n in range(COUNT)]
        await first.began(COUNT)
        first.tell("go")
        assert [result_of(each)["n"] for each in await asyncio.gather(*calls)] == list(range(COUNT))
        await eventually(lambda: proxy.dropped)
        await first.kill()
    await mesh.service(recorder, instance_id="two")
    await eventually(lambda: client.dropped == {"unclaimed": COUNT})
    assert sorted(each.payload["params"]["n"] for each in recorder.seen) == list(range(COUNT))
    assert all(each.redelivered for each in recorder.seen)
    assert result_of(await client.request(request(n=9))) == {"n": 9}
    assert await asyncio.to_thread(depth, rabbitmq_node, mesh.url, "nuropb-orders-sq") == 0
    assert not caplog.records


async def test_row_16_there_is_no_ack_before_the_answer_is_confirmed(
    mesh: Transports, proxy: Proxy
) -> None:
    """The broker has the answer, and its confirm is lost: the request stays unacknowledged.

    One message is handled at a time, so the second one shows whether the first was acknowledged.
    """
    proxy.drop(Way.DOWN, frames.BASIC_ACK)
    recorder = Recorder()
    async with ServiceProcess(proxy.url, instance_id="one", prefetch_count=1) as first:
        client = await mesh.client()
        calls = [asyncio.create_task(client.request(request(n=n), timeout=60)) for n in range(2)]
        await first.began(1)
        first.tell("go")
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await eventually(lambda: proxy.dropped)
        # It gets the other request, which the first has no room for.
        await mesh.service(recorder, instance_id="two")
        await asyncio.wait(calls)
        assert [result_of(await each)["n"] for each in calls] == [0, 1]
        assert [each.redelivered for each in recorder.seen] == [False]
        await first.kill()
    await eventually(lambda: len(recorder.seen) == 2)
    assert [each.payload["params"]["n"] for each in recorder.seen] == [1, 0]
    assert recorder.seen[1].redelivered
