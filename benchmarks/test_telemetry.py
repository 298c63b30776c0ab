"""Measure the CPU of the same calls without OpenTelemetry, and with it."""

from __future__ import annotations

from .conftest import Scenario, Sides
from .peers import MESH, OTEL, TRACED


def test_telemetry(scenario: Scenario, sides: Sides) -> None:
    """Requests and responses, 32 concurrent."""
    scenario.in_turn(
        scenario.start(sides, (MESH, *OTEL, *TRACED), "rpc"),
        lambda side, calls: side.run("rpc", calls=calls, concurrency=32),
        step=32,
    )
