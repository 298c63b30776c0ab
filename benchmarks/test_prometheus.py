"""Measure calls with Prometheus's metrics, and the same calls without."""

from __future__ import annotations

from .conftest import Scenario, Sides
from .peers import MESH, MESH_PROMETHEUS


def test_prometheus(scenario: Scenario, sides: Sides) -> None:
    """32 concurrent; the metrics of both ends are collected."""
    scenario.in_turn(
        scenario.start(sides, (MESH, MESH_PROMETHEUS), "rpc"),
        lambda side, calls: side.run("rpc", calls=calls, concurrency=32),
        step=32,
    )
