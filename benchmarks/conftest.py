"""One node for all sides, each side as a process, and what a scenario asks of them in turn."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from nuropb_rmq.testing import RabbitMQNode

from .peers import Peer
from .process import Figures, NotStartedError, Side

Ask = Callable[[Side, int], Figures]
"""Runs so many operations."""

WARM_UP = 0.15
"""Seconds of the run that measures a side's operations in a second."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The lengths and repetitions of the measurements."""

    rounds: int
    seconds: float
    """Of one run of one side."""
    backlog: int
    growth: int
    starts: int


FULL = Pace(rounds=13, seconds=0.6, backlog=100_000, growth=200_000, starts=9)
QUICK = Pace(rounds=3, seconds=0.12, backlog=10_000, growth=20_000, starts=3)


def pytest_addoption(parser: pytest.Parser) -> None:
    """--quick, and --against for against.py."""
    parser.addoption("--quick", action="store_true", help="three minutes in place of thirty")
    parser.addoption("--against", type=Path, help="the checkout of another revision")


@pytest.fixture(scope="session")
def pace(request: pytest.FixtureRequest) -> Pace:
    """The full one, or --quick."""
    return QUICK if request.config.getoption("--quick") else FULL


@pytest.fixture(scope="session")
def node() -> Iterator[RabbitMQNode]:
    """The node that all sides share."""
    with RabbitMQNode() as started:
        yield started


class Sides:
    """The processes of a module's scenarios; each starts when it is first asked for."""

    def __init__(self, node: RabbitMQNode) -> None:
        self._node = node
        self._started: dict[tuple[Peer, str], Side | NotStartedError] = {}

    def get(self, peer: Peer, role: str) -> Side:
        """Raises NotStartedError."""
        known = self._started.get((peer, role))
        if known is None:
            try:
                known = Side(peer, role, self._node)
            except NotStartedError as e:
                known = e
            self._started[peer, role] = known
        if isinstance(known, NotStartedError):
            raise known
        return known

    def close(self) -> None:
        """End them."""
        for side in self._started.values():
            if isinstance(side, Side):
                side.close()


@pytest.fixture(scope="module")
def sides(node: RabbitMQNode) -> Iterator[Sides]:
    """Ended with the module, so that no more of them idle than must."""
    started = Sides(node)
    yield started
    started.close()


class Scenario:
    """One scenario: what its sides did, in rounds, told on the screen and kept in the JSON."""

    def __init__(
        self, name: str, benchmark: BenchmarkFixture, pace: Pace, node: RabbitMQNode
    ) -> None:
        self.pace = pace
        self._benchmark = benchmark
        self._done: dict[str, list[Figures]] = {}
        self._versions: dict[str, str] = {}
        self._missing: dict[str, str] = {}
        self._began = time.monotonic()
        benchmark.group = name
        benchmark.extra_info.update(
            sides=self._done,
            versions=self._versions,
            missing=self._missing,
            broker=node.version,
            quick=pace is QUICK,
        )
        print(f"\n{name} ", end="", flush=True)

    def start(self, sides: Sides, peers: Sequence[Peer], role: str) -> list[Side]:
        """Those that can run here; the first must."""
        running = []
        for peer in peers:
            try:
                side = sides.get(peer, role)
            except NotStartedError as e:
                if peer is peers[0]:
                    raise
                self._missing[peer.label] = str(e)
            else:
                self._versions[peer.label] = side.version
                self._done.setdefault(peer.label, [])
                running.append(side)
        return running

    def done(self, side: Side) -> list[Figures]:
        """The runs of a side so far."""
        return self._done[side.peer.label]

    def keep(self, label: str, figures: Figures) -> None:
        """One run of a side."""
        self._done.setdefault(label, []).append(figures)

    def in_turn(
        self,
        running: Sequence[Side],
        ask: Ask,
        *,
        step: int = 1,
        counts: dict[str, int] | None = None,
        rounds: int = 0,
    ) -> None:
        """Each side in each round; the first is the one that pytest-benchmark times.

        A side's number of operations fills pace.seconds, in multiples of `step`, unless `counts`
        has it by label.
        """
        counts = counts or {side.peer.label: self._calibrate(side, ask, step) for side in running}

        def one(side: Side) -> None:
            label = side.peer.label
            self.keep(label, ask(side, counts[label]))

        def others() -> None:
            print(".", end="", flush=True)
            for side in running[1:]:
                one(side)

        self._benchmark.pedantic(  # type: ignore[no-untyped-call]
            lambda: one(running[0]), setup=others, rounds=rounds or self.pace.rounds
        )

    def _calibrate(self, side: Side, ask: Ask, step: int) -> int:
        count = step
        figures = ask(side, count)
        while figures["seconds"] < WARM_UP / 2:
            count = max(count * 2, int(WARM_UP * count / figures["seconds"]) // step * step)
            figures = ask(side, count)
        rate = count / figures["seconds"]
        return max(1, round(rate * self.pace.seconds / step)) * step

    def once(self, work: Callable[[], None]) -> None:
        """For what is not measured in rounds of sides."""
        self._benchmark.pedantic(work, rounds=1)  # type: ignore[no-untyped-call]

    def note(self, **values: object) -> None:
        """Further values, into the JSON."""
        self._benchmark.extra_info.update(values)

    def tell(self) -> None:
        """Print the results of each side, and the sides that do not run here."""
        print(f" {time.monotonic() - self._began:.0f} s")
        for label, runs in self._done.items():
            if runs:
                print(f"  {label:22}{told(runs)}")
        for label, reason in self._missing.items():
            print(f"  {label:22}does not run here: {reason}")
        sys.stdout.flush()


def told(runs: Sequence[Figures]) -> str:
    """One line of a side's rounds: medians, and the range of its rates."""
    rates = [run["operations"] / run["seconds"] for run in runs]
    cpu, broker = (
        median(run[name] / run["operations"] for run in runs) for name in ("cpu", "broker")
    )
    line = (
        f"{median(rates):>11,.1f}/s ({min(rates):,.0f}-{max(rates):,.0f})"
        f"{cpu * 1e6:>11,.1f} µs CPU{broker * 1e6:>9,.0f} µs broker"
    )
    if "bytes" in runs[0]:
        return f"{median(run['bytes'] for run in runs):>11,.0f} bytes each"
    if "p50" in runs[0]:
        p50, p99 = (median(run[name] for run in runs) * 1000 for name in ("p50", "p99"))
        line += f"   {p50:,.2f} ms median, {p99:,.2f} ms p99"
    return line


@pytest.fixture
def scenario(
    request: pytest.FixtureRequest, benchmark: BenchmarkFixture, pace: Pace, node: RabbitMQNode
) -> Iterator[Scenario]:
    """The scenario of a test, called as the test is."""
    name = request.node.name.removeprefix("test_")
    started = Scenario(name, benchmark, pace, node)
    yield started
    started.tell()
