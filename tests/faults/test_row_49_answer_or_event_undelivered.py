"""Row 49: an answer, or an event that a handler publishes with its success, cannot be delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nuropb_rmq import Message, MessageType, NuropbSuccess, NuropbTimeoutError, Transport
from nuropb_rmq.amqp import publisher
from nuropb_rmq.testing import RabbitMQNode

from ..encrypting import DL_QUEUE, Tap, calling, serving, tapping
from ..seams import in_hand, publishing
from ..support import Transports, command, eventually, request, result_of
from .console import alarm, policy
from .test_row_05_channel_closed import ports_of, spoil

TOPIC = "orders.made"


async def makes(message: Message) -> Any:
    """A handler that has success, and an event to tell of it."""
    raise NuropbSuccess(message.payload["params"], events=[{"topic": TOPIC, "payload": 1}])


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """Beside the mesh, a plain AMQP client with a subscriber's queue `other` that takes all."""
    async with tapping(mesh) as made:
        await asyncio.to_thread(made.subscribe, "other", TOPIC)
        yield made


async def failed(client: Transport, *, encrypted: bool = False) -> str:
    """The error's text of a call, which ends with one."""
    said = (await client.request(request(n=1), timeout=10, encrypted=encrypted))["error"]
    assert said is not None
    assert said["error"] == "PublishNackedError"
    return str(said["description"])


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_row_49_an_event_is_refused(
    mesh: Transports,
    tap: Tap,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    encrypted: bool,
) -> None:
    """One of its two queues is full: nobody is told that all went well."""
    monkeypatch.setattr(publisher, "REFUSED_PAUSES", (0.1, 0.1))
    await asyncio.to_thread(tap.subscribe, "full", TOPIC, 0)
    theirs, ours = serving(), calling()
    await mesh.service(makes, encryptor=theirs)
    client = await mesh.client(encryptor=ours)
    text = await failed(client, encrypted=encrypted)
    assert text.startswith(f"done, but its event on topic '{TOPIC}' was not delivered: ")
    assert "other queues that it is routed to may have got it" in text
    await asyncio.to_thread(tap.take, DL_QUEUE)
    assert await asyncio.to_thread(tap.depth, "other") == 3  # it was tried again
    assert "goes to the dead letters: its event on topic 'orders.made' was not" in caplog.text
    await client.send(command())
    await asyncio.to_thread(tap.take, DL_QUEUE)
    await eventually(lambda: theirs.calls_remembered == ours.calls_remembered == 0)


async def test_row_49_an_event_is_refused_for_a_while(mesh: Transports, tap: Tap) -> None:
    """It is tried again, and the answer waits for it."""
    await asyncio.to_thread(tap.subscribe, "full", TOPIC, 1)
    service = await mesh.service(makes)
    client = await mesh.client()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    call = asyncio.create_task(client.request(request(n=2)))
    await eventually(lambda: publishing(service).paused)
    assert not call.done()
    await asyncio.to_thread(tap.take, "full")
    assert result_of(await call) == {"n": 2}
    assert await asyncio.to_thread(tap.depth, "full") == 1
    assert await asyncio.to_thread(tap.depth, DL_QUEUE) == 0


async def test_row_49_the_channel_is_lost_under_an_event(mesh: Transports, tap: Tap) -> None:
    """It is written again, and so is the answer."""
    lose: list[str] = []

    async def handler(message: Message) -> Any:
        if message.payload["method"] in lose:
            lose.remove(message.payload["method"])
            spoil(ports_of(service)[0])  # the broker closes the channel before it looks at more
        if message.payload["method"] == "makes":
            await makes(message)
        return message.payload["params"]

    service = await mesh.service(handler)
    client = await mesh.client()
    for method in ("makes", "tells"):
        lose.append(method)
        assert result_of(await client.request(request(method, n=1), timeout=10)) == {"n": 1}
        assert not lose
    assert await asyncio.to_thread(tap.depth, "other") == 1
    assert await asyncio.to_thread(tap.depth, DL_QUEUE) == 0


async def test_row_49_an_answer_is_refused(
    mesh: Transports, tap: Tap, rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    """As its error answer is: the message is in the dead letters all the same."""

    async def echo(message: Message) -> Any:
        return message.payload["params"]

    await mesh.service(echo)
    client = await mesh.client("deaf")
    full = policy(rabbitmq_node, mesh.url, "^nuropb-deaf-", max_length=0, overflow="reject-publish")
    await asyncio.to_thread(full.__enter__)
    try:
        while "its answer was not delivered" not in caplog.text:  # policies take their time
            try:
                await client.request(request(n=1), timeout=0.8)
            except NuropbTimeoutError:
                continue
    finally:
        await asyncio.to_thread(full.__exit__, None, None, None)
    await asyncio.to_thread(tap.take, DL_QUEUE)


async def test_row_49_what_an_alarm_keeps_back(
    mesh: Transports, tap: Tap, rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that is late is no failure, for its requester has had a timeout; an event waits."""
    go = asyncio.Event()

    async def slow(message: Message) -> Any:
        await go.wait()
        if message.kind is MessageType.COMMAND:
            await makes(message)

    service = await mesh.service(slow, publish_timeout=0.1)
    client = await mesh.client()
    for _ in range(2):
        await client.send(command())
    call = asyncio.create_task(client.request(request(), timeout=3))
    await eventually(lambda: len(in_hand(service)) == 3)
    async with alarm(rabbitmq_node):
        go.set()
        with pytest.raises(NuropbTimeoutError):
            await call
        await eventually(lambda: len(in_hand(service)) == 2)
        assert "was late" in caplog.text
    await eventually(lambda: len(in_hand(service)) == 0)
    assert await asyncio.to_thread(tap.depth, "other") == 2
    assert await asyncio.to_thread(tap.depth, "nuropb-orders-sq") == 0
    assert await asyncio.to_thread(tap.depth, DL_QUEUE) == 0
