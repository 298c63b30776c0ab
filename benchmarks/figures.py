"""The figures with their bounds, computed from the results that the scenarios kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, Literal

from .peers import (
    ADAPTER,
    AIO_PIKA,
    BATCHED,
    FASTSTREAM,
    FLOOR,
    MESH,
    MESH_PROMETHEUS,
    MESH_THREAD,
    NATS,
    NUROPB,
    OTEL,
    OTHERS,
    SPEED,
    TRANSIENT,
    TRANSPORT,
    Peer,
)
from .run import PARTS, Runs

ONCE_32: Final = "waiting[once-32]"
ONCE_256: Final = "waiting[once-256]"

NEEDED_AT_IMPORT: Final = frozenset(
    (
        "nuropb_rmq",
        "aio_pika",
        "aiormq",
        "pamqp",
        "yarl",
        "multidict",
        "propcache",
        "idna",
        "cryptography",
        "_cffi_backend",
        "_openssl",
        "orjson",  # where the extra `speed` is installed, as here
        "_cython_3_3_0",  # yarl's and multidict's own
        "cython_runtime",
    )
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario's part of the JSON."""

    name: str
    sides: Mapping[str, Runs]
    versions: Mapping[str, str]
    missing: Mapping[str, str]
    packages: Mapping[str, Sequence[str]]

    def median(self, label: str, name: str) -> float:
        """The median of one value of a side's runs."""
        return median(self.sides[label][name])

    def rates(self, label: str) -> list[float]:
        """Operations in a second, of each run."""
        return [1 / seconds for seconds in self.each(label, "seconds")]

    def each(self, label: str, name: str) -> list[float]:
        """One value for each operation, of each run."""
        side = self.sides[label]
        return [value / of for value, of in zip(side[name], side["operations"], strict=True)]


class Results:
    """All scenarios of one run."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self.machine: Mapping[str, Any] = kept["machine"]
        self.date: str = kept["date"]
        self.broker: str = kept["broker"]
        self.quick: bool = kept["quick"]
        self.scenarios: dict[str, Scenario] = {
            name: Scenario(name, *(each[part] for part in PARTS))
            for name, each in kept["scenarios"].items()
        }

    # -- ratios: of the sides of one round, which had the same minutes ------------------------

    def speed(self, scenario: str, ours: Peer, theirs: Peer) -> float:
        """Return our operations in a second as a multiple of theirs."""
        kept = self.scenarios[scenario]
        return _ratio(kept.rates(ours.label), kept.rates(theirs.label))

    def cpu(self, scenario: str, ours: Peer, theirs: Peer) -> float:
        """Return our CPU for each operation as a fraction of theirs."""
        kept = self.scenarios[scenario]
        return _ratio(kept.each(ours.label, "cpu"), kept.each(theirs.label, "cpu"))

    def latency(self, scenario: str, ours: Peer, theirs: Peer) -> float:
        """Return our median latency as a fraction of theirs."""
        runs = self.scenarios[scenario].sides
        return _ratio(runs[ours.label]["p50"], runs[theirs.label]["p50"])

    def waiting(self) -> float:
        """Our CPU for a call whose handler awaits once, over that for one whose does not."""
        once, plain = (
            median(self.scenarios[each].each(TRANSPORT.label, "cpu"))
            for each in (ONCE_32, "rpc[32]")
        )
        return once / plain

    def thread(self) -> float:
        """Microseconds of CPU that a synchronous method in a thread adds to a call."""
        kept = self.scenarios["thread"]
        there, here = (kept.each(peer.label, "cpu") for peer in (MESH_THREAD, MESH))
        return median(one - other for one, other in zip(there, here, strict=True)) * 1e6

    def slowest_ratio(self, scenario: str) -> float:
        """Return our operations in a second as a multiple of the fastest peer's."""
        there = self.scenarios[scenario].sides
        return min(self.speed(scenario, TRANSPORT, each) for each in OTHERS if each.label in there)

    def growth(self) -> float:
        """Cost of a late call over that of an early one, the floor's drift taken out."""
        kept = self.scenarios["growth_calls"]

        def drift(peer: Peer) -> float:
            costs = kept.each(peer.label, "cpu")
            part = len(costs) // 4
            return median(costs[-part:]) / median(costs[:part])

        return drift(TRANSPORT) / drift(FLOOR)

    def not_needed(self) -> list[str]:
        """Packages that our import brings and does not need."""
        packages = self.scenarios["import"].packages["nuropb_rmq.mesh"]
        return sorted(set(packages) - NEEDED_AT_IMPORT)


