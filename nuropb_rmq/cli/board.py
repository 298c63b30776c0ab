"""The figures that `top` shows: of queues, from the broker, and of services, by their reports.

Reports are events, and anybody may publish one: what is no number counts as none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .who import Known

_MOST_INSTANCES: Final = 10_000
_SILENT_AFTER: Final = 3.0
"""Reports that are missing before an instance counts as silent."""
_FORGOTTEN_AFTER: Final = 12.0
_LONGEST_NAME: Final = 100
_WORST: Final = (
    "FAILED", "STOPPED", "SILENT", "DRAINING", "CONNECTING", "RECOVERING", "BLOCKED", "OUTAGE",
    "READY",
)  # fmt: skip


@dataclass(slots=True)
class Instance:
    """The last two reports of one instance."""

    service: str
    name: str
    report: Mapping[str, Any]
    at: float
    """Time at which it came, by time.monotonic()."""
    before: Mapping[str, Any] | None = None

    def total(self, *path: str) -> int:
        """Return a count of the last report."""
        return int(_number(self.report, *path))

    def rate(self, *path: str) -> float | None:
        """Return how often a second it was counted between the last two reports."""
        elapsed = _number(self.report, "seconds")
        if self.before is None or not elapsed:
            return None
        return max(0.0, _number(self.report, *path) - _number(self.before, *path)) / elapsed

    @property
    def every(self) -> float:
        """Seconds between its reports."""
        return min(max(_number(self.report, "every"), 0.1), 3600.0)

    def state(self, now: float) -> str:
        """Return its state; SILENT when its reports do not come."""
        if now - self.at > _SILENT_AFTER * self.every:
            return "SILENT"
        state = self.report.get("state")
        return state if isinstance(state, str) and state in _WORST else "?"


@dataclass(slots=True, kw_only=True)
class Row:
    """A line: a service, or one instance of it. None is not known."""

    service: str
    instance: str = ""
    instances: int = 0
    state: str = "-"
    received: float | None = None
    """Messages a second; so are the next three."""
    failed: float | None = None
    retried: float | None = None
    redelivered: float | None = None
    p50: float | None = None
    """Seconds of handlers."""
    p99: float | None = None
    running: int | None = None
    """Handlers."""
    in_hand: int | None = None
    waiting: int | None = None
    """Messages in the queue."""
    dead_letters: int | None = None
    outbox: int | None = None


@dataclass
class Board:
    """The known figures of the services of a virtual host."""

    queues: dict[str, Known] = field(default_factory=dict)
    instances: dict[tuple[str, str], Instance] = field(default_factory=dict)

    def take_queues(self, known: Iterable[Known]) -> None:
        """Take what the broker says of the queues."""
        self.queues = {each.name: each for each in known}

    def take_report(self, report: object, now: float) -> bool:
        """Take a report; return False for what is none."""
        match report:
            case {"service": str(service), "instance": str(name)}:
                key = service[:_LONGEST_NAME], name[:_LONGEST_NAME]
            case _:
                return False
        before = self.instances.get(key)
        if before is None and len(self.instances) >= _MOST_INSTANCES:
            return False
        assert isinstance(report, dict)  # noqa: S101 - as matched
        is_next = before is not None and before.total("received") <= _number(report, "received")
        last = before.report if before is not None and is_next else None
        self.instances[key] = Instance(*key, report, now, last)
        return True

    def rows(self, now: float, *, each: bool = False) -> list[Row]:
        """Return a row for each service, by name, and with `each` one for each instance."""
        for key, instance in [*self.instances.items()]:
            if now - instance.at > _FORGOTTEN_AFTER * instance.every:
                del self.instances[key]
        reporting: dict[str, list[Instance]] = {}
        for instance in self.instances.values():
            reporting.setdefault(instance.service, []).append(instance)
        rows = []
        for service in sorted({*self.queues, *reporting}):
            those = sorted(reporting.get(service, []), key=lambda one: one.name)
            row = _row(service, those, now)
            queue = self.queues.get(service)
            if queue is not None:
                row.instances = max(queue.instances, _alive(those, now))
                row.waiting, row.dead_letters = queue.waiting, queue.dead_letters
                row.in_hand = queue.in_hand
            rows.append(row)
            if each:
                rows += [_row(service, [one], now, one.name) for one in those]
        return rows


def _row(service: str, instances: list[Instance], now: float, name: str = "") -> Row:
    row = Row(service=service, instance=name, instances=len(instances))
    if not instances:
        return row
    states = [one.state(now) for one in instances]
    row.state = min(states, key=lambda one: _WORST.index(one) if one in _WORST else -1)
    row.received = _sum(one.rate("received") for one in instances)
    row.failed = _sum(one.rate("handled", "failed") for one in instances)
    row.retried = _sum(one.rate("settled", "retry") for one in instances)
    row.redelivered = _sum(one.rate("redelivered") for one in instances)
    row.p50 = _weighted(instances, "p50")
    row.p99 = max(_number(one.report, "handler_seconds", "p99") for one in instances) or None
    row.running = sum(one.total("handlers_active") for one in instances)
    row.in_hand = sum(one.total("deliveries_unsettled") for one in instances)
    row.outbox = sum(one.total("outbox_messages") for one in instances)
    return row


def _alive(instances: list[Instance], now: float) -> int:
    return sum(one.state(now) != "SILENT" for one in instances)


def _weighted(instances: list[Instance], name: str) -> float | None:
    """Return the mean of a quantile over instances, by how many messages each has handled."""
    counts = [_number(one.report, "handler_seconds", "count") for one in instances]
    if not sum(counts):
        return None
    values = [_number(one.report, "handler_seconds", name) for one in instances]
    return sum(a * b for a, b in zip(counts, values, strict=True)) / sum(counts)


def _sum(rates: Iterable[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def _number(report: Mapping[str, Any], *path: str) -> float:
    value: Any = report
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    usable = type(value) in (int, float) and 0 <= value < 2**63
    return value if usable else 0
