"""Row 12: the broker refuses a publish with Basic.Nack: a queue that is full, and rejects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from nuropb_rmq import PublishNackedError, Transport
from nuropb_rmq.testing import RabbitMQNode

from ..seams import publisher_of
from ..support import Recorder, Transports, Watch, command, eventually, request, result_of
from .console import depth, policy

QUEUE = "nuropb-orders-sq"


async def accepted(client: Transport, number: int) -> bool:
    """Send a command, and return whether the queue takes it."""
    try:
        await client.send(command(n=number))
    except PublishNackedError:
        return False
    return True


async def refused(work: Awaitable[object]) -> None:
    """Check that it fails with PublishNackedError."""
    with pytest.raises(PublishNackedError, match=r"Basic\.Nack"):
        await work


async def test_row_12_it_is_told_and_never_counted_as_sent(
    mesh: Transports, rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests, commands and posts raise; what is sent when there is room again goes on."""
    recorder = Recorder()
    service = await mesh.service(recorder)
    await service.stop()
    client = await mesh.client()
    watch = Watch(client)
    sent = []
    full = policy(rabbitmq_node, mesh.url, QUEUE, max_length=10, overflow="reject-publish")
    await asyncio.to_thread(full.__enter__)
    try:
        number = 0  # the broker applies a policy in its own time
        while await accepted(client, number):
            sent.append(number)
            number += 1
        await refused(client.request(request(n=-1), timeout=60))
        await refused(client.post(command(n=-2)))
        await asyncio.gather(*(refused(client.send(command(n=-3))) for _ in range(100)))
        client.post(command(n=-4))  # nobody waits for it
        await eventually(lambda: "Basic.Nack" in caplog.text)
    finally:
        await asyncio.to_thread(full.__exit__, None, None, None)
    while not await accepted(client, number):
        number += 1
    sent.append(number)
    await asyncio.gather(*(client.send(command(n=n)) for n in range(number + 1, number + 101)))
    sent += range(number + 1, number + 101)
    assert await asyncio.to_thread(depth, rabbitmq_node, mesh.url, QUEUE) == len(sent)
    await service.start()
    assert result_of(await client.request(request(n="last"))) == {"n": "last"}
    assert [each.payload["params"]["n"] for each in recorder.seen] == [*sent, "last"]
    assert client.pending == publisher_of(client).unconfirmed == 0
    assert watch.states == []