def _ratio(over: Sequence[float], under: Sequence[float]) -> float:
    return median(first / second for first, second in zip(over, under, strict=True))


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    text: str
    kind: Literal["at least", "at most"]
    bound: float
    value: Callable[[Results], float]
    unit: str = " times"

    def held(self, value: float) -> bool:
        """Return whether the bound is kept."""
        return value >= self.bound if self.kind == "at least" else value <= self.bound


def _speed(text: str, bound: float, scenario: str, ours: Peer, theirs: Peer) -> Figure:
    return Figure(text, "at least", bound, lambda all_: all_.speed(scenario, ours, theirs))


def _cpu(text: str, bound: float, scenario: str, ours: Peer, theirs: Peer) -> Figure:
    return Figure(text, "at most", bound, lambda all_: all_.cpu(scenario, ours, theirs))


FIGURES: Final[tuple[Figure, ...]] = (
    _speed("RPC, 32 concurrent: calls/s of nuropb's", 2.5, "rpc[32]", TRANSPORT, NUROPB),
    _cpu("RPC, 32 concurrent: CPU of nuropb's", 0.42, "rpc[32]", TRANSPORT, NUROPB),
    _speed("RPC, 256 concurrent: calls/s of nuropb's", 2.5, "rpc[256]", TRANSPORT, NUROPB),
    _cpu("RPC, 256 concurrent: CPU of nuropb's", 0.42, "rpc[256]", TRANSPORT, NUROPB),
    _cpu("RPC, 1 at a time: CPU of the floor's", 1.6, "rpc[1]", TRANSPORT, FLOOR),
    _cpu("RPC, 32 concurrent: CPU of the floor's", 1.45, "rpc[32]", TRANSPORT, FLOOR),
    _cpu("RPC, 256 concurrent: CPU of the floor's", 1.45, "rpc[256]", TRANSPORT, FLOOR),
    _cpu("RPC, 32 concurrent: CPU of NATS's", 1.0, "elsewhere[32]", TRANSPORT, NATS),
    _cpu("RPC, 256 concurrent: CPU of NATS's", 1.0, "elsewhere[256]", TRANSPORT, NATS),
    _cpu("the floor is one: its CPU of nuropb's, 32", 0.36, "rpc[32]", FLOOR, NUROPB),
    _cpu("the floor is one: its CPU of nuropb's, 256", 0.36, "rpc[256]", FLOOR, NUROPB),
    _speed("RPC, 32, awaits once: calls/s of nuropb's", 2.2, ONCE_32, TRANSPORT, NUROPB),
    _cpu("RPC, 32, awaits once: CPU of nuropb's", 0.5, ONCE_32, TRANSPORT, NUROPB),
    _speed("RPC, 256, awaits once: calls/s of nuropb's", 2, ONCE_256, TRANSPORT, NUROPB),
    _cpu("RPC, 256, awaits once: CPU of nuropb's", 0.5, ONCE_256, TRANSPORT, NUROPB),
    Figure(
        "RPC, 32, awaits once: CPU of one that does not",
        "at most",
        1.1,
        lambda all_: all_.waiting(),
    ),
    Figure(
        "RPC, 1 at a time: median latency of nuropb's",
        "at most",
        0.75,
        lambda all_: all_.latency("rpc[1]", TRANSPORT, NUROPB),
    ),
    _speed("RPC, 32: calls/s of aio-pika's RPC", 5.0, "rpc[32]", TRANSPORT, AIO_PIKA),
    _speed("RPC, 32: calls/s of FastStream's", 18.0, "rpc[32]", TRANSPORT, FASTSTREAM),
    _speed("RPC, 32, with `speed`: calls/s of nuropb's", 2.8, "rpc[32]", SPEED, NUROPB),
    _speed("encrypted RPC, 32: calls/s of nuropb's", 4.2, "encrypted", MESH, NUROPB),
    _speed("events published: of nuropb's", 0.8, "published", TRANSPORT, NUROPB),
    _speed("events end to end: of nuropb's", 1.0, "delivered[1]", TRANSPORT, NUROPB),
    _speed("events published, transient: of nuropb's", 1.0, "published", TRANSIENT, NUROPB),
    _speed("events end to end, transient: of nuropb's", 1.8, "delivered[1]", TRANSIENT, NUROPB),
    Figure(
        "16 KB bodies: calls/s of the fastest peer's",
        "at least",
        1.7,
        lambda all_: all_.slowest_ratio("body[16]"),
    ),
    Figure(
        "256 KB bodies: calls/s of the fastest peer's",
        "at least",
        1.3,
        lambda all_: all_.slowest_ratio("body[256]"),
    ),
    Figure(
        "memory of each outstanding request",
        "at most",
        3072,
        lambda all_: all_.scenarios["outstanding"].median(TRANSPORT.label, "bytes"),
        " bytes",
    ),
    Figure(
        "cost of a call after 200,000, of an early one", "at most", 1.1, lambda all_: all_.growth()
    ),
    Figure(
        "import of Mesh: CPU",
        "at most",
        0.25,
        lambda all_: all_.scenarios["import"].median("nuropb_rmq.mesh", "cpu"),
        " s",
    ),
    Figure(
        "packages imported that are not needed",
        "at most",
        0,
        lambda all_: len(all_.not_needed()),
        "",
    ),
    _speed("Mesh, RPC 32: calls/s of nuropb's", 1.7, "rpc[32]", MESH, NUROPB),
    _cpu("Mesh, RPC 32: CPU of Transport's", 1.1, "rpc[32]", MESH, TRANSPORT),
    _cpu("RMQTransport, RPC 32: CPU of Transport's", 1.15, "rpc[32]", ADAPTER, TRANSPORT),
    Figure(
        "a synchronous method in a thread, over an async one: CPU",
        "at most",
        60,
        lambda all_: all_.thread(),
        " µs",
    ),
    _cpu("Mesh with Prometheus, RPC 32: CPU without", 1.05, "prometheus", MESH_PROMETHEUS, MESH),
    _cpu("OpenTelemetry without a provider: CPU without", 1.01, "telemetry", OTEL[0], MESH),
    _cpu("OpenTelemetry, 1 % sampled: CPU without", 1.3, "telemetry", OTEL[1], MESH),
    _cpu("OpenTelemetry's metrics: CPU without", 1.6, "telemetry", OTEL[2], MESH),
)

UNBOUNDED: Final[tuple[tuple[str, Callable[[Results], float]], ...]] = (
    ("RPC, 32: CPU of the batched floor's", lambda all_: all_.cpu("rpc[32]", TRANSPORT, BATCHED)),
    ("RPC, 256: CPU of the batched floor's", lambda all_: all_.cpu("rpc[256]", TRANSPORT, BATCHED)),
    (
        "events end to end, 10 subscribers: of nuropb's",
        lambda all_: all_.speed("delivered[10]", TRANSPORT, NUROPB),
    ),
    ("backlog drained: of nuropb's", lambda all_: all_.speed("backlog", TRANSPORT, NUROPB)),
)
"""Told without a bound."""
