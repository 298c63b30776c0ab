"""Histograms of durations in plain lists: adding to one costs a fraction of a microsecond."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

BOUNDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""Seconds up to which the buckets count, as OpenTelemetry's conventions advise."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram at one moment."""

    counts: tuple[int, ...]
    """Durations in each bucket of BOUNDS, and at last those that are longer."""
    total: float
    """Sum of all durations, in seconds."""

    @property
    def count(self) -> int:
        """Number of durations."""
        return sum(self.counts)

    def quantile(self, part: float) -> float | None:
        """Return the seconds that this part of all durations does not exceed (0.99: p99).

        It is estimated within a bucket, as Prometheus does; above the last bound it is that bound.
        None: there are no durations.
        """
        rank = part * self.count
        if not self.count:
            return None
        below, low = 0, 0.0
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            if count and below + count >= rank:
                return low + (bound - low) * max(0.0, rank - below) / count
            below, low = below + count, bound
        return BOUNDS[-1]


class Histogram:
    """Counts of durations by bucket. One thread adds to it, any thread reads it."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def read(self) -> Distribution:
        """Return what it has counted so far."""
        return Distribution(tuple(self.counts), self.total)
