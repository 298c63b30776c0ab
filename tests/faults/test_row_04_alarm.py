"""Row 4: a memory or disk alarm (Connection.Blocked)."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import (
    Message,
    MessageType,
    NuropbNotSentError,
    NuropbOutcomeUnknownError,
    NuropbTimeoutError,
    State,
)
from nuropb_rmq.testing import RabbitMQNode

from ..seams import publisher_of
from ..support import Recorder, Transports, command, event, eventually, request, result_of
from .common import within
from .console import alarm, depth

RESUMES_WITHIN = 2.0
QUEUE = "nuropb-orders-sq"


async def test_row_04_publishes_time_out_and_resume(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    recorder = Recorder()
    await mesh.service(recorder)
    client = await mesh.client()
    async with alarm(rabbitmq_node):
        # The broker tells of its alarm when something is published.
        with pytest.raises(NuropbOutcomeUnknownError, match="not confirmed"):
            await client.send(command(n=1), timeout=0.5)
        assert client.state is State.BLOCKED
        assert "low on memory" in str(client.error)
        with pytest.raises(NuropbNotSentError, match="never sent"):
            await client.send(command(n=2), timeout=0.2)
        with pytest.raises(NuropbNotSentError, match="not sent"):
            await client.request(request(n=3), timeout=0.2)
        waiting = asyncio.create_task(client.send(command(n=4)))
        await eventually(lambda: publisher_of(client).waiting == 1)
    with within(RESUMES_WITHIN):
        await client.wait_for(State.READY)
        await waiting
        assert result_of(await client.request(request(n=5))) == {"n": 5}
    assert [each.payload["params"]["n"] for each in recorder.seen] == [1, 4, 5]


class Gates:
    """A handler of which each request waits at a gate of its own; nothing else waits."""

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.gates = {name: asyncio.Event() for name in ("one", "two", "three", "rest")}

    async def __call__(self, message: Message) -> str:
        self.seen.append(message)
        of_request = message.kind is MessageType.REQUEST
        await self.gates[message.payload["method"] if of_request else "rest"].wait()
        return "done"


async def test_row_04_a_service_goes_on_with_what_needs_no_answer(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    gates = Gates()
    service = await mesh.service(gates, prefetch_count=5, event_bindings=["orders.#"])
    client = await mesh.client()
    short = [
        asyncio.create_task(client.request(request(name), timeout=4)) for name in ("one", "two")
    ]
    patient = asyncio.create_task(client.request(request("three"), timeout=60))
    await eventually(lambda: len(gates.seen) == 3)
    for n in range(10):
        await client.send(command(n=n))
        await client.send(event("orders.created", n))
    async with alarm(rabbitmq_node):
        gates.gates["one"].set()  # its answer is written: the broker has not told of its alarm yet
        await service.wait_for(State.BLOCKED, timeout=5)
        gates.gates["two"].set()  # this one waits with us
        gates.gates["three"].set()
        gates.gates["rest"].set()
        # Three requests wait for their answers to be taken; all else passes them by.
        await eventually(lambda: len(gates.seen) == 23)
        # Their slots are free again when nobody can wait for the answers any more.
        for call in short:
            with pytest.raises(NuropbTimeoutError):
                await call
        await until_depth(rabbitmq_node, mesh.url, 1)
        assert not patient.done()
        assert service.state is State.BLOCKED
    with within(RESUMES_WITHIN):
        assert result_of(await patient) == "done"
        await service.wait_for(State.READY)
    await until_depth(rabbitmq_node, mesh.url, 0)
    assert result_of(await client.request(request("one"))) == "done"
    assert not any(each.redelivered for each in gates.seen)


async def until_depth(node: RabbitMQNode, url: str, wanted: int) -> None:
    """Wait until the service queue holds so many messages, those in hand among them."""
    async with asyncio.timeout(10):
        while await asyncio.to_thread(depth, node, url, QUEUE) != wanted:
            pass  # asking takes most of a second


async def test_row_04_stop_and_start_under_an_alarm(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """Consuming needs no room at the broker; only who publishes waits."""
    recorder = Recorder()
    service = await mesh.service(recorder)
    client = await mesh.client()
    await service.stop()
    for n in range(3):
        await client.send(command(n=n))
    async with alarm(rabbitmq_node):
        with within(6):
            await service.start()
        await eventually(lambda: len(recorder.seen) == 3)
        late = asyncio.create_task(client.send(command(n=3)))
        await client.wait_for(State.BLOCKED, timeout=5)
        with within(1 + 5):
            await client.stop(grace=1)
        with pytest.raises(NuropbOutcomeUnknownError):
            await late
        with within(1 + 5):
            await service.stop(grace=1)
    assert [each.payload["params"]["n"] for each in recorder.seen] == [0, 1, 2]
    assert not any(each.redelivered for each in recorder.seen)
