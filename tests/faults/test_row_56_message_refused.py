"""Row 56: the broker closes the channel over one message: it is too large, or of a topic that the
user may not write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from nuropb_rmq import (
    Message,
    MessageTooLargeError,
    NuropbOutcomeUnknownError,
    TopicRefusedError,
    Transport,
)
from nuropb_rmq.testing import RabbitMQNode

from ..encrypting import DL_QUEUE, calling, serving, tapping
from ..seams import publisher_of
from ..support import Recorder, Transports, Watch, command, event, eventually, request, result_of
from .console import add_user, close_connection, largest_message, permit_topics

LIMIT = 2**20
LARGE = "x" * (2 * LIMIT)
LARGE_ONES = {
    "request": request(text=LARGE),
    "command": command(text=LARGE),
    "event": event("orders.made", LARGE),
}


@pytest.fixture
async def limited(rabbitmq_node: RabbitMQNode) -> AsyncIterator[None]:
    """The broker takes no bodies over 1 MB."""
    async with largest_message(rabbitmq_node, LIMIT):
        yield


def numbers(recorder: Recorder) -> list[int]:
    return [each.payload["params"]["n"] for each in recorder.seen if each.payload.get("params")]


async def among_others(client: Transport, recorder: Recorder, culprit: dict[str, Any]) -> object:
    """Send it, five commands and a request before it and as many behind it, in one write.

    Returns its error; the others come to their ends as they should.
    """
    calls = [asyncio.create_task(client.request(request(n=n), timeout=20)) for n in (5, 11)]
    before: list[Awaitable[None]] = [client.post(command(n=n)) for n in range(5)]
    await asyncio.sleep(0)  # the requests are written
    refused: Awaitable[object] = (
        asyncio.ensure_future(client.request(culprit, timeout=20))
        if culprit["tag"] == "request"
        else client.post(culprit)
    )
    await asyncio.sleep(0)
    behind = [client.post(command(n=n)) for n in range(6, 11)]
    outcomes = await asyncio.gather(*before, return_exceptions=True)
    assert all(each is None or isinstance(each, NuropbOutcomeUnknownError) for each in outcomes)
    await asyncio.gather(*behind)
    assert [result_of(each)["n"] for each in await asyncio.gather(*calls)] == [5, 11]
    (error,) = await asyncio.gather(refused, return_exceptions=True)
    await eventually(lambda: len(numbers(recorder)) >= 12)
    handled = numbers(recorder)
    assert sorted(handled) == list(range(12))  # each of them, and none of them twice
    assert [n for n in handled if n < 5] == list(range(5))
    assert [n for n in handled if 5 < n < 11] == list(range(6, 11))
    recorder.seen.clear()
    assert publisher_of(client).unconfirmed == publisher_of(client).waiting == client.pending == 0
    return error


async def test_row_56_a_message_that_is_too_large(mesh: Transports, limited: None) -> None:
    recorder = Recorder()
    await mesh.service(recorder, prefetch_count=1, event_bindings=["orders.*"])
    for kind, large in LARGE_ONES.items():
        client = await mesh.client(kind)
        error = await among_others(client, recorder, large)
        assert isinstance(error, MessageTooLargeError)
        assert error.limit == LIMIT
        assert error.size > 2 * LIMIT
        assert str(LIMIT) in str(error)
        assert str(error.size) in str(error)
        watch = Watch(client)
        for again in LARGE_ONES.values():  # it is known now, and costs no channel any more
            with pytest.raises(MessageTooLargeError, match="max_message_size"):
                await client.send(again)
        assert watch.states == []


async def test_row_56_no_answer_is_lost_with_the_channel(mesh: Transports, limited: None) -> None:
    """Answers that are on their way while the channels of the connection are renewed."""
    await mesh.service(Recorder(), prefetch_count=100)
    for _ in range(3):
        client = await mesh.client()
        calls = [asyncio.create_task(client.request(request(n=n), timeout=20)) for n in range(500)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(MessageTooLargeError):
            await client.send(command(text=LARGE))
        answers = await asyncio.gather(*calls)
        assert [result_of(each)["n"] for each in answers] == list(range(500))
        await client.stop()


async def test_row_56_the_limit_is_forgotten_with_the_connection(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    recorder = Recorder()
    service = await mesh.service(recorder, prefetch_count=1)
    async with largest_message(rabbitmq_node, LIMIT):
        client = await mesh.client()
        waiting = asyncio.create_task(client.send(command(text=LARGE)))
        with pytest.raises(MessageTooLargeError):
            await waiting
    assert publisher_of(client).largest == LIMIT
    watch = Watch(client)
    assert await asyncio.to_thread(close_connection, rabbitmq_node, client.instance_id) == 1
    await watch.recovered()
    assert publisher_of(client).largest == client.config.max_body_bytes
    await client.send(command(text=LARGE))
    assert service.error is None


async def test_row_56_a_topic_that_may_not_be_written(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    recorder = Recorder()
    await mesh.service(recorder, prefetch_count=1, event_bindings=["#"])
    name = mesh.url.rsplit("/", 1)[1]

    def restrict() -> None:
        add_user(rabbitmq_node, mesh.url, name, "secret")
        permit_topics(
            rabbitmq_node, mesh.url, name, "nuropb-events-exchange", r"^(shop\.|k{99})", ".*"
        )

    await asyncio.to_thread(restrict)
    url = mesh.url.replace("guest:guest", f"{name}:secret")
    try:
        client = await mesh.client(amqp_url=url)
        for topic in ("admin.reset", "a" * 180):
            error = await among_others(client, recorder, event(topic, 1))
            assert isinstance(error, TopicRefusedError)
            assert error.topic == topic
            assert topic in str(error)
        # Too long to be told whole: which it was is unsure, and nothing is sent twice.
        posts = [client.post(event(topic * 245, 1)) for topic in "kak"]
        outcomes = await asyncio.gather(*posts, return_exceptions=True)
        assert all(each is None or isinstance(each, NuropbOutcomeUnknownError) for each in outcomes)
        assert isinstance(outcomes[1], NuropbOutcomeUnknownError)
        # Of several with the same topic none costs a channel of its own.
        watch = Watch(client)
        posts = [client.post(event("admin.reset", n)) for n in range(20)]
        outcomes = await asyncio.gather(*posts, return_exceptions=True)
        assert all(isinstance(each, TopicRefusedError) for each in outcomes)
        await watch.recovered()
        await client.send(event("shop.opened", 1))
        assert len(watch.states) == 0
    finally:
        await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/users/{name}")
    await eventually(lambda: recorder.seen[-1].payload["topic"] == "shop.opened")


class Held:
    """Answers all at once when it has so many requests, one of them with what is too large."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._all = asyncio.Event()

    async def __call__(self, message: Message) -> Any:
        self._left -= 1
        if self._left == 0:
            self._all.set()
        await self._all.wait()
        return LARGE if message.payload["params"]["n"] == 2 else message.payload["params"]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_row_56_an_answer_that_is_too_large(
    mesh: Transports, limited: None, encrypted: bool
) -> None:
    """Its requester gets an error in its place; the others, and their answers, nothing of it."""
    theirs, ours = serving(), calling()
    service = await mesh.service(Held(5), encryptor=theirs)
    client = await mesh.client(encryptor=ours)
    calls = [client.request(request(n=n), timeout=20, encrypted=encrypted) for n in range(5)]
    answers = await asyncio.gather(*calls)
    said = answers.pop(2)["error"]
    assert said is not None
    assert said["error"] == "MessageTooLargeError"
    assert f"max_message_size is {LIMIT} bytes" in said["description"]
    assert [result_of(each)["n"] for each in answers] == [0, 1, 3, 4]
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.take, DL_QUEUE)
        assert await asyncio.to_thread(tap.depth, DL_QUEUE) == 0
    watch = Watch(service)  # the next one is refused before it is sent, and answered as well
    error = (await client.request(request(n=2), timeout=20, encrypted=encrypted))["error"]
    assert error == said | {"description": said["description"].partition("delivered: ")[2]}
    assert watch.states == []
    await eventually(lambda: theirs.calls_remembered == ours.calls_remembered == 0)
