"""Counters and gauges over what transports count anyway: read when a reader collects.

Transports of one service name are summed up, so that the number of series does not grow with each
start. A transport that is gone, or not instrumented any more, leaves the gauges at once; what it
has counted stays in the counters, which must not fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from threading import Lock
from typing import Final, NamedTuple
from weakref import ref

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.util.types import AttributeValue

from ..broker.state import State
from ..transport.stats import Stats
from ..transport.transport import Transport
from . import destinations as names
from .destinations import Attributes
from .guard import Guard, guarded

SERVICE: Final = "nuropb.service"
REASON: Final = "nuropb.reason"
STATE: Final = "nuropb.state"
CALL: Final = "nuropb.telemetry.call"

Series = frozenset[tuple[str, AttributeValue]]
Values = dict[Series, float]
Read = Callable[[Stats, Guard], Mapping[Series, float]]


def _one(read: Callable[[Stats], float], labels: Attributes | None = None) -> Read:
    series = frozenset((labels or {}).items())
    return lambda stats, _: {series: read(stats)}


def _by(label: str, values: Mapping[str, float], labels: Attributes | None = None) -> Values:
    also = (labels or {}).items()
    return {frozenset([(label, key), *also]): value for key, value in values.items()}


def _sent(stats: Stats, _: Guard) -> Values:
    return _by(
        names.MESSAGE_TYPE, {kind.value: count for kind, count in stats.sent.items()}, _PUBLISH
    )


def _dropped(stats: Stats, _: Guard) -> Values:
    return _by(REASON, stats.responses_dropped)


def _state(stats: Stats, _: Guard) -> Values:
    return _by(STATE, {state.name.lower(): int(state is stats.state) for state in State})


def _failures(_: Stats, guard: Guard) -> Values:
    return _by(CALL, dict(guard.failures))


def _broken(_: Stats, guard: Guard) -> Values:
    return {frozenset(): guard.broken_contexts}


_MESSAGING: Final[Attributes] = {names.SYSTEM: "rabbitmq"}
_PUBLISH: Final[Attributes] = {**_MESSAGING, names.OPERATION_NAME: "publish"}
_PROCESS: Final[Attributes] = {**_MESSAGING, names.OPERATION_NAME: "process"}


class Sort(Enum):
    """The instrument that a metric is, and how transports of one service are put together."""

    COUNTER = "counter"
    """A sum that never falls."""
    LEVEL = "level"
    """A sum of what there is at this moment."""
    GREATEST = "greatest"
    """The greatest of them at this moment."""


class Metric(NamedTuple):
    """One metric."""

    name: str
    sort: Sort
    unit: str
    description: str
    read: Read


_COUNTER, _LEVEL = Sort.COUNTER, Sort.LEVEL

METRICS: Final = (
    Metric(
        *("messaging.client.sent.messages", _COUNTER, "{message}"),
        "Number of messages producer attempted to send to the broker.",
        _sent,
    ),
    Metric(
        *("messaging.client.consumed.messages", _COUNTER, "{message}"),
        "Number of messages that were delivered to the application.",
        _one(lambda stats: stats.received, _PROCESS),
    ),
    Metric(
        *("nuropb.retries", _COUNTER, "{message}"),
        "Messages that were sent to come back after a delay.",
        _one(lambda stats: stats.retries),
    ),
    Metric(
        *("nuropb.dead_letters", _COUNTER, "{message}"),
        "Messages that became dead letters.",
        _one(lambda stats: stats.dead_letters),
    ),
    Metric(
        *("nuropb.redelivered", _COUNTER, "{message}"),
        "Messages that the broker had delivered before.",
        _one(lambda stats: stats.redelivered),
    ),
    Metric(
        *("nuropb.responses.dropped", _COUNTER, "{message}"),
        "Messages of the response queue that nobody waits for, or that cannot be read.",
        _dropped,
    ),
    Metric(
        *("nuropb.reconnects", _COUNTER, "{reconnect}"),
        "Recoveries of a lost connection or channel.",
        _one(lambda stats: stats.reconnects),
    ),
    Metric(
        *("nuropb.telemetry.failures", _COUNTER, "{failure}"),
        "Errors of OpenTelemetry's parts, none of which reached a message.",
        _failures,
    ),
    Metric(
        *("nuropb.telemetry.broken_contexts", _COUNTER, "{message}"),
        "Messages with a traceparent that cannot be read.",
        _broken,
    ),
    Metric(
        *("nuropb.outbox.messages", _LEVEL, "{message}"),
        "Messages that wait for the broker.",
        _one(lambda stats: stats.outbox_messages),
    ),
    Metric(
        *("nuropb.outbox.bytes", _LEVEL, "By"),
        "Size of the messages that wait for the broker.",
        _one(lambda stats: stats.outbox_bytes),
    ),
    Metric(
        *("nuropb.outbox.oldest_age", Sort.GREATEST, "s"),
        "Time that the first message of the outbox has waited.",
        _one(lambda stats: stats.outbox_oldest),
    ),
    Metric(
        *("nuropb.requests.pending", _LEVEL, "{request}"),
        "Requests that wait for their response.",
        _one(lambda stats: stats.requests_pending),
    ),
    Metric(
        *("nuropb.handlers.active", _LEVEL, "{handler}"),
        "Handlers that run.",
        _one(lambda stats: stats.handlers_active),
    ),
    Metric(
        *("nuropb.connection.state", _LEVEL, "{transport}"),
        "Transports in each state.",
        _state,
    ),
)


class _Source:
    """A transport, as long as it lives, and what it had counted when it was last asked."""

    def __init__(self, transport: Transport, guard: Guard) -> None:
        self.transport = ref(transport)
        self.guard = guard
        self.last = transport.stats()

    def counted(self, metric: Metric) -> Values:
        """Return the values of its last snapshot, as series of its service."""
        service = (SERVICE, self.last.service)
        values = metric.read(self.last, self.guard)
        return {series | {service}: value for series, value in values.items()}


class Counts:
    """The counters and gauges of a meter, over all transports that are added."""

    def __init__(self, meter: Meter) -> None:
        self.guard = Guard()
        self._lock = Lock()
        self._sources: list[_Source] = []
        # What transports have counted that are gone, by metric.
        self._kept: dict[str, Values] = {metric.name: {} for metric in METRICS}
        for metric in METRICS:
            self._create(meter, metric)

    def _create(self, meter: Meter, metric: Metric) -> None:
        create = {
            Sort.COUNTER: meter.create_observable_counter,
            Sort.LEVEL: meter.create_observable_up_down_counter,
            Sort.GREATEST: meter.create_observable_gauge,
        }[metric.sort]

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return self.observe(metric) or ()

        create(metric.name, [observe], metric.unit, metric.description)

    def add(self, transport: Transport, guard: Guard) -> Callable[[], None]:
        """Add a transport, which is not kept alive; return a function that removes it."""
        source = _Source(transport, guard)
        with self._lock:
            self._sources.append(source)

        def remove() -> None:
            with self._lock:
                if source in self._sources:
                    self._refresh(source)
                    self._retire(source)

        return remove

    @guarded
    def observe(self, metric: Metric) -> list[Observation]:
        """Read a metric of all transports."""
        with self._lock:
            for source in tuple(self._sources):
                if not self._refresh(source):
                    self._retire(source)
            totals = dict(self._kept[metric.name])
            for source in self._sources:
                _add(totals, metric, source)
        return [Observation(value, dict(series)) for series, value in totals.items()]

    def _refresh(self, source: _Source) -> bool:
        transport = source.transport()
        if transport is not None:
            source.last = transport.stats()
        return transport is not None

    def _retire(self, source: _Source) -> None:
        self._sources.remove(source)
        for metric in METRICS:
            if metric.sort is Sort.COUNTER:
                _add(self._kept[metric.name], metric, source)


def _add(totals: Values, metric: Metric, source: _Source) -> None:
    for series, value in source.counted(metric).items():
        before = totals.get(series, 0)
        totals[series] = max(before, value) if metric.sort is Sort.GREATEST else before + value
