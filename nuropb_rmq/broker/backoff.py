"""Growing pauses between tries, with jitter, lest many clients come back at once."""

from __future__ import annotations

import random
from typing import Final

FIRST_PAUSE: Final = 0.1


def pause(failures: int, cap: float, *, first: float = FIRST_PAUSE) -> float:
    """Return seconds until the next try: at most `first`, doubled by each failure, up to `cap`."""
    doubled: float = first * 2 ** min(failures, 10)
    return min(doubled, cap) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
