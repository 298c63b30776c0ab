"""This revision and another one in turn: `scripts/bench --against REV`.

The sides are this checkout's programs in both cases; only the library is the other's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from .conftest import Scenario, Sides
from .peers import MESH, TRANSPORT, Peer
from .process import Figures, Side

COUNTED = 320
"""Calls whose bytecodes are counted."""


@pytest.fixture
def then(request: pytest.FixtureRequest) -> Path:
    """The other checkout."""
    root: Path = request.config.getoption("--against")
    return root


def _pair(scenario: Scenario, sides: Sides, peer: Peer, then: Path, role: str) -> list[Side]:
    before = replace(peer, label=f"{peer.label}, {then.name}", root=then)
    return scenario.start(sides, (peer, before), role)


def _tell(kind: str, now: list[Figures], before: list[Figures], name: str) -> None:
    ratios = [
        one[name] / one["operations"] / (other[name] / other["operations"])
        for one, other in zip(now, before, strict=True)
    ]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"\n  {kind}: {median(ratios):.3f} times ({spread})", end="")


def _compare(scenario: Scenario, running: list[Side]) -> None:
    now, before = (scenario.done(side) for side in running)
    _tell("seconds each", now, before, "seconds")
    _tell("CPU each", now, before, "cpu")


@pytest.mark.parametrize("peer", [TRANSPORT, MESH], ids=lambda peer: peer.label)
@pytest.mark.parametrize("concurrency", [1, 32, 256])
def test_calls(scenario: Scenario, sides: Sides, then: Path, peer: Peer, concurrency: int) -> None:
    """Requests and responses, and the bytecodes of one."""
    running = _pair(scenario, sides, peer, then, "rpc")
    scenario.in_turn(
        running,
        lambda side, calls: side.run("rpc", calls=calls, concurrency=concurrency),
        step=concurrency,
    )
    _compare(scenario, running)
    now, before = (
        side.run("bytecodes", calls=COUNTED, concurrency=concurrency) for side in running
    )
    counts = [each["bytecodes"] / COUNTED for each in (now, before)]
    print(f"\n  bytecodes each: {counts[0]:,.0f}, then {counts[1]:,.0f}", end="")


def test_calls_awaiting(scenario: Scenario, sides: Sides, then: Path) -> None:
    """Handlers that await once."""
    running = _pair(scenario, sides, TRANSPORT, then, "waiting")
    scenario.in_turn(
        running,
        lambda side, calls: side.run("rpc", calls=calls, concurrency=32, wait=(1, 0.0)),
        step=32,
    )
    _compare(scenario, running)


@pytest.mark.parametrize("kilobytes", [16, 256])
def test_calls_large(scenario: Scenario, sides: Sides, then: Path, kilobytes: int) -> None:
    """Larger bodies both ways."""
    running = _pair(scenario, sides, TRANSPORT, then, "rpc")
    scenario.in_turn(
        running,
        lambda side, calls: side.run("rpc", calls=calls, concurrency=32, size=kilobytes * 1024),
        step=32,
    )
    _compare(scenario, running)


def test_calls_encrypted(scenario: Scenario, sides: Sides, then: Path) -> None:
    """RSA and Fernet."""
    running = _pair(scenario, sides, MESH, then, "rpc")
    scenario.in_turn(
        running,
        lambda side, calls: side.run("rpc", calls=calls, concurrency=32, encrypted=True),
        step=32,
    )
    _compare(scenario, running)


def test_events(scenario: Scenario, sides: Sides, then: Path) -> None:
    """Events from their publisher to a handler."""
    running = _pair(scenario, sides, TRANSPORT, then, "events:1")
    scenario.in_turn(
        running,
        lambda side, events: side.run("deliver", events=events, outstanding=100, subscribers=1),
        step=100,
    )
    _compare(scenario, running)
