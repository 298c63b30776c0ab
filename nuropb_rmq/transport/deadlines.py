"""Deadlines of many things at once, with one timer per length of time.

Things that wait equally long expire in the order in which they were added, so only the first of
them needs a timer. A timer each would cost several times what is kept here.

Why: docs/decisions/010-deadlines.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

_FEW_LENGTHS = 64
"""Lengths of time that are kept, timer and all, whether anything waits so long or not."""


class Deadlines(Generic[T]):
    """Calls `expire` with each thing whose time is over, unless it was removed before."""

    def __init__(self, expire: Callable[[T], None]) -> None:
        self._expire = expire
        self._call_later = asyncio.get_running_loop().call_later
        self._queues: dict[float, dict[T, float]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}
        self._many = _FEW_LENGTHS

    def add(self, thing: T, seconds: float) -> None:
        """`thing` expires in so many seconds."""
        queue = self._queues.get(seconds)
        if queue is None:
            if len(self._queues) >= self._many:
                self._forget_unused()
            queue = self._queues[seconds] = {}
            self._timers[seconds] = self._call_later(seconds, self._due, seconds)
        queue[thing] = monotonic() + seconds

    def remove(self, thing: T, seconds: float) -> None:
        """It does not expire any more; `seconds` are those that it was added with."""
        queue = self._queues.get(seconds)
        if queue is not None:
            queue.pop(thing, None)

    def _forget_unused(self) -> None:
        """Lengths that nothing waits for: whoever computes its timeouts has many of them."""
        for seconds in [length for length, queue in self._queues.items() if not queue]:
            del self._queues[seconds]
            self._timers.pop(seconds).cancel()
        self._many = max(_FEW_LENGTHS, 2 * len(self._queues))

    def _due(self, seconds: float) -> None:
        queue = self._queues[seconds]
        now = monotonic()
        while queue:
            thing, deadline = next(iter(queue.items()))
            if deadline > now:
                self._timers[seconds] = self._call_later(deadline - now, self._due, seconds)
                return
            del queue[thing]
            self._expire(thing)
        if self._queues.get(seconds) is queue:  # whoever expired may have cleared all
            del self._queues[seconds], self._timers[seconds]

    def clear(self) -> None:
        """Forget all."""
        for timer in self._timers.values():
            timer.cancel()
        for queue in self._queues.values():
            queue.clear()
        self._queues.clear()
        self._timers.clear()
