"""Reports of a mesh's own figures, as events: `nuropb-rmq top` shows them.

::

    from nuropb_rmq.telemetry.reports import report

    mesh = Mesh("amqp://guest:guest@localhost/", service=Orders())
    report(mesh, every=5.0)

Each is an event with the topic `nuropb.stats.SERVICE.INSTANCE`. It holds counts and durations, no
names of methods, and nothing of a message.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from time import monotonic
from typing import Any, Final

from .. import blocking
from .._version import __version__
from ..broker.state import State
from ..config.times import seconds
from ..exceptions import (
    NuropbConfigurationError,
    NuropbException,
    NuropbTransportError,
    TopicRefusedError,
)
from ..safe_logging import report as report_error
from ..transport.stats import Stats
from ..transport.transport import Transport
from .histograms import BOUNDS, Distribution
from .recorder import recording_of
from .subjects import AnyMesh, source_of

logger = logging.getLogger("nuropb_rmq.telemetry")

TOPIC: Final = "nuropb.stats"
EVERY: Final = 5.0
_LONGEST_PART: Final = 100
_EMPTY: Final = Distribution((0,) * (len(BOUNDS) + 1), 0.0)


def report(mesh: AnyMesh, *, every: float = EVERY) -> Callable[[], None]:
    """Publish a report of a mesh every so many seconds while it is up; return what ends it.

    Reports wait for nothing: one that the broker does not take is dropped. The first that it
    refuses ends them, with a WARNING: the user may not publish this topic. Raises
    NuropbValidationError, and NuropbConfigurationError for a blocking.Mesh that has been started.
    """
    every = seconds("every", every)
    source = source_of(mesh)
    if isinstance(source, blocking.Mesh):
        if not source.state.over:
            raise NuropbConfigurationError(
                "mesh", "must not be started yet: call report() before start()"
            )
        return source.attach(lambda behind: _Reporter(behind.transport, every).end)
    return _Reporter(source, every).end


class _Reporter:
    """Publishes the figures of one transport. A timer runs while the transport does."""

    def __init__(self, transport: Transport, every: float) -> None:
        self._transport = transport
        self._every = every
        self._recorder, leave = recording_of(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False
        # Of the last report, to tell what has come since.
        self._handled = self._requested = _EMPTY
        self._at = monotonic()
        self._leave = [
            leave,
            transport.on_state_change(self._state_changed),
        ]
        if not transport.state.over:
            self._state_changed(transport.state, None)

    def end(self) -> None:
        """Publish nothing more."""
        for leave in self._leave:
            leave()
        self._stop()

    def _state_changed(self, state: State, _: NuropbTransportError | None) -> None:
        if state.over or self._refused:
            self._stop()
        elif self._timer is None:
            self._at = monotonic()
            self._again()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        # Not in the caller's context: reports belong to no trace, and to no message being handled.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._every, self._tick, context=Context())

    def _tick(self) -> None:
        self._again()
        try:
            if self._transport.state.up:
                self._publish()
        except NuropbException as e:
            logger.debug("a report was not published: %s", e)
        except Exception as e:  # noqa: BLE001 - a report must not end the reports
            report_error(logger, logging.ERROR, e, "a report failed")

    def _publish(self) -> None:
        stats = self._transport.stats()
        published = self._transport.post(
            {
                "tag": "event",
                "topic": _topic(stats),
                "event": self._figures(stats),
                "target": [],
                "context": {},
            },
            timeout=self._every,
        )
        published.add_done_callback(self._published)

    def _published(self, published: asyncio.Future[None]) -> None:
        """Take the error of a report that was not delivered: the next one says more."""
        if published.cancelled():
            return
        error = published.exception()
        # Each refusal costs the channel, and what it has not yet confirmed.
        if isinstance(error, TopicRefusedError) and not self._refused:
            self._refused = True
            self._stop()
            logger.warning("reports of %s end: %s", self._transport.config.service_name, error)

    def _figures(self, stats: Stats) -> dict[str, Any]:
        now = monotonic()
        elapsed, self._at = now - self._at, now
        recorder = self._recorder
        by_name = recorder.handled_by.values()
        handled = _sum(each.read() for names in by_name for each in names.values())
        requested = _sum(each.read() for each in recorder.requests.values())
        lately = _since(handled, self._handled), _since(requested, self._requested)
        self._handled, self._requested = handled, requested
        return {
            "service": stats.service,
            "instance": stats.instance_id,
            "state": stats.state.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "every": self._every,
            "seconds": round(elapsed, 3),
            "sent": {kind.value: count for kind, count in stats.sent.items()},
            "answered": stats.answered,
            "received": stats.received,
            "redelivered": stats.redelivered,
            "refused": stats.refused,
            "handled": _lower(stats.handled),
            "settled": _lower(stats.settled),
            "returned": stats.returned,
            "reconnects": stats.reconnects,
            "requests_pending": stats.requests_pending,
            "handlers_active": stats.handlers_active,
            "deliveries_unsettled": stats.deliveries_unsettled,
            "unconfirmed": stats.unconfirmed,
            "outbox_messages": stats.outbox_messages,
            "outbox_bytes": stats.outbox_bytes,
            "outbox_oldest": round(stats.outbox_oldest, 3),
            "handler_seconds": _durations(lately[0]),
            "request_seconds": _durations(lately[1]),
        }


def _topic(stats: Stats) -> str:
    parts = (stats.service, stats.instance_id)
    return ".".join((TOPIC, *(part.replace(".", "_")[:_LONGEST_PART] for part in parts)))


def _lower(counts: Mapping[Any, int]) -> dict[str, int]:
    return {each.name.lower(): count for each, count in counts.items()}


def _sum(parts: Iterable[Distribution]) -> Distribution:
    counts, total = list(_EMPTY.counts), 0.0
    for part in parts:
        total += part.total
        for at, count in enumerate(part.counts):
            counts[at] += count
    return Distribution(tuple(counts), total)


def _since(now: Distribution, before: Distribution) -> Distribution:
    counts = tuple(a - b for a, b in zip(now.counts, before.counts, strict=True))
    return Distribution(counts, now.total - before.total)


def _durations(of: Distribution) -> dict[str, float | int | None]:
    return {"count": of.count, "p50": _rounded(of, 0.5), "p99": _rounded(of, 0.99)}


def _rounded(of: Distribution, part: float) -> float | None:
    value = of.quantile(part)
    return None if value is None else round(value, 6)
