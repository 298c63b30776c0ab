"""Let at most so many calls of a method run at a time; the others wait in order."""

from __future__ import annotations

import asyncio

from ..exceptions import NuropbTimeoutError
from ..protocol.handled import current
from ..safe_logging import Blame, blame


class Turns:
    """Turns of one method, `most` at a time, for `async with turns.next()`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop: asyncio.AbstractEventLoop | None = None
        self._semaphore = asyncio.Semaphore(most)

    def next(self) -> asyncio.Semaphore:
        """Return the semaphore of this event loop: a mesh can be started in one after another."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._semaphore = loop, asyncio.Semaphore(self._most)
        return self._semaphore


def check_time() -> None:
    """Raise NuropbTimeoutError if the time of the message was over before its turn came."""
    message = current()
    left = None if message is None else message.left()
    if left is not None and left <= 0:
        text = "its time was over before it had its turn (max_concurrency): it has not been run"
        raise blame(NuropbTimeoutError(text), Blame.SENDER)
