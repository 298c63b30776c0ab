"""RMQTransport against the bare Transport, in turn within one run: what the surface costs."""

from __future__ import annotations

from statistics import median

from pytest_benchmark.fixture import BenchmarkFixture

from .conftest import Side

ROUNDS = 9
CALLS = 3200
CONCURRENCY = 32


def test_adapter(benchmark: BenchmarkFixture, adapter: Side, ours: Side) -> None:
    """Calls of ~600 bytes of JSON both ways, 32 concurrent."""
    mine: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    for side in (adapter, ours):
        side.run(CALLS // 4, CONCURRENCY)  # warm-up
    benchmark.group = f"RMQTransport, {CONCURRENCY} concurrent"
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: mine.append(adapter.run(CALLS, CONCURRENCY)),
        setup=lambda: bare.append(ours.run(CALLS, CONCURRENCY)),
        rounds=ROUNDS,
    )
    figures = {
        "µs CPU/call RMQTransport": median(cpu for _, cpu in mine) / CALLS * 1e6,
        "µs CPU/call Transport": median(cpu for _, cpu in bare) / CALLS * 1e6,
        "CPU of RMQTransport / Transport (1.10 at most)": median(
            first[1] / second[1] for first, second in zip(mine, bare, strict=True)
        ),
    }
    benchmark.extra_info.update({name: round(value, 2) for name, value in figures.items()})
    told = ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())
    print(f"\nRMQTransport, {CONCURRENCY} concurrent: {told}")
