"""Limit the warnings that a peer can cause.

A sender may send thousands of messages that a service refuses. The log shows the first SHOWN equal
warnings of each PERIOD, and then one line with the number of further ones.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..safe_logging import Loggable, ServiceLog

PERIOD: Final = 60.0
"""Seconds over which equal warnings are counted."""
SHOWN: Final = 10
"""Number of equal warnings in one period that are logged one by one."""
_MOST_KEYS: Final = 64
_OTHERS: Final = "other messages"


class Repeats:
    """Counter of equal warnings of one logger. Constructed anywhere, used in an event loop."""

    def __init__(self, log: ServiceLog) -> None:
        self._log = log
        self._counts: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def warning(self, key: str, text: str, about: Loggable) -> None:
        """Log `text`, or only count it. Texts of one `key` are equal; the sum shows the key."""
        if key not in self._counts and len(self._counts) >= _MOST_KEYS:
            key = _OTHERS
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD, self.sum_up)
        if count <= SHOWN:
            self._log.warning("%s", text, about=about)

    def sum_up(self) -> None:
        """Log the numbers of warnings that were not shown, and begin a new period."""
        counts, self._counts = self._counts, {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for key, count in counts.items():
            if count > SHOWN:
                self._log.warning("%s: %d more like these", key, count - SHOWN)
