"""Histograms of what messages and calls take, in seconds."""

from __future__ import annotations

from time import monotonic
from typing import Final

from opentelemetry.metrics import Histogram, Meter

from ..exceptions import NuropbException
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import REQUEST, RESPONSE
from ..protocol.message import Message
from ..transport.observer import Observer
from ..transport.sent_message import SentMessage
from . import destinations as names
from .destinations import Attributes, Call, Destinations
from .guard import Guard, guarded

BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Seconds. Those of the conventions; the SDK's own are meant for milliseconds."""
_DONE: Final = Outcome.DONE
_OF_CALLS: Final = (REQUEST, RESPONSE)


class Histograms:
    """The four histograms of a meter."""

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, description: str) -> Histogram:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=BUCKETS
            )

        self.operation = histogram(
            "messaging.client.operation.duration",
            "Duration of messaging operation initiated by a producer or consumer client.",
        )
        self.process = histogram("messaging.process.duration", "Duration of processing operation.")
        self.client_call = histogram(
            "rpc.client.call.duration",
            "Measures the duration of outbound remote procedure calls (RPC).",
        )
        self.server_call = histogram(
            "rpc.server.call.duration",
            "Measures the duration of inbound remote procedure calls (RPC).",
        )


class Durations(Observer):
    """Records the durations of one transport; attributes are made once, and used again."""

    def __init__(self, histograms: Histograms, destinations: Destinations, guard: Guard) -> None:
        self._histograms = histograms
        self._destinations = destinations
        self.guard = guard
        self._made: dict[tuple[str, str | None, bool], Attributes] = {}

    @guarded
    def confirmed(self, message: SentMessage, error: NuropbException | None) -> None:
        """Record the time from post() to the confirm.

        That of a request or an answer is a part of the call's duration: a record costs as much as a
        sixth of the call.
        """
        if message.kind in _OF_CALLS and not message.copy:
            return
        labels = self._destinations.sent(message).labels
        self._histograms.operation.record(
            monotonic() - message.posted_at, self._with_error(labels, error)
        )

    @guarded
    def request_ended(self, message: SentMessage, error: str | None, seconds: float) -> None:
        """Record a call at its caller."""
        call = self._destinations.call(message.routing_key, message.method or "")
        if error is None:  # some errors are ours: they prove no method
            call = self._destinations.succeeded(call)
        self._histograms.client_call.record(seconds, self._of_call(call, error))

    @guarded
    def handled(self, message: Message, outcome: Outcome, seconds: float) -> None:
        """Record how long a message was handled, and a call at its service."""
        delivery = message.delivery
        if delivery is None:
            return
        head, error = delivery.head, delivery.error
        labels = self._destinations.received(head).labels
        self._histograms.process.record(seconds, self._with_error(labels, error))
        if head.kind is not REQUEST:
            return
        payload = message.payload
        call = self._destinations.call(payload["service"], payload["method"])
        if outcome is _DONE:
            call = self._destinations.succeeded(call)
        name = None if error is None else type(error).__name__
        answered = outcome is not Outcome.CALL_AGAIN
        self._histograms.server_call.record(seconds, self._of_call(call, name, answered=answered))

    def _with_error(self, labels: Attributes, error: BaseException | None) -> Attributes:
        if error is None:
            return labels
        return {**labels, names.ERROR: self._destinations.error(type(error).__name__)}

    def _of_call(self, call: Call, error: str | None, *, answered: bool = True) -> Attributes:
        """Return the attributes of a call; its names are bounded, and so are these."""
        made = self._made.get((call.name, error, answered))
        if made is None:
            made = {**names.RPC, names.RPC_METHOD: call.name}
            if error is not None:
                error = made[names.ERROR] = self._destinations.error(error)
            if answered:
                made[names.RPC_STATUS] = error or names.OK
            self._made[call.name, error, answered] = made
        return made
