"""Tracing of a transport's messages: the interface that telemetry implements.

`Observers.tracing` holds it, and None costs nothing. A span of tracing is begun where its message
or call begins, is made current while that runs, and is ended once. Nothing of it may raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ..amqp.settlement import Settlement
from ..protocol.acknowledgement import Outcome
from ..protocol.message import Message
from ..protocol.reader import Head
from .sent_message import SentMessage


class Scope(Protocol):
    """A span that can be made the current one."""

    def enter(self) -> None:
        """Make it current in this context. It may be current already."""

    def leave(self) -> None:
        """Make current what was before the last enter()."""


class PublishSpan(Protocol):
    """A message on its way out, from its packing to the broker's confirm."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers for the message, by which its receivers find this span."""

    def end(self, error: BaseException | None) -> None:
        """End it: with None the broker has the message."""


class CallSpan(Scope, Protocol):
    """A request at its caller."""

    def answered(self, head: Head, error: str | None) -> None:
        """End it with the head of the response, and the class name of the service's error."""

    def failed(self, error: BaseException) -> None:
        """End it without a response."""


class ProcessSpan(Scope, Protocol):
    """A message at its service, from the moment that it has been read."""

    def handled(self, outcome: Outcome, error: BaseException | None) -> None:
        """End the part in which the handler ran. Called again as Observer.handled is."""

    def settled(self, settlement: Settlement | None, error: BaseException | None) -> None:
        """End it; no settlement: its channel was lost first, or the transport stops.

        `error` is why it has failed, be it later than handled(): its answer was not delivered.
        """


class Tracing(Protocol):
    """Maker of spans; each method may return None, for no span."""

    def travels(self, encrypted: bool, bare: bool) -> Mapping[str, str] | None:
        """Return the headers of a message in a trace that is not recorded; None: call publish().

        A `bare` one, an answer or a copy, has none. Most messages of a busy service are in such
        traces, and this is all that they cost.
        """

    def publish(self, message: SentMessage) -> PublishSpan | None:
        """Begin the span of a message that is about to be packed.

        A copy of a received message has its headers already.
        """

    def call(self, payload: Mapping[str, Any], *, encrypted: bool) -> CallSpan | None:
        """Begin the span of a request."""

    def process(self, message: Message) -> ProcessSpan | None:
        """Begin the span of a message that was received; it is current in its task from now on."""


@contextmanager
def current(span: ProcessSpan | None) -> Iterator[None]:
    """Make a span current for what is done about its message outside of its handler's task."""
    if span is None:
        yield
        return
    span.enter()
    try:
        yield
    finally:
        span.leave()
