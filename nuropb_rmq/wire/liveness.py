"""Whether the broker is there still: by what is heard of it, and by what aiormq is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from . import frames

HEARTBEAT_EVERY = 1.0
"""Seconds between heartbeat frames that aiormq is shown while frames are kept from it."""


class Liveness:
    """`lost(reason)` is called when nothing at all was heard for too long."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        show: Callable[[bytes], None],
        lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._show = show
        self._lost = lost
        self._last_shown = self._last_heard = loop.time()
        self._patience = 0.0
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    def heard(self) -> None:
        """Something was read."""
        self._last_heard = self._loop.time()

    def watch(self, patience: float) -> None:
        """Call `lost` when nothing has been heard for `patience` seconds.

        aiormq does so as well, in its own time: up to half a heartbeat behind 3 heartbeats and 3 s.
        """
        self._patience = patience
        self._check()

    def _check(self) -> None:
        if self._ended:
            return
        silent = self._loop.time() - self._last_heard
        if silent < self._patience:
            self._timer = self._loop.call_at(self._last_heard + self._patience, self._check)
        else:
            self._lost(f"nothing was heard from the broker for {silent:.0f} s (heartbeat)")

    def show(self) -> None:
        """aiormq judges liveness by the frames that it sees: show it one now and then."""
        if self._last_heard - self._last_shown >= HEARTBEAT_EVERY:
            self._last_shown = self._last_heard
            self._show(frames.HEARTBEAT_FRAME)

    def end(self) -> None:
        """The connection has ended."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
