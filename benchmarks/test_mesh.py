"""Mesh against nuropb 0.1.8's RMQAPI and against our bare Transport, in turn within one run."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from pytest_benchmark.fixture import BenchmarkFixture

from nuropb_rmq.testing import RabbitMQNode

from .conftest import ROOT, Side, _vhost

ROUNDS = 9
CALLS = 3200
CONCURRENCY = 32


def test_mesh(benchmark: BenchmarkFixture, mesh: Side, ours: Side, nuropb: Side) -> None:
    """Calls of ~600 bytes of JSON both ways, 32 concurrent; each round runs all three sides."""
    sides = {"Mesh": mesh, "Transport": ours, "nuropb": nuropb}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for side in sides.values():
        side.run(CALLS // 4, CONCURRENCY)  # warm-up

    def others() -> None:
        for name in ("nuropb", "Transport"):
            runs[name].append(sides[name].run(CALLS, CONCURRENCY))

    benchmark.group = f"Mesh, {CONCURRENCY} concurrent"
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: runs["Mesh"].append(mesh.run(CALLS, CONCURRENCY)), setup=others, rounds=ROUNDS
    )
    figures = {}
    for name, timed in runs.items():
        figures[f"calls/s {name}"] = CALLS / median(wall for wall, _ in timed)
        figures[f"µs CPU/call {name}"] = median(cpu for _, cpu in timed) / CALLS * 1e6

    def ratio(over: str, under: str, which: int) -> float:
        pairs = zip(runs[over], runs[under], strict=True)
        return median(first[which] / second[which] for first, second in pairs)

    figures["speed of Mesh / nuropb (1.7 at least)"] = ratio("nuropb", "Mesh", 0)
    figures["CPU of Mesh / Transport (1.15 at most)"] = ratio("Mesh", "Transport", 1)
    benchmark.extra_info.update({name: round(value, 2) for name, value in figures.items()})
    told = "\n  ".join(f"{name}: {value:,.2f}" for name, value in figures.items())
    print(f"\nMesh, {CONCURRENCY} concurrent:\n  {told}")


def test_outstanding(benchmark: BenchmarkFixture, node: RabbitMQNode) -> None:
    """Memory of each of 10,000 requests that wait for their response; 4 KB at most."""
    figures: dict[str, float] = {}

    def measure() -> None:
        for kind in ("task", "transport", "mesh"):
            url = _vhost(node, f"outstanding-{kind}")
            program = [sys.executable, "-m", "benchmarks.sides.outstanding", kind, url]
            done = subprocess.run(program, cwd=ROOT, stdout=subprocess.PIPE, check=True)
            figures[kind] = float(done.stdout)

    benchmark.pedantic(measure, rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info.update(figures)
    told = ", ".join(f"{name} {value:,.0f}" for name, value in figures.items())
    print(f"\nbytes for each of 10,000 outstanding requests: {told}")
