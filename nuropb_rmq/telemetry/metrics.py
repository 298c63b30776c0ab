"""The table of metrics: names, labels, and where each value is read.

For users: docs/guides/prometheus.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar

from .._version import __version__
from ..broker.state import State
from ..transport.stats import Stats
from .histograms import Distribution
from .recorder import Handled, Recorder

OWN_LABELS: Final = ("nuropb_service", "nuropb_instance")
"""Labels of all metrics: the mesh's service name and instance id.

Prometheus gives each series the label `instance`, and its Kubernetes operator `service`: labels of
these names would come out as `exported_instance` and `exported_service`.
"""

E = TypeVar("E", bound=Enum)

Labelled = Iterable[tuple[tuple[str, ...], float | Distribution]]
"""Values of a metric, each with those of its labels."""


class Kind(Enum):
    """The type of a metric."""

    COUNTER = auto()
    GAUGE = auto()
    HISTOGRAM = auto()


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a mesh."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    """Labels beside OWN_LABELS."""
    text: str
    read: Callable[[Stats, Recorder], Labelled]


def _by(counts: Mapping[E, int]) -> Labelled:
    return [((each.name.lower(),), count) for each, count in counts.items()]


def _states(stats: Stats, _: Recorder) -> Labelled:
    return [((each.name.lower(),), float(each is stats.state)) for each in State]


def _dropped(stats: Stats, _: Recorder) -> Labelled:
    return [((reason,), count) for reason, count in stats.responses_dropped.items()]


def _each_handled(recorder: Recorder) -> Iterator[tuple[tuple[str, str], Handled]]:
    for kind, by_name in recorder.handled_by.items():
        for name, handled in tuple(by_name.items()):
            yield (kind.value, name), handled


def _handled(_: Stats, recorder: Recorder) -> Labelled:
    for labels, handled in _each_handled(recorder):
        for outcome, count in handled.outcomes.items():
            yield (*labels, outcome.name.lower()), count


def _handler_durations(_: Stats, recorder: Recorder) -> Labelled:
    return [(labels, handled.read()) for labels, handled in _each_handled(recorder)]


def _requests(_: Stats, recorder: Recorder) -> Labelled:
    for requested in tuple(recorder.requests.values()):
        yield (requested.service, requested.method, ""), requested.results
        for error, count in tuple(requested.errors.items()):
            yield (requested.service, requested.method, error), count


def _request_durations(_: Stats, recorder: Recorder) -> Labelled:
    return [
        ((each.service, each.method), each.read()) for each in tuple(recorder.requests.values())
    ]


def _publish_errors(_: Stats, recorder: Recorder) -> Labelled:
    for kind, published in recorder.published.items():
        for error, count in tuple(published.errors.items()):
            yield (kind.value, error), count


def _publish_durations(_: Stats, recorder: Recorder) -> Labelled:
    return [((kind.value,), each.read()) for kind, each in recorder.published.items()]


def _counter(name: str, text: str, read: Callable[[Stats], float]) -> Metric:
    return Metric(name, Kind.COUNTER, (), text, lambda stats, _: [((), read(stats))])


def _gauge(name: str, text: str, read: Callable[[Stats], float]) -> Metric:
    return Metric(name, Kind.GAUGE, (), text, lambda stats, _: [((), read(stats))])


_C, _H = Kind.COUNTER, Kind.HISTOGRAM

METRICS: Final = (
    Metric(
        *("nuropb_info", Kind.GAUGE, ("version",)),
        "Version of nuropb-rmq-aio; always 1.",
        lambda _, __: [((__version__,), 1)],
    ),
    Metric(
        *("nuropb_connection_state", Kind.GAUGE, ("state",)),
        "1 for the state in which the mesh is, 0 for the others.",
        _states,
    ),
    Metric(
        *("nuropb_messages_sent_total", _C, ("type",)),
        "Messages handed to the publisher.",
        lambda stats, _: _by(stats.sent),
    ),
    Metric(
        *("nuropb_publish_errors_total", _C, ("type", "error")),
        "Messages that the broker has not confirmed, by the class of the error.",
        _publish_errors,
    ),
    Metric(
        *("nuropb_publish_duration_seconds", _H, ("type",)),
        "Time from posting a message to the broker's confirm.",
        _publish_durations,
    ),
    Metric(
        *("nuropb_requests_total", _C, ("called_service", "method", "error")),
        "Requests that have ended at their caller; error is empty for those with a result.",
        _requests,
    ),
    Metric(
        *("nuropb_request_duration_seconds", _H, ("called_service", "method")),
        "Time from posting a request to its end at the caller.",
        _request_durations,
    ),
    _gauge(
        "nuropb_requests_pending",
        "Requests that wait for their response.",
        lambda stats: stats.requests_pending,
    ),
    Metric(
        *("nuropb_responses_dropped_total", _C, ("reason",)),
        "Messages of the response queue that nobody waits for, or that cannot be read.",
        _dropped,
    ),
    _counter(
        "nuropb_messages_received_total",
        "Messages of the service queue.",
        lambda stats: stats.received,
    ),
    _counter(
        "nuropb_messages_redelivered_total",
        "Received messages that the broker has delivered before.",
        lambda stats: stats.redelivered,
    ),
    _counter(
        "nuropb_messages_refused_total",
        "Received messages that could not be read, or were not allowed.",
        lambda stats: stats.refused,
    ),
    Metric(
        *("nuropb_messages_handled_total", _C, ("type", "method", "outcome")),
        "Ends of handlers; of an event, method is the binding by which it came.",
        _handled,
    ),
    Metric(
        *("nuropb_handler_duration_seconds", _H, ("type", "method")),
        "Time that handlers took; of an event, method is the binding by which it came.",
        _handler_durations,
    ),
    Metric(
        *("nuropb_messages_settled_total", _C, ("settlement",)),
        "Received messages that were settled.",
        lambda stats, _: _by(stats.settled),
    ),
    _counter(
        "nuropb_retries_total",
        "Messages that were sent to come back after a delay.",
        lambda stats: stats.retries,
    ),
    _counter(
        "nuropb_dead_letters_total",
        "Messages that became dead letters.",
        lambda stats: stats.dead_letters,
    ),
    _gauge(
        "nuropb_handlers_active",
        "Handlers that run.",
        lambda stats: stats.handlers_active,
    ),
    _gauge(
        "nuropb_deliveries_unsettled",
        "Messages of the service queue that are here, and not settled yet.",
        lambda stats: stats.deliveries_unsettled,
    ),
    _gauge(
        "nuropb_outbox_messages",
        "Messages that wait for the broker.",
        lambda stats: stats.outbox_messages,
    ),
    _gauge(
        "nuropb_outbox_bytes",
        "Bytes of the messages that wait for the broker.",
        lambda stats: stats.outbox_bytes,
    ),
    _gauge(
        "nuropb_outbox_oldest_seconds",
        "Time that the first of the messages that wait for the broker has waited.",
        lambda stats: stats.outbox_oldest,
    ),
    _gauge(
        "nuropb_messages_unconfirmed",
        "Messages that were written, and that the broker has not confirmed yet.",
        lambda stats: stats.unconfirmed,
    ),
    _counter(
        "nuropb_reconnects_total",
        "Recoveries of a lost connection or channel.",
        lambda stats: stats.reconnects,
    ),
)
