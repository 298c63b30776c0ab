"""Deadlines of many things at once, with one timer per length of time.

Things that wait equally long expire in the order in which they were added, so only the first of
them needs a timer. A timer each would cost several times what is kept here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

_FEW_LENGTHS = 64
"""Lengths of time that are kept, timer and all, whether anything waits so long or not."""


WARN_AT = 0.8
"""The share of its time after which a thing is warned of."""


class Deadlines(Generic[T]):
    """Calls `expire` with each thing whose time is over, unless it was removed before.

    With `warn`, that is called before, with each thing that has used WARN_AT of its time. It
    costs nothing for a thing that does not come so far.
    """

    def __init__(
        self, expire: Callable[[T], None], *, warn: Callable[[T], None] | None = None
    ) -> None:
        self._expire = expire
        self._warn = warn
        self._warned: dict[float, float] = {}
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
            first = seconds if self._warn is None else seconds * WARN_AT
            self._timers[seconds] = self._call_later(first, self._due, seconds)
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
            self._warned.pop(seconds, None)
        self._many = max(_FEW_LENGTHS, 2 * len(self._queues))

    def _due(self, seconds: float) -> None:
        queue = self._queues[seconds]
        now = monotonic()
        while queue:
            thing, deadline = next(iter(queue.items()))
            if deadline > now:
                next_look = deadline if self._warn is None else self._look_ahead(seconds, now)
                self._timers[seconds] = self._call_later(next_look - now, self._due, seconds)
                return
            del queue[thing]
            self._expire(thing)
        if self._queues.get(seconds) is queue:  # whoever expired may have cleared all
            del self._queues[seconds], self._timers[seconds]
            self._warned.pop(seconds, None)

    def _look_ahead(self, seconds: float, now: float) -> float:
        """Warn of what is near its deadline; when to look again, for this or for a deadline."""
        ahead = seconds * (1 - WARN_AT)
        warned = self._warned.get(seconds, 0.0)
        near: list[T] = []
        next_look = 0.0
        for thing, deadline in self._queues[seconds].items():
            next_look = next_look or deadline
            if deadline - ahead > now:
                next_look = min(next_look, deadline - ahead)
                break
            if deadline > warned:
                near.append(thing)
                self._warned[seconds] = deadline
        if self._warn is not None:
            for thing in near:
                self._warn(thing)
        return next_look

    def clear(self) -> None:
        """Forget all."""
        for timer in self._timers.values():
            timer.cancel()
        for queue in self._queues.values():
            queue.clear()
        self._queues.clear()
        self._timers.clear()
        self._warned.clear()
