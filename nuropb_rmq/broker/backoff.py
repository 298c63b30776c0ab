"""Pauses between tries, which grow and are jittered: many clients do not come back at once."""

from __future__ import annotations

import random
from typing import Final

FIRST_PAUSE: Final = 0.1


def pause(failures: int, cap: float, *, first: float = FIRST_PAUSE) -> float:
    """Return the seconds until the next try: `first` at most, then twice as long, up to the cap."""
    doubled: float = first * 2 ** min(failures, 10)
    return min(doubled, cap) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
