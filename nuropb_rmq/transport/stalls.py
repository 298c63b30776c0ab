"""Names the code that an event loop stands still in.

A thread looks at the loop, so nothing is paid per message, and it sees what a measurement after the
fact could not: the line that blocks.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

logger = logging.getLogger("nuropb_rmq.transport")

STALLED_FOR: Final = 1.0
"""Seconds for which a call must have been seen to block the loop: then it is warned of."""
BEAT: Final = 0.25
"""Seconds between two signs of life of the loop, and between two looks at it."""

_DISPATCHER: Final = "nuropb_rmq.transport.dispatcher"
_OURS: Final = "nuropb_rmq."
_LOOPS: Final = ("asyncio.", "uvloop", "selectors", "contextvars")

_watches: dict[asyncio.AbstractEventLoop, _Watch] = {}


def watch() -> Callable[[], None]:
    """Watch the running loop until the function that is returned is called, in the same thread.

    Whoever asks for the same loop shares the thread.
    """
    loop = asyncio.get_running_loop()
    found = _watches.get(loop)
    if found is None:
        found = _watches[loop] = _Watch(loop)
    return found.share()


class _Watch:
    """One loop and the thread that looks at it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._users = 0
        self._over = threading.Event()
        self._beaten = time.monotonic()
        self._timer = loop.call_later(BEAT, self._beat)
        threading.Thread(target=self._look, name="nuropb-stalls", daemon=True).start()

    def share(self) -> Callable[[], None]:
        """Have one user more; returns what makes it one less."""
        self._users += 1
        return self._leave

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            self._timer.cancel()
            self._over.set()
            _watches.pop(self._loop, None)

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _look(self) -> None:
        """Warn once of each call that the loop does not come back from.

        It must have been seen for all that time: a loop that has much to do, or a machine that has
        no time for it, is late as well, and nobody is to blame.
        """
        seen: FrameType | None = None  # held: another one could else be taken for it
        since, told = 0.0, False
        while not self._over.wait(BEAT) and not self._loop.is_closed():
            now = time.monotonic()
            late = now - self._beaten > BEAT and self._loop.is_running()
            frames = _frames(self._thread) if late else []
            if not frames or frames[0] is not seen:
                seen = frames[0] if frames else None
                since, told = now, False
            elif now - since >= STALLED_FOR and not told:
                told = True
                logger.warning(
                    "the event loop stands still, and heartbeats with it, for %.1f s so far, in "
                    "%s: what blocks belongs in a thread (asyncio.to_thread)",
                    now - since,
                    _named(frames),
                )
            frames.clear()  # they hold all that their functions hold
        if not self._over.is_set():  # the loop was closed, and nobody is left who would say so
            _watches.pop(self._loop, None)


def _frames(thread: int) -> list[FrameType]:
    """The handler that runs in a thread, and all that it has called, innermost last.

    Without a handler, whatever else the loop has called; empty when it has called nothing.
    """
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - its documented name
    inward: list[FrameType] = []
    while frame is not None:
        inward.insert(0, frame)
        frame = frame.f_back
    modules = [f"{each.f_globals.get('__name__', '')}." for each in inward]
    if f"{_DISPATCHER}." in modules:
        start = modules.index(f"{_DISPATCHER}.")
        ours = next((n for n in range(start, len(modules)) if not modules[n].startswith(_OURS)), -1)
        return inward[ours:]
    start = max((n for n, each in enumerate(modules) if each.startswith(_LOOPS)), default=-1) + 1
    return inward[start:] if start else []


def _named(frames: list[FrameType]) -> str:
    handler, innermost = frames[0], frames[-1]
    if innermost is handler:
        return _place(handler)
    return f"{handler.f_code.co_qualname}, by {_place(innermost)}"


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename}, line {frame.f_lineno})"
