"""Requests and responses against nuropb 0.1.8: the sides turn about within one run."""

from __future__ import annotations

from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .conftest import Side

ROUNDS = 7
CALLS = {1: 600, 32: 3200, 256: 5120}


@pytest.mark.parametrize("concurrency", CALLS)
def test_rpc(benchmark: BenchmarkFixture, ours: Side, nuropb: Side, concurrency: int) -> None:
    """Calls of ~600 bytes of JSON both ways; each round runs both sides, the peer first."""
    calls = CALLS[concurrency]
    mine: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    ours.run(calls // 4 * 4, concurrency)  # warm-up
    nuropb.run(calls // 4 * 4, concurrency)
    benchmark.group = f"RPC, {concurrency} concurrent"
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: mine.append(ours.run(calls, concurrency)),
        setup=lambda: theirs.append(nuropb.run(calls, concurrency)),
        rounds=ROUNDS,
    )
    pairs = list(zip(mine, theirs, strict=True))
    figures = {
        "calls/s": calls / median(wall for wall, _ in mine),
        "calls/s nuropb": calls / median(wall for wall, _ in theirs),
        "µs CPU/call": median(cpu for _, cpu in mine) / calls * 1e6,
        "µs CPU/call nuropb": median(cpu for _, cpu in theirs) / calls * 1e6,
        "speed ratio": median(their[0] / my[0] for my, their in pairs),
        "CPU ratio": median(my[1] / their[1] for my, their in pairs),
    }
    benchmark.extra_info.update({name: round(value, 2) for name, value in figures.items()})
    told = ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())
    print(f"\nRPC, {concurrency} concurrent: {told}")
