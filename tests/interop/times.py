"""Dates and times, and a service that gives and takes them as a program of nuropb's does: as text.

nuropb reads annotations at run time and needs classes there, not their names as text: hence no
`from __future__ import annotations` in this file.
"""

import datetime
from decimal import Decimal
from typing import Any

from .orders import Orders

UTC = datetime.timezone.utc  # noqa: UP017 - as nuropb's own Python has it
VALUES: dict[str, Any] = {
    "aware": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "naive": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "day": datetime.date(2026, 1, 2),
    "at": datetime.time(3, 4),
    "long": datetime.timedelta(days=1, seconds=2),
    "price": Decimal("12.50"),
}
WRITTEN: dict[str, str] = {
    "aware": "2026-01-02T03:04:05+00:00Z",
    "naive": "2026-01-02T03:04:05Z",
    "day": "2026-01-02Z",
    "at": "03:04:00Z",
    "long": "1 day, 0:00:02",
    "price": "12.50",
}
"""As nuropb 0.1.8 sends them."""


class Times(Orders):
    """Its methods are called with dates and times, and return some."""

    def give(self) -> dict:  # type: ignore[type-arg]
        """Return one of each."""
        return VALUES

    def take(self, aware: str, naive: str, day: str, at: str, long: str, price: str) -> dict:  # type: ignore[type-arg]
        """Note what came, and answer with what a program that knows nuropb's text reads in it."""
        self._note("take", aware=aware, naive=naive, day=day, at=at, long=long, price=price)
        return {
            "aware": str(datetime.datetime.fromisoformat(aware.removesuffix("Z"))),
            "naive": str(datetime.datetime.fromisoformat(naive.removesuffix("Z"))),
            "day": str(datetime.datetime.strptime(day, "%Y-%m-%dZ").date()),
            "at": str(datetime.datetime.strptime(at, "%H:%M:%SZ").time()),
            "long": long,
            "price": str(Decimal(price)),
        }
