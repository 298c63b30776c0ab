"""Work whose waiter was cancelled, and deadlines of work that loses a cancellation."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress

import pytest

from nuropb_rmq import NuropbTransportError
from nuropb_rmq.transport.sealing import Sealing
from nuropb_rmq.waiting import AGAIN_AFTER, shielded, time_limit


async def failing(gate: asyncio.Event) -> int:
    await gate.wait()
    raise NuropbTransportError("lost")


async def test_it_returns_or_raises_what_comes_of_it() -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    future.set_result(3)
    assert await shielded(future) == 3
    gate = asyncio.Event()
    task = asyncio.create_task(failing(gate))
    gate.set()
    for _ in range(2):  # the second time it is done already
        with pytest.raises(NuropbTransportError, match="lost"):
            await shielded(task)


async def test_what_was_waited_for_is_cancelled() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    waiter = asyncio.create_task(shielded(task))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()


@pytest.mark.parametrize("first", ["the waiter is cancelled", "it fails", "in one turn"])
async def test_an_error_after_the_waiter_was_cancelled_is_not_logged(
    first: str, caplog: pytest.LogCaptureFixture
) -> None:
    """nothing_left_behind looks at what the loop's exception handler is told."""
    gate = asyncio.Event()
    task = asyncio.create_task(failing(gate))
    waiter = asyncio.create_task(shielded(task))
    await asyncio.sleep(0)
    if first == "it fails":
        gate.set()
        await asyncio.wait([task])  # and the waiter has not gone on yet
    elif first == "in one turn":
        gate.set()
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled() or isinstance(waiter.exception(), NuropbTransportError)
    gate.set()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    del task, waiter
    gc.collect()
    assert caplog.messages == []


class Broken:
    """An encryptor that takes its time, and fails."""

    def __init__(self) -> None:
        self.asked, self.fails = threading.Event(), threading.Event()

    def encrypt_payload(
        self, payload: bytes, correlation_id: str, service_name: str | None = None
    ) -> bytes:
        raise NotImplementedError

    def decrypt_payload(self, payload: bytes, correlation_id: str) -> bytes:
        self.asked.set()
        self.fails.wait(10)
        raise ValueError("not a key of ours")


async def test_a_request_that_is_given_up_while_it_is_decrypted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = Broken()
    reading = asyncio.create_task(Sealing(broken).unseal(b"sealed", "an id"))
    assert await asyncio.to_thread(broken.asked.wait, 10)
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    broken.fails.set()
    await asyncio.get_running_loop().shutdown_default_executor()  # until the thread has ended
    await asyncio.sleep(0)
    gc.collect()
    assert caplog.messages == []


# -- deadlines ------------------------------------------------------------------------------


async def deaf(times: int) -> None:
    """As asyncio.wait_for() before Python 3.12 may, it loses cancellations, and goes on."""
    for _ in range(times):
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    await asyncio.Event().wait()


@pytest.mark.parametrize("times", [0, 1, 2])
async def test_a_deadline_holds_for_a_step_behind_one_that_lost_its_cancellation(
    times: int,
) -> None:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30), time_limit(0.01):
            await deaf(times)
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_is_none_of_the_deadline() -> None:
    async def work() -> None:
        async with time_limit(30):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.parametrize("ends_with", [None, OSError("reset")])
async def test_a_cancellation_that_the_body_lost_comes_at_its_end(
    ends_with: OSError | None,
) -> None:
    async def work() -> None:
        async with time_limit(30):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            if ends_with is not None:
                raise ends_with

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_body_that_ends_late_is_late() -> None:
    async def work() -> None:
        async with time_limit(0.01):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()


async def test_nothing_is_cancelled_behind_what_ends_in_time() -> None:
    async with time_limit(0.01):
        pass
    await asyncio.sleep(0.02 + AGAIN_AFTER)
