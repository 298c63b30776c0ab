"""Threads for synchronous methods: outcomes, waits that end early, and what close() leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar

import pytest

from nuropb_rmq.exceptions import TransportClosedError
from nuropb_rmq.service.thread_pool import Threads


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    """A pool of four threads."""
    made = Threads("methods", 1)
    made.open()
    yield made
    made.close()


async def test_outcomes(threads: Threads) -> None:
    asked = ContextVar("asked", default=0)
    asked.set(7)
    assert await threads.run(asked.get) == 7
    assert (await threads.run(threading.current_thread)).name.startswith("methods")
    for kind in (KeyError, SystemExit):
        with pytest.raises(kind):
            await threads.run(raising(kind))
    with pytest.raises(RuntimeError, match="StopIteration"):  # PEP 479
        await threads.run(raising(StopIteration))


def raising(kind: type[BaseException]) -> Callable[[], None]:
    """Return a call that raises such an error."""

    def fail() -> None:
        raise kind("no")

    return fail


async def test_outcomes_that_come_together_wake_the_loop_once(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe
    woken: list[object] = []

    def note(call: Callable[[], None]) -> asyncio.Handle:
        woken.append(call)
        return wake(call)

    monkeypatch.setattr(loop, "call_soon_threadsafe", note)
    made: list[int] = []

    def work() -> None:
        made.append(1)

    calls = [asyncio.ensure_future(threads.run(work)) for _ in range(100)]
    await asyncio.sleep(0)  # they begin
    while len(made) < 100:
        threading.Event().wait(0.01)  # the loop stands still
    await asyncio.gather(*calls)
    assert 1 <= len(woken) <= 4  # a thread may not have seen that another one woke it


async def test_a_wait_that_is_cancelled_ends_alone(threads: Threads) -> None:
    began, release = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        release.wait(10)

    waiting = asyncio.ensure_future(threads.run(work))
    await asyncio.to_thread(began.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    assert await threads.run(lambda: "next") == "next"


async def test_a_call_that_no_thread_has_taken_is_called_off(threads: Threads) -> None:
    release = threading.Event()
    busy = [asyncio.ensure_future(threads.run(lambda: release.wait(10))) for _ in range(4)]
    made: list[str] = []
    cancelled = asyncio.ensure_future(threads.run(lambda: made.append("cancelled")))
    closed = asyncio.ensure_future(threads.run(lambda: made.append("closed")))
    await asyncio.sleep(0)
    cancelled.cancel()
    threads.close()
    for each in (cancelled, closed):
        with pytest.raises(asyncio.CancelledError):
            await each
    release.set()
    assert await asyncio.gather(*busy) == [True] * 4
    assert made == []
    with pytest.raises(TransportClosedError):
        await threads.run(lambda: None)


def test_a_call_that_outlives_its_loop() -> None:
    threads = Threads("methods", 1)
    began, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        release.wait(10)
        ended.set()

    async def begin() -> None:
        threads.open()
        waiting = asyncio.ensure_future(threads.run(work))
        await asyncio.to_thread(began.wait, 10)
        waiting.cancel()
        threads.close()

    async def again() -> str:
        threads.open()
        release.set()
        await asyncio.to_thread(ended.wait, 10)
        try:
            return str(await threads.run(lambda: "again"))
        finally:
            threads.close()

    asyncio.run(begin())
    assert asyncio.run(again()) == "again"
