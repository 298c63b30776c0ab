"""Events: published, delivered to subscribers, and drained from a backlog.

Ours are persistent and confirmed unless the label says otherwise; of the peers some confirm, and
none is persistent by default.
"""

from __future__ import annotations

import pytest

from .conftest import Scenario, Sides
from .peers import FLOORS, MESH, NUROPB, OTHERS, POSTED, SPEED, TRANSIENT, TRANSPORT, Peer
from .process import Side

OUTSTANDING = 1000
FAST: tuple[Peer, ...] = (TRANSPORT, POSTED, NUROPB, *FLOORS)
"""Those that drain the whole backlog; of the others a tenth must do."""


def test_published(scenario: Scenario, sides: Sides) -> None:
    """Into a durable queue that nobody consumes, until the broker has them all."""
    scenario.in_turn(
        scenario.start(
            sides, (TRANSPORT, TRANSIENT, POSTED, SPEED, MESH, *OTHERS, *FLOORS), "publish"
        ),
        lambda side, events: side.run("publish", events=events, outstanding=OUTSTANDING),
        step=OUTSTANDING,
    )


@pytest.mark.parametrize("outstanding", [1, 10, 100, 1000])
def test_awaited(scenario: Scenario, sides: Sides, outstanding: int) -> None:
    """The cost of events that are awaited one by one, or so many together."""
    scenario.in_turn(
        scenario.start(sides, (TRANSPORT, TRANSIENT), "publish"),
        lambda side, events: side.run("publish", events=events, outstanding=outstanding),
        step=outstanding,
    )


@pytest.mark.parametrize("subscribers", [1, 10])
def test_delivered(scenario: Scenario, sides: Sides, subscribers: int) -> None:
    """From one publisher to the handlers of so many subscribers, all in one process."""
    scenario.in_turn(
        scenario.start(
            sides, (TRANSPORT, TRANSIENT, MESH, *OTHERS, *FLOORS), f"events:{subscribers}"
        ),
        lambda side, events: side.run(
            "deliver", events=events, outstanding=OUTSTANDING, subscribers=subscribers
        ),
        step=OUTSTANDING // subscribers,
    )


def test_backlog(scenario: Scenario, sides: Sides) -> None:
    """A queue of so many events, and a subscriber that starts."""
    running = scenario.start(sides, (TRANSPORT, MESH, *OTHERS, *FLOORS), "publish")
    whole = scenario.pace.backlog

    def drain(side: Side, events: int) -> dict[str, float]:
        return side.run("backlog", events=events)

    counts = {
        side.peer.label: whole if side.peer in FAST or side.peer is MESH else whole // 10
        for side in running
    }
    scenario.in_turn(running, drain, counts=counts, rounds=1)
