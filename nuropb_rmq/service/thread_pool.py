"""Threads for synchronous methods, in a pool of their own.

The event loop's default pool resolves host names and unwraps keys; methods that block in it would
keep a connection from coming back.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, Final, TypeAlias

from ..exceptions import TransportClosedError

_Call: TypeAlias = Callable[[], Any]
_Outcome: TypeAlias = tuple[Any, BaseException | None]

_SPARE: Final = 4
"""Threads for each method that may run at a time: a method past its deadline keeps its thread, and
others should not wait for it."""
_UNLIMITED: Final = 40
"""Number of methods at a time to have threads for when there is no limit."""
_EXITING: Final = "interpreter shutdown"
"""In the texts of errors of pools and threads once the main thread has ended (CPython 3.9 on)."""


class Threads:
    """Runs calls in threads, which are started when needed and kept until close().

    Its plain form is `await loop.run_in_executor(pool, copy_context().run, call)`, which makes two
    futures for a call and wakes the loop for each. Here outcomes that come together wake it once.
    """

    def __init__(self, name: str, at_a_time: int) -> None:
        self._name = name
        self._size = (at_a_time or _UNLIMITED) * _SPARE
        self._calls: _Calls | None = None

    def open(self) -> None:
        """Make a new pool; threads of an earlier run, or of a parent process, are not used."""
        pool = ThreadPoolExecutor(self._size, thread_name_prefix=self._name)
        self._calls = _Calls(pool, asyncio.get_running_loop())

    async def run(self, call: _Call) -> Any:
        """Return or raise the outcome of `call`; cancelling ends the wait, not the call."""
        if self._calls is None:
            raise TransportClosedError("no threads for methods: start() comes first")
        value, error = await self._calls.begin(call)
        if error is None:
            return value
        try:
            raise error
        finally:
            error = None  # its traceback holds this frame

    def close(self) -> None:
        """Begin no more calls; running ones end by themselves."""
        if self._calls is not None:
            self._calls.close()
            self._calls = None


class _Calls:
    """Calls in a pool for one event loop."""

    def __init__(self, pool: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._waiting: set[asyncio.Future[_Outcome]] = set()
        """For a thread."""
        self._ended: deque[tuple[asyncio.Future[_Outcome], _Outcome]] = deque()
        self._woken = False

    def begin(self, call: _Call) -> asyncio.Future[_Outcome]:
        """Have a thread make a call; cancelling the future before one took it calls it off."""
        outcome: asyncio.Future[_Outcome] = self._loop.create_future()
        self._waiting.add(outcome)
        try:
            self._pool.submit(self._make, outcome, copy_context(), call)
        except RuntimeError as e:
            self._waiting.discard(outcome)
            if _EXITING not in str(e):
                raise
            # Pools take nothing any more: until stop(), or the end of the connection, returns the
            # message to its queue, nothing is to become of it.
        return outcome

    def close(self) -> None:
        """Cancel the futures of calls that have not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        while self._waiting:
            self._waiting.pop().cancel()

    def _make(self, outcome: asyncio.Future[_Outcome], context: Context, call: _Call) -> None:
        # In a thread. Sets and deques are safe there; `_woken` errs on the side of waking.
        self._waiting.discard(outcome)
        if outcome.cancelled():
            return
        self._ended.append((outcome, context.run(_outcome, call)))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._ended:
            outcome, ended = self._ended.popleft()
            if not outcome.done():
                outcome.set_result(ended)


def frame_of_call(waiting: FrameType) -> FrameType | None:
    """Return the innermost frame of the thread that runs the call which `waiting` waits for.

    None unless `waiting` is a frame of run(), and its call has begun.
    """
    if waiting.f_code is not Threads.run.__code__:
        return None
    call = waiting.f_locals["call"]
    for innermost in sys._current_frames().values():  # noqa: SLF001 - its documented name
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_code is _outcome.__code__ and frame.f_locals["call"] is call:
                return innermost
            frame = frame.f_back
    return None


def _outcome(call: _Call) -> _Outcome:
    """Return result and error: a future refuses some exceptions (StopIteration), and never ends."""
    try:
        return call(), None
    except BaseException as e:  # noqa: BLE001 - run() raises it again
        return None, e
