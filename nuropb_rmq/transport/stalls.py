"""Find the code that blocks an event loop, and log it.

A thread watches the loop. This costs nothing per message, and shows the line that blocks while it
blocks, which no measurement afterwards could.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

from ..safe_logging import ServiceLog, report
from . import stacks

log = ServiceLog(logging.getLogger("nuropb_rmq.transport"), "", "")  # a loop has many services

STALLED_FOR: Final = 1.0
"""Seconds for which a call must be seen blocking the loop before it is logged."""
LATELY: Final = 10.0
"""Seconds after a stall for which blocked_lately() tells of it: as long as probes' usual period."""
BEAT: Final = 0.25
"""Seconds between two timestamps of the loop, and between two checks of them."""

_STALLED: Final = (
    "the event loop, and heartbeats with it, is blocked for %.1f s so far, in %s: run blocking "
    "code in a thread (asyncio.to_thread)"
)
_SHOWN: Final = "the event loop is blocked for %.1f s so far (watchdog); all threads:\n%s"
_DISPATCHER: Final = "nuropb_rmq.transport.dispatcher"
_OURS: Final = "nuropb_rmq."
_LOOPS: Final = ("asyncio.", "uvloop", "selectors", "contextvars")

_watches: dict[asyncio.AbstractEventLoop, _Watch] = {}


def watch(watchdog: float = 0.0, *, unwatched: bool = False) -> Callable[[], None]:
    """Watch the running loop; return a function that ends this, to call in the same thread.

    A call that blocks the loop for `watchdog` seconds is logged with the stacks of all threads; 0:
    none is. All callers in one loop share one thread, and the shortest time. `unwatched` watches
    only with a `watchdog`: on memory:// there are no heartbeats to miss, and a thread is a tenth of
    a short test.
    """
    if unwatched and not watchdog:
        return _nothing
    loop = asyncio.get_running_loop()
    found = _watches.get(loop)
    if found is None:
        found = _watches[loop] = _Watch(loop)
    return found.share(watchdog or math.inf)


def _nothing() -> None:
    """Nothing is watched."""


def blocked_lately() -> str | None:
    """Return for how long a call blocked the running loop in the last seconds; None: none did."""
    try:
        found = _watches.get(asyncio.get_running_loop())
    except RuntimeError:
        return None
    if found is None or time.monotonic() - found.stalled_until > LATELY:
        return None
    return f"a call blocked the event loop for {found.stalled_for:.1f} s"


class _Watch:
    """One loop and the thread that watches it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        # Of each user, the seconds after which all stacks are logged.
        self._watchdogs: dict[object, float] = {}
        self._over = threading.Event()
        # Monotonic time at which the loop last ran _beat().
        self._beaten = time.monotonic()
        self._timer = loop.call_later(BEAT, self._beat)
        self.stalled_for = 0.0
        """Seconds for which the latest stall has lasted."""
        self.stalled_until = -math.inf
        """Monotonic time at which it was last seen."""
        threading.Thread(target=self._look, name="nuropb-stalls", daemon=True).start()

    def share(self, watchdog: float) -> Callable[[], None]:
        """Count one more user; return a function that counts one less, once."""
        user = object()
        self._watchdogs[user] = watchdog
        return partial(self._leave, user)

    def _leave(self, user: object) -> None:
        # A stop() that was cancelled is made once more, and leaves again.
        if self._watchdogs.pop(user, None) is not None and not self._watchdogs:
            self._timer.cancel()
            self._over.set()
            _watches.pop(self._loop, None)

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _look(self) -> None:
        """Log each call that blocks the loop for STALLED_FOR seconds, once, and for the watchdog's.

        The same call must be seen all that time: a busy loop or machine is late as well, and no
        single call is the cause.
        """
        seen: FrameType | None = None  # kept alive, so that no new frame can have its identity
        since, logged, shown = 0.0, False, False
        while not self._over.wait(BEAT) and not self._loop.is_closed():
            now = time.monotonic()
            late = now - self._beaten > BEAT and self._loop.is_running()
            frames = _frames(self._thread) if late else []
            if not frames or frames[0] is not seen:
                seen = frames[0] if frames else None
                since, logged, shown = now, False, False
            blocked = now - since
            if frames and blocked >= STALLED_FOR:
                self.stalled_until, self.stalled_for = now, blocked
                if not logged:
                    logged = True
                    _log(logging.WARNING, _STALLED, blocked, partial(_named, frames))
            if frames and not shown and blocked >= min(self._watchdogs.values(), default=math.inf):
                shown = True
                _log(logging.ERROR, _SHOWN, blocked, partial(stacks.of_threads, self._thread))
            frames.clear()  # frames keep all their local variables alive
        if not self._over.is_set():  # the loop was closed without _leave()
            _watches.pop(self._loop, None)


def _log(level: int, text: str, seconds: float, place: Callable[[], str]) -> None:
    """Log a blocked loop. What a program's own logging raises must not end the watch."""
    try:
        log.log(level, text, seconds, place(), seconds=round(seconds, 3))
    except Exception as e:  # noqa: BLE001 - see above
        report(log, logging.ERROR, e, "a blocked event loop could not be logged")


def _frames(thread: int) -> list[FrameType]:
    """Return the frames of the handler that runs in a thread, innermost last.

    Without a handler, those of any other call of the loop; [] when there is none.
    """
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - its documented name
    inward: list[FrameType] = []
    while frame is not None:
        inward.insert(0, frame)
        frame = frame.f_back
    modules = [f"{frame.f_globals.get('__name__', '')}." for frame in inward]
    if f"{_DISPATCHER}." in modules:
        start = modules.index(f"{_DISPATCHER}.")
        ours = next((n for n in range(start, len(modules)) if not modules[n].startswith(_OURS)), -1)
        return inward[ours:]
    start = max((n for n, name in enumerate(modules) if name.startswith(_LOOPS)), default=-1) + 1
    return inward[start:] if start else []


def _named(frames: list[FrameType]) -> str:
    handler, innermost = frames[0], frames[-1]
    if innermost is handler:
        return _place(handler)
    return f"{handler.f_code.co_qualname}, by {_place(innermost)}"


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename}, line {frame.f_lineno})"
