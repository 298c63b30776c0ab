"""Detect a lost connection: nothing was read for too long, or our event loop stood still, so that
the broker heard nothing from us. Also gives aiormq the heartbeats that it must see."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from . import frames

HEARTBEAT_EVERY = 1.0
"""Seconds between the heartbeat frames that aiormq gets while frames are kept from it."""
LOST_AFTER: Final = 2
"""Heartbeat intervals without a turn of our event loop after which the connection counts as lost:
the broker waits for less (https://www.rabbitmq.com/docs/heartbeats)."""

# time.monotonic(), and with it asyncio's timers, stands still on Linux while the machine sleeps.
now: Callable[[], float] = time.monotonic
if hasattr(time, "CLOCK_BOOTTIME"):
    now = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class Liveness:
    """Calls `lost(reason)` when nothing was heard for too long, or our event loop stood still.

    If the loop makes no turn until `doubt_from`, it has stood still for longer than a heartbeat. A
    writer that finds this time passed first reads what has arrived meanwhile.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float],
        show: Callable[[bytes], None],
        lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._show = show
        self._lost = lost
        self._last_shown = self._last_heard = clock()
        # Seconds, until watch() sets them.
        self._patience = 0.0
        self._heartbeat = 0.0
        self.doubt_from = math.inf
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    def heard(self) -> None:
        """Note that something was read."""
        self._last_heard = self._clock()

    def watch(self, heartbeat: float, patience: float) -> None:
        """Call `lost` when nothing has been heard for `patience` seconds; check twice a heartbeat.

        aiormq closes a silent connection too, but later: after 3 to 3.5 heartbeats and 3 s.
        """
        self._heartbeat = heartbeat
        self._patience = patience
        self._check()

    def _check(self) -> None:
        if self._ended or self.stood_still():
            return
        at = self._clock()
        silent = at - self._last_heard
        if silent < self._patience:
            self.doubt_from = at + self._heartbeat
            due = min(self._heartbeat / 2, self._patience - silent)
            self._timer = self._loop.call_later(due, self._check)
        else:
            self._lost(f"nothing was heard from the broker for {silent:.0f} s (heartbeat)")

    def looked(self) -> None:
        """Allow writing until the loop is late again: what had arrived was read."""
        self.doubt_from = math.inf

    def stood_still(self) -> bool:
        """Return whether the loop stood still for too long; if so, call `lost`."""
        still = self._clock() - self.doubt_from + self._heartbeat
        if still <= LOST_AFTER * self._heartbeat:  # or minus infinity
            return False
        self._lost(
            f"this process, or its event loop, stood still for {still:.0f} s, and the broker has "
            "missed its heartbeats"
        )
        return True

    def show(self) -> None:
        """Give aiormq a heartbeat frame now and then: it judges liveness by the frames it sees."""
        if self._last_heard - self._last_shown >= HEARTBEAT_EVERY:
            self._last_shown = self._last_heard
            self._show(frames.HEARTBEAT_FRAME)

    def end(self) -> None:
        """Stop checking: the connection has ended."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
