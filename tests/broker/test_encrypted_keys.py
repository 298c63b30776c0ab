"""However an encrypted call ends, nobody keeps its key, and its answer is encrypted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nuropb_rmq import (
    Completion,
    Encryptor,
    Message,
    NuropbCallAgain,
    NuropbNotDeliveredError,
    NuropbSerializationError,
    NuropbSuccess,
    NuropbTimeoutError,
    Outcome,
    State,
)

from ..encrypting import DL_QUEUE, SECRET, Pair, Tap, calling, private_key, serving, tapping
from ..faults.common import joined
from ..faults.test_row_05_channel_closed import ports_of, spoil
from ..seams import keys_of
from ..support import Recorder, Transports, command, eventually, request, result_of


@pytest.fixture
async def pair(mesh: Transports) -> AsyncIterator[Pair]:
    """A service and a client that encrypt; after the test they remember no call."""
    made = Pair(mesh)
    yield made
    await mesh.stop()
    await made.nothing_remembered()


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """A plain AMQP client."""
    async with tapping(mesh) as made:
        yield made


async def test_no_key_is_kept_after_failures_and_call_agains(pair: Pair) -> None:
    counts: list[int] = []

    async def handle(message: Message) -> Any:
        match message.payload["method"]:
            case "fail":
                raise LookupError(SECRET)
            case "again":
                counts.append(message.call_again_count)
                if message.call_again_count < message.payload["params"]["times"]:
                    raise NuropbCallAgain
                return "at last"
            case "silent":
                return Completion(Outcome.FAILED)

    await pair.start(handle)
    answer = await pair.call("fail")
    assert answer["error"] == {"error": "LookupError", "description": SECRET}
    await pair.client.send(command("fail"), encrypted=True)
    await pair.nothing_remembered()
    assert result_of(await pair.call("again", times=1)) == "at last"
    answer = await pair.call("again", times=2)
    assert answer["error"]["error"] == "NuropbCallAgainReject"
    assert counts == [0, 1, 0, 1]
    await pair.nothing_remembered()
    with pytest.raises(NuropbTimeoutError):
        await pair.call("silent", timeout=0.2)
    await pair.nothing_remembered()


async def test_a_result_that_cannot_be_sent_is_not_told_in_plain(pair: Pair) -> None:
    async def handle(message: Message) -> Any:
        match message.payload["method"]:
            case "result":
                return {(1, 2): 3}
            case "event":
                raise NuropbSuccess("ok", events=[{"topic": "t", "payload": {(1, 2): 3}}])

    await pair.start(handle)
    for method in ("result", "event"):
        answer = await pair.call(method)
        assert answer["error"]["error"] == "NuropbSerializationError"
        await pair.nothing_remembered()


async def test_no_key_is_kept_of_a_body_that_makes_no_sense(tap: Tap, pair: Pair) -> None:
    await pair.start(Recorder())
    stranger = calling()
    for number, body in enumerate((b"no JSON", b"[]", b'{"tag": "command"}')):
        sealed = stranger.encrypt_payload(body, f"c-{number}", "orders")
        await asyncio.to_thread(tap.ask, "orders", sealed, f"c-{number}")
    dead = await asyncio.to_thread(tap.take, DL_QUEUE, 3)
    assert {properties.correlation_id for properties, _ in dead} == {"c-0", "c-1", "c-2"}
    await pair.nothing_remembered()


async def test_no_key_is_kept_of_what_was_not_sent(pair: Pair) -> None:
    await pair.start(Recorder())
    unroutable = request(service="nobody"), command(service="nobody")
    for payload in unroutable:
        with pytest.raises(NuropbNotDeliveredError):
            await pair.client.send(payload, encrypted=True)
        assert pair.ours.calls_remembered == 0
    with pytest.raises(NuropbNotDeliveredError):
        await pair.client.request(unroutable[0], encrypted=True)
    for payload in (request(a={(1, 2): 3}), {**request(), "correlation_id": "c" * 256}):
        for call in (pair.client.send, pair.client.request):
            with pytest.raises(NuropbSerializationError):
                await call(payload, encrypted=True)
    for call in (pair.client.send, pair.client.request):
        with pytest.raises(NuropbSerializationError, match="priority"):
            await call(request(), priority=256, encrypted=True)
    assert pair.ours.calls_remembered == 0


async def test_a_command_does_not_take_the_key_of_a_request_with_its_id(
    mesh: Transports, pair: Pair
) -> None:
    """Nor does a request that nobody waits for; what they say is read, and kept by nobody."""
    release = asyncio.Event()
    seen: list[str] = []

    async def handle(message: Message) -> Any:
        seen.append(message.payload["method"])
        if message.payload["method"] == "wait":
            await release.wait()
        return message.payload["params"]

    await pair.start(handle)
    same = {"correlation_id": "the-same"}
    call = asyncio.create_task(
        pair.client.request({**request("wait", text=SECRET), **same}, encrypted=True)
    )
    await eventually(lambda: seen == ["wait"])
    await pair.client.send({**command(), **same}, encrypted=True)
    await pair.client.send({**request(), "correlation_id": "another"}, encrypted=True)
    await eventually(lambda: seen == ["wait", "note", "echo"])
    release.set()
    assert result_of(await call) == {"text": SECRET}
    assert pair.ours.calls_remembered == 0


async def test_no_key_is_kept_when_nobody_waits_any_more(pair: Pair) -> None:
    begun, release = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_: Message) -> str:
        begun.release()
        await release.wait()
        return "late"

    await pair.start(slow)
    late = asyncio.create_task(pair.call(timeout=0.3))
    cancelled = asyncio.create_task(pair.call())
    await begun.acquire()
    await begun.acquire()
    cancelled.cancel()
    with pytest.raises(NuropbTimeoutError):
        await late
    await asyncio.wait([cancelled])
    assert pair.ours.calls_remembered == 0
    assert pair.theirs.calls_remembered == 2  # their answers will be encrypted all the same
    release.set()
    await pair.nothing_remembered()


async def test_no_key_is_kept_of_handlers_that_are_cut_off(pair: Pair) -> None:
    begun = asyncio.Event()

    async def stuck(_: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    await pair.start(stuck)
    call = asyncio.create_task(pair.call(text=SECRET))
    await begun.wait()
    await pair.service.stop(grace=0.05)
    assert pair.theirs.calls_remembered == 0
    # It went back to the queue, and what comes next can read it.
    pair.theirs = serving()
    recorder = Recorder()
    await pair.mesh.service(recorder, encryptor=pair.theirs)
    assert result_of(await call) == {"text": SECRET}
    assert recorder.seen[0].redelivered


class Slow(Encryptor):
    """Its private key is used when it is told to."""

    def __init__(self) -> None:
        super().__init__("orders", private_key("orders"))
        self.begun, self.go_on = threading.Event(), threading.Event()

    def open_request(self, payload: bytes, correlation_id: str) -> bytes:
        self.begun.set()
        assert self.go_on.wait(10)
        return super().open_request(payload, correlation_id)


async def test_no_key_is_kept_of_a_body_that_is_being_opened_at_the_end(pair: Pair) -> None:
    pair.theirs = slow = Slow()
    recorder = Recorder()
    await pair.start(recorder)
    call = asyncio.create_task(pair.call(n=1))
    assert await asyncio.to_thread(slow.begun.wait, 10)
    await pair.service.stop(grace=0.05)
    slow.go_on.set()
    await eventually(lambda: keys_of(slow).unwrapped)  # the thread has come to its end all the same
    await eventually(lambda: slow.calls_remembered == 0)
    assert recorder.seen == []
    await pair.service.start()
    assert result_of(await call) == {"n": 1}


@pytest.mark.parametrize("finished", ["before", "after"])
async def test_a_redelivery_is_answered_encrypted_too(pair: Pair, finished: str) -> None:
    """The service loses its channel while it handles a request.

    The handler finishes before the message is delivered again, and runs once more, or after.
    """
    release = asyncio.Event()
    seen: list[bool] = []

    async def slow(message: Message) -> Any:
        seen.append(message.redelivered)
        await release.wait()
        return message.payload["params"]

    await pair.start(slow)
    call = asyncio.create_task(pair.call(text=SECRET))
    await eventually(lambda: seen)
    if finished == "before":
        pair.service.on_state_change(lambda *_: release.set())  # long before it is delivered again
    spoil(ports_of(pair.service)[-1])
    if finished == "after":
        await joined(pair.service)
        release.set()
    assert result_of(await call) == {"text": SECRET}
    expected = [False, True] if finished == "before" else [False]
    await eventually(lambda: seen == expected)
    await pair.nothing_remembered()
    assert pair.client.state is State.READY
