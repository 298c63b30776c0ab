"""Threads for synchronous methods, in a pool of their own.

The event loop's default pool resolves host names and unwraps keys; methods that block in it would
keep a connection from coming back.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import FrameType
from typing import Any, Final

from ..exceptions import TransportClosedError

_SPARE: Final = 4
"""Threads for each method that may run at a time: a method past its deadline keeps its thread, and
others should not wait for it."""
_UNLIMITED: Final = 40
"""Number of methods at a time to have threads for when there is no limit."""
_EXITING: Final = "interpreter shutdown"
"""In the texts of errors of pools and threads once the main thread has ended (CPython 3.9 on)."""


class Threads:
    """Runs calls in threads, which are started when needed and kept until close()."""

    def __init__(self, name: str, at_a_time: int) -> None:
        self._name = name
        self._size = (at_a_time or _UNLIMITED) * _SPARE
        self._pool: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Make a new pool; threads of an earlier run, or of a parent process, are not used."""
        self._pool = ThreadPoolExecutor(self._size, thread_name_prefix=self._name)

    async def run(self, call: Callable[[], Any]) -> Any:
        """Return or raise the outcome of `call`; cancelling ends the wait, not the call."""
        if self._pool is None:
            raise TransportClosedError("no threads for methods: start() comes first")
        loop = asyncio.get_running_loop()
        try:
            outcome = loop.run_in_executor(self._pool, copy_context().run, _outcome, call)
        except RuntimeError as e:
            if _EXITING not in str(e):
                raise
            # Pools take nothing any more: until stop(), or the end of the connection, returns the
            # message to its queue, nothing is to become of it.
            outcome = loop.create_future()
        value, error = await outcome
        if error is None:
            return value
        try:
            raise error
        finally:
            error = None  # its traceback holds this frame

    def close(self) -> None:
        """Begin no more calls; running ones end by themselves."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


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


def _outcome(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Return result and error: a future refuses some exceptions (StopIteration), and never ends."""
    try:
        return call(), None
    except BaseException as e:  # noqa: BLE001 - run() raises it again
        return None, e
