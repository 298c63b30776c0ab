"""Futures that nobody has to wait for: errors that nobody asked for are logged."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import Counter
from typing import TypeVar

logger = logging.getLogger("nuropb_rmq.transport")

T = TypeVar("T")


class Ignorable(asyncio.Future[T]):
    """A future that nobody has to wait for: an error that nobody asked for is logged, once.

    Equal errors of one turn of the loop are one line, which says how many they are.
    """

    __slots__ = ()

    what: str
    """What the log calls it."""

    def __del__(self) -> None:
        # asyncio calls its exception handler here, with a text that says nothing.
        if self._log_traceback:
            self._log_traceback = False
            _note(self.get_loop(), f"{self.what}: {self.exception()}")


class _Tally:
    """Errors of one turn of the loop. It tells of them in the next one, or when it is forgotten."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.texts: Counter[str] = Counter()

    def tell(self) -> None:
        """Log each text once."""
        texts, self.texts = self.texts, Counter()
        for text, count in texts.items():
            logger.error("%s%s", text, "" if count == 1 else f" ({count} times)")

    def __del__(self) -> None:
        self.tell()  # the loop ended before its next turn


_latest: weakref.ref[_Tally] | None = None


def _note(loop: asyncio.AbstractEventLoop, text: str) -> None:
    global _latest  # noqa: PLW0603 - futures are deleted wherever, and know nothing but their loop
    tally = None if _latest is None else _latest()
    if tally is None or tally.loop is not loop:
        tally = _Tally(loop)
        _latest = weakref.ref(tally)
        if loop.is_running():  # else it is told when this returns
            loop.call_soon_threadsafe(tally.tell)
    tally.texts[text] += 1
