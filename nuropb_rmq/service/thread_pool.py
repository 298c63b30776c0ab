"""Threads for synchronous methods: a pool of one's own, so that nothing else waits for theirs.

The event loop's default pool resolves host names and unwraps keys; methods that block in it would
keep a connection from coming back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final

from ..exceptions import TransportClosedError

__all__ = ["Threads"]

_SPARE: Final = 4
"""A method that is past its deadline keeps its thread: until there are so many times as many of
them as may run at a time, others do not wait for them."""
_UNLIMITED: Final = 40
"""Threads for as many methods at a time as there may be, when their number has no limit."""


class Threads:
    """Runs calls in threads that are started when they are needed, and kept until close()."""

    def __init__(self, name: str, at_a_time: int) -> None:
        self._name = name
        self._size = (at_a_time or _UNLIMITED) * _SPARE
        self._pool: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Begin; threads that an earlier process or run has started are not used."""
        self._pool = ThreadPoolExecutor(self._size, thread_name_prefix=self._name)

    async def run(self, call: Callable[[], Any]) -> Any:
        """What `call` returns or raises, whatever that is. Cancelled, it does not wait for it."""
        if self._pool is None:
            raise TransportClosedError("there are no threads: it is not started")
        loop = asyncio.get_running_loop()
        value, error = await loop.run_in_executor(self._pool, copy_context().run, _outcome, call)
        if error is None:
            return value
        try:
            raise error
        finally:
            error = None  # its traceback holds this frame

    def close(self) -> None:
        """Start no more; calls that run are left to end by themselves."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _outcome(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """A future would refuse some exceptions (StopIteration), and then be never done."""
    try:
        return call(), None
    except BaseException as e:  # noqa: BLE001 - it is raised again where somebody waits for it
        return None, e
