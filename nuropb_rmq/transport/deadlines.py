"""Deadlines of many things, with one timer per length of time.

Things with equal timeouts expire in the order in which they were added, so only the first of them
needs a timer. One timer per thing would cost several times as much.

Why: docs/decisions/010-deadlines.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import takewhile
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

_FEW_LENGTHS = 64
"""Number of timeouts whose queue and timer are kept even when nothing waits in them."""


class Deadlines(Generic[T]):
    """Deadlines of things. Calls `expire` with each thing whose time is over."""

    def __init__(self, expire: Callable[[T], None]) -> None:
        self._expire = expire
        self._call_later = asyncio.get_running_loop().call_later
        # Timeout in seconds → the things that wait so long, with their monotonic deadlines.
        self._queues: dict[float, dict[T, float]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}
        # Number of queues from which on the empty ones are deleted.
        self._most_queues = _FEW_LENGTHS

    def add(self, thing: T, seconds: float) -> None:
        """Let `thing` expire in `seconds`, unless it is removed before."""
        queue = self._queues.get(seconds)
        if queue is None:
            if len(self._queues) >= self._most_queues:
                self._forget_unused()
            queue = self._queues[seconds] = {}
            self._timers[seconds] = self._call_later(seconds, self._due, seconds)
        queue[thing] = monotonic() + seconds

    def remove(self, thing: T, seconds: float) -> None:
        """Let `thing` not expire; `seconds` must be those of its add()."""
        queue = self._queues.get(seconds)
        if queue is not None:
            queue.pop(thing, None)

    def _forget_unused(self) -> None:
        """Delete empty queues: computed timeouts would make ever more of them."""
        for seconds in [length for length, queue in self._queues.items() if not queue]:
            del self._queues[seconds]
            self._timers.pop(seconds).cancel()
        self._most_queues = max(_FEW_LENGTHS, 2 * len(self._queues))

    def _due(self, seconds: float) -> None:
        queue = self._queues[seconds]
        now = monotonic()
        # In one pass: a look for the first of a dict steps over all that were deleted before it.
        due = [thing for thing, _ in takewhile(lambda entry: entry[1] <= now, queue.items())]
        try:
            for thing in due:
                if queue.pop(thing, None) is not None:  # expire() may have removed others
                    self._expire(thing)
        finally:
            if self._queues.get(seconds) is queue:  # expire() may have called clear()
                self._wait(queue, seconds)

    def _wait(self, queue: dict[T, float], seconds: float) -> None:
        """Set the timer to the first deadline of a queue, or forget the queue."""
        first = next(iter(queue.values()), None)
        if first is None:
            del self._queues[seconds], self._timers[seconds]
        else:
            left = max(0.0, first - monotonic())
            self._timers[seconds] = self._call_later(left, self._due, seconds)

    def clear(self) -> None:
        """Let nothing expire any more."""
        for timer in self._timers.values():
            timer.cancel()
        for queue in self._queues.values():
            queue.clear()
        self._queues.clear()
        self._timers.clear()
