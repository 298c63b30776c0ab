"""Futures that need not be awaited: an error that was never retrieved is logged."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import Counter
from typing import TypeVar

logger = logging.getLogger("nuropb_rmq.transport")

T = TypeVar("T")


class Ignorable(asyncio.Future[T]):
    """A future that need not be awaited: an error that was never retrieved is logged.

    Equal errors of one turn of the loop are one line with their number.
    """

    __slots__ = ()

    failure: str
    """The log's words for an error of it, before the error's own text."""

    def __del__(self) -> None:
        # asyncio would call its exception handler here, with a text that explains nothing.
        if self._log_traceback:
            self._log_traceback = False
            _note(self.get_loop(), f"{self.failure}: {self.exception()}")


class _Tally:
    """Errors of one turn of the loop, logged in the next turn or when the loop has ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.texts: Counter[str] = Counter()

    def log(self) -> None:
        """Log each text once."""
        texts, self.texts = self.texts, Counter()
        for text, count in texts.items():
            logger.error("%s%s", text, "" if count == 1 else f" ({count} times)")

    def __del__(self) -> None:
        self.log()  # the loop ended before its next turn


_latest: weakref.ref[_Tally] | None = None


def _note(loop: asyncio.AbstractEventLoop, text: str) -> None:
    global _latest  # noqa: PLW0603 - a future being deleted knows only its loop
    tally = None if _latest is None else _latest()
    if tally is None or tally.loop is not loop:
        tally = _Tally(loop)
        _latest = weakref.ref(tally)
        if loop.is_running():  # else it is logged when `tally` goes out of use
            loop.call_soon_threadsafe(tally.log)
    tally.texts[text] += 1
