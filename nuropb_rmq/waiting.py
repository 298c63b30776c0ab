"""Ways to wait: for futures that outlive their waiter, and for conditions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")

AGAIN_AFTER = 0.5
"""Seconds after which a task that has not ended is cancelled once more.

Once may not be enough: before Python 3.12 asyncio.wait_for() loses a cancellation that comes in the
turn of the loop in which its future is done. aiormq waits so.
"""


class Changes:
    """Waiters for conditions. Code that may have made a condition true calls `wake`."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()` is true; it is called now and after each `wake`."""
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def wake(self) -> None:
        """Let all waiters check their conditions."""
        if not self._waiters:
            return
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def forget(self) -> None:
        """Drop waiters whose event loop is closed, or another process's."""
        self._waiters.clear()


async def finished(future: asyncio.Future[T]) -> None:
    """Wait until `future` is done, also when this is cancelled; raise CancelledError then."""
    interrupted: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as e:
            interrupted = e
    if interrupted is not None:
        raise interrupted


async def cancelled(task: asyncio.Task[T], deadline: float) -> None:
    """Cancel a task, again and again until it ends or `deadline`, in loop time, has passed.

    Its result or error is ignored.
    """
    loop = asyncio.get_running_loop()
    while not task.done() and loop.time() < deadline:
        task.cancel()
        await asyncio.wait((task,), timeout=AGAIN_AFTER)
    task.add_done_callback(_take_note)


@asynccontextmanager
async def timeout_at(deadline: float) -> AsyncIterator[None]:
    """Do as asyncio.timeout_at(), for a body of several steps of which one may lose a cancellation.

    The body would go on with the next step, and that may wait for ever: it is cancelled again and
    again until it has ended. When it ends as if nothing had been, this raises what was lost:
    TimeoutError after the deadline, CancelledError when its task was cancelled.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.timeout_at() needs one, too
    before = task.cancelling()
    async with asyncio.timeout_at(deadline):
        again: asyncio.TimerHandle
        more = 0

        def cancel() -> None:
            nonlocal again, more
            more += 1
            task.cancel()
            again = loop.call_later(AGAIN_AFTER, cancel)

        again = loop.call_at(deadline + AGAIN_AFTER, cancel)
        try:
            yield
        finally:
            again.cancel()
            for _ in range(more):
                task.uncancel()
            if task.cancelling() > before:
                raise asyncio.CancelledError


def time_limit(seconds: float) -> AbstractAsyncContextManager[None]:
    """Do as timeout_at(), `seconds` from now."""
    return timeout_at(asyncio.get_running_loop().time() + seconds)


async def shielded(future: asyncio.Future[T]) -> T:
    """Return the result of `future`, or raise its error; cancelling this leaves it running.

    After a cancellation its error is ignored, and not logged: asyncio.shield() would pass it to
    the event loop's exception handler (CPython 3.14).
    """
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError:
        future.add_done_callback(_take_note)
        raise
    return future.result()


def _take_note(future: asyncio.Future[T]) -> None:
    """Keep asyncio from logging that the error was never retrieved."""
    if not future.cancelled():
        future.exception()


def runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this event loop runs in this thread."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def in_event_loop() -> bool:
    """Return whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
