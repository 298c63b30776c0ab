"""How long handlers may run: a warning when most of the time is over, and the end of it.

Each message whose handler waits passes here, so one timer looks at all of them, and the time that
counts is that of their arrival, which is known anyway.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Final

from .delivery import Delivery, Pace

logger = logging.getLogger("nuropb_rmq.transport")

SLOW_SHARE: Final = 0.8
"""Of handler_timeout: when a handler that still runs is warned of."""


class HandlerDeadlines:
    """Watches deliveries whose handlers wait, for `timeout` seconds each."""

    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._slow_after = timeout * SLOW_SHARE
        self._waiting: dict[Delivery, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, work: Delivery) -> None:
        """Watch a delivery whose handler waits for the first time."""
        self._waiting[work] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._slow_after, self._look)

    def remove(self, work: Delivery) -> None:
        """Its handler has ended."""
        self._waiting.pop(work, None)

    def clear(self) -> None:
        """Watch nothing any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = monotonic()
        for work in tuple(self._waiting):
            taken = now - work.arrived
            if work.pace is Pace.IN_TIME and taken >= self._slow_after:
                work.pace = Pace.SLOW
                self._warn(work)
            elif work.pace is Pace.SLOW and taken >= self._timeout:
                work.pace = Pace.OVERDUE
                del self._waiting[work]
                if work.task is not None:
                    work.task.cancel()
        self._timer = None
        if self._waiting:
            soonest = min(map(self._due, self._waiting))
            self._timer = self._loop.call_later(max(soonest - now, 0), self._look)

    def _due(self, work: Delivery) -> float:
        """When this delivery is to be looked at again."""
        return work.arrived + (self._timeout if work.pace is Pace.SLOW else self._slow_after)

    def _warn(self, work: Delivery) -> None:
        logger.warning(
            "%s %s has been handled for %g s, and will be cancelled after %g (handler_timeout)",
            work.head.kind.value,
            work.head.correlation_id,
            self._slow_after,
            self._timeout,
        )
