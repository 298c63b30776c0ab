"""Warnings that a peer can cause: each is logged, until there are too many alike in a minute.

Whoever may send to a service may also send thousands of messages that it refuses. The log shows the
first ones, and a line a minute that says how many more there were.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

PERIOD: Final = 60.0
"""Seconds over which equal warnings are counted."""
SHOWN: Final = 10
"""Of equal warnings in one period, how many are logged as they are."""
_MOST_KEYS: Final = 64
_OTHERS: Final = "other messages"


class Repeats:
    """Counts equal warnings of one logger; used on an event loop, made anywhere."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._counts: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def warning(self, key: str, text: str) -> None:
        """Log `text`, or count it; those with the same `key` are equal, and the sum names it."""
        if key not in self._counts and len(self._counts) >= _MOST_KEYS:
            key = _OTHERS
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD, self.sum_up)
        if count <= SHOWN:
            self._logger.warning("%s", text)

    def sum_up(self) -> None:
        """Log how many were not shown, and begin anew."""
        counts, self._counts = self._counts, {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for key, count in counts.items():
            if count > SHOWN:
                self._logger.warning("%s: %d more like these", key, count - SHOWN)
