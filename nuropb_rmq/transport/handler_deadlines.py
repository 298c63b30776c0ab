"""Watch handlers that run for long: warn, show where they wait, and cancel them.

handler_timeout: a warning when most of it is over, and the handler is cancelled at its end.
watchdog: its stack is logged. Every message whose handler waits passes here, so one timer serves
all of them, and time counts from a message's arrival, which is recorded anyway.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from . import stacks
from .delivery import Delivery, Pace

SLOW_SHARE: Final = 0.8
"""Share of handler_timeout after which a running handler is logged."""


class HandlerDeadlines:
    """The steps that are taken with deliveries whose handlers wait, each after its time.

    `timeout` is handler_timeout, and `watchdog` that of the settings; 0: there is none.
    """

    def __init__(self, timeout: float, watchdog: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._slow_after = timeout * SLOW_SHARE
        self._watchdog = watchdog
        steps = [(self._slow_after, self._warn)]
        if watchdog:  # at the latest just before the handler is cancelled
            steps.append((min(watchdog, timeout), self._show))
        steps.append((timeout, self._cancel))
        # In the order of their times; the last one is the cancellation.
        self._steps = sorted(steps, key=lambda step: step[0])
        # The number of each delivery's next step.
        self._waiting: dict[Delivery, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, work: Delivery) -> None:
        """Watch a delivery whose handler has begun to wait."""
        self._waiting[work] = 0
        if self._timer is None:
            # It may have arrived long before: in an outage, messages wait for their turn.
            due = max(self._due(work) - monotonic(), 0)
            self._timer = self._loop.call_later(due, self._look)

    def remove(self, work: Delivery) -> None:
        """Stop watching a delivery whose handler has ended."""
        self._waiting.pop(work, None)

    def clear(self) -> None:
        """Watch nothing any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = monotonic()
        try:
            for work, number in tuple(self._waiting.items()):
                after, step = self._steps[number]
                if now - work.arrived >= after:
                    self._waiting[work] = number + 1
                    step(work)
        finally:  # whatever a program's own logging raises, the others keep their deadlines
            self._timer = None
            if self._waiting:
                soonest = min(map(self._due, self._waiting))
                self._timer = self._loop.call_later(max(soonest - now, 0), self._look)

    def _due(self, work: Delivery) -> float:
        """Return the monotonic time of this delivery's next step."""
        return work.arrived + self._steps[self._waiting[work]][0]

    def _warn(self, work: Delivery) -> None:
        work.log.warning(
            "%s %s has been handled for %g s, and will be cancelled after %g (handler_timeout)",
            work.head.kind.value,
            work.head.correlation_id,
            self._slow_after,
            self._timeout,
            about=work,
            seconds=self._slow_after,
        )

    def _show(self, work: Delivery) -> None:
        if work.task is not None:
            work.log.error(
                "%s %s has been handled for %g s (watchdog), and is here:\n%s",
                work.head.kind.value,
                work.head.correlation_id,
                self._watchdog,
                stacks.of_task(work.task),
                about=work,
                seconds=self._watchdog,
            )

    def _cancel(self, work: Delivery) -> None:
        work.pace = Pace.OVERDUE
        del self._waiting[work]
        if work.task is not None:
            work.task.cancel()
