"""The cost of a call after many calls, and beside many."""

from __future__ import annotations

from .conftest import Scenario, Sides
from .peers import FLOOR, TRANSPORT

WINDOWS = 40
CONCURRENCY = 32
MANY = {1: 500, 32: 3200, 256: 5120, 1000: 8000, 5000: 20_000}
"""Outstanding calls → calls of a run."""


def test_growth_calls(scenario: Scenario, sides: Sides) -> None:
    """Windows of calls, from the first 1,000 to the last; the floor shows the machine's drift."""
    ours, floor = scenario.start(sides, (TRANSPORT, FLOOR), "rpc")
    window = scenario.pace.growth // WINDOWS
    for side in (ours, floor):
        side.run("rpc", calls=1000, concurrency=CONCURRENCY)

    def go_on() -> None:
        for number in range(WINDOWS):
            print("." if number % 4 == 0 else "", end="", flush=True)
            for side, calls in ((ours, window), (floor, window // 4)):
                scenario.keep(
                    side.peer.label, side.run("rpc", calls=calls, concurrency=CONCURRENCY)
                )

    scenario.once(go_on)


def test_growth_outstanding(scenario: Scenario, sides: Sides) -> None:
    """From one call at a time to thousands."""
    (ours,) = scenario.start(sides, (TRANSPORT,), "rpc")

    def measure() -> None:
        for _ in range(scenario.pace.rounds):
            print(".", end="", flush=True)
            for outstanding, calls in MANY.items():
                figures = ours.run("rpc", calls=calls, concurrency=outstanding)
                scenario.keep(f"{outstanding} outstanding", figures)

    scenario.once(measure)
