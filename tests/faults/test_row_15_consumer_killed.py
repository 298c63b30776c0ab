"""Row 15: a consumer is killed -9 with messages in hand; later their handlers call again.

The broker marks what it delivers anew as redelivered. That says nothing about call-agains: each of
these messages has its one call-again still before it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from nuropb_rmq import (
    Message,
    MessageCompleteFunction,
    NuropbCallAgain,
    RMQTransport,
    State,
    TransportServicePayload,
)

from ..compat.programs import answer
from ..encrypting import DL_QUEUE, Tap, tapping
from ..support import Transports, command, eventually, request, result_of
from .processes import ServiceProcess

REQUESTS, COMMANDS = 5, 3


class Seen:
    """The deliveries that handlers got, by correlation id."""

    def __init__(self) -> None:
        self.by_id: dict[str, list[bool]] = defaultdict(list)

    def note(self, correlation_id: str, redelivered: bool) -> int:
        """Note a delivery, and return how many there were before it."""
        self.by_id[correlation_id].append(redelivered)
        return len(self.by_id[correlation_id]) - 1


async def in_hand_and_killed(mesh: Transports) -> tuple[list[asyncio.Task[Any]], set[str]]:
    """Requests and commands that a service had in hand when it was killed; all of their ids."""
    async with ServiceProcess(mesh.url) as doomed:
        client = await mesh.client()
        calls = [asyncio.create_task(client.request(request(n=n))) for n in range(REQUESTS)]
        for n in range(COMMANDS):
            await client.send(command(n=n))
        ids = set(await doomed.began(REQUESTS + COMMANDS))
        await doomed.kill()
    assert len(ids) == REQUESTS + COMMANDS
    return calls, ids


async def dead_letters(tap: Tap) -> int:
    return await asyncio.to_thread(tap.depth, DL_QUEUE)


async def test_row_15_innocents_get_their_one_call_again(mesh: Transports) -> None:
    seen = Seen()
    counts: list[int] = []

    async def again(message: Message) -> Any:
        before = seen.note(message.correlation_id, message.redelivered)
        counts.append(message.call_again_count - before)
        if not before:
            raise NuropbCallAgain
        return message.payload["params"]

    calls, ids = await in_hand_and_killed(mesh)
    service = await mesh.service(again)
    answers = await asyncio.gather(*calls)
    assert [result_of(each) for each in answers] == [{"n": n} for n in range(REQUESTS)]
    await eventually(lambda: all(len(each) == 2 for each in seen.by_id.values()))
    assert seen.by_id == {each: [True, False] for each in ids}
    assert set(counts) == {0}, "the count is of call-agains, and of nothing else"
    async with tapping(mesh) as tap:
        assert await dead_letters(tap) == 0
    assert service.state is State.READY


async def test_row_15_once_and_once_only(mesh: Transports) -> None:
    seen = Seen()

    async def always(message: Message) -> None:
        seen.note(message.correlation_id, message.redelivered)
        raise NuropbCallAgain

    calls, ids = await in_hand_and_killed(mesh)
    await mesh.service(always, dead_letter_requests=True)
    for each in await asyncio.gather(*calls):
        assert each["error"]["error"] == "NuropbCallAgainReject"
    async with tapping(mesh) as tap:
        dead = await asyncio.to_thread(tap.take, DL_QUEUE, REQUESTS + COMMANDS)
        assert {properties.correlation_id for properties, _ in dead} == ids
        assert await dead_letters(tap) == 0
    assert seen.by_id == {each: [True, False] for each in ids}


async def test_row_15_the_count_outlives_whoever_is_killed(mesh: Transports) -> None:
    """A message is called again, and its next consumer is killed: it has had its call-again."""
    begun, release = asyncio.Event(), asyncio.Event()
    seen: list[tuple[bool, int]] = []

    async def again(message: Message) -> None:
        begun.set()
        await release.wait()
        seen.append((message.redelivered, message.call_again_count))
        raise NuropbCallAgain

    first = await mesh.service(again)
    client = await mesh.client()
    call = asyncio.create_task(client.request(request()))
    await begun.wait()
    await first.stop_consuming()
    async with ServiceProcess(mesh.url) as doomed:
        release.set()
        await doomed.began(1)
        await doomed.kill()
    await mesh.service(again)
    answered = await call
    assert answered["error"] is not None
    assert answered["error"]["error"] == "NuropbCallAgainReject"
    assert seen == [(False, 0), (True, 1)]


async def test_row_15_the_drop_in_counts_in_the_same_way(mesh: Transports) -> None:
    """message_complete([], "nack") of a message that was redelivered."""
    seen = Seen()

    def callback(
        message: TransportServicePayload, complete: MessageCompleteFunction, _: dict[str, Any]
    ) -> None:
        if seen.note(message["correlation_id"], False) == 0:
            complete([], "nack")
        else:
            complete([answer(message, message["nuropb_payload"]["params"])], "ack")

    calls, ids = await in_hand_and_killed(mesh)
    transport = RMQTransport("orders", "two", mesh.url, callback, prefetch_count=8)
    await transport.start()
    answers = await asyncio.gather(*calls)
    assert [result_of(each) for each in answers] == [{"n": n} for n in range(REQUESTS)]
    await eventually(lambda: seen.by_id == {each: [False, False] for each in ids})
    await transport.stop()
    async with tapping(mesh) as tap:
        assert await dead_letters(tap) == 0
