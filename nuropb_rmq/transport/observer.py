"""Observers of a transport's messages: for metrics, traces, and a program's own hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from ..amqp.outgoing import OnDone
from ..amqp.settlement import Settlement
from ..broker.state import State
from ..exceptions import NuropbException, NuropbTransportError
from ..protocol.acknowledgement import Outcome
from ..protocol.message import Message
from ..safe_logging import report
from .observed import ObservedCall, Sending, entries
from .recording import Recording
from .sent_message import SentMessage
from .stats import Counts
from .tracing import ProcessSpan, Tracing

logger = logging.getLogger("nuropb_rmq.transport")


class Observer:
    """Base of observers for `Transport.observe()` and `Mesh.observe()`; override what you need.

    Methods are called in the event loop's thread, for every message: they must be quick and must
    not block. An exception is logged, once for each method, and affects no message. A message that
    could not be read, or had expired, has an empty payload.
    """

    def sent(self, message: SentMessage) -> None:
        """Called when a message is handed to the publisher, where it may wait to be written."""

    def confirmed(self, message: SentMessage, error: NuropbException | None) -> None:
        """Called with the outcome of a sent message: None when the broker has it, or the error."""

    def request_ended(self, message: SentMessage, error: str | None, seconds: float) -> None:
        """Called when a request has ended at its caller, `seconds` after it was posted.

        `error` is the class name of the service's error, or of ours; None: it has its result.
        """

    def received(self, message: Message) -> None:
        """Called when a message of the service queue has been read, before its handler begins."""

    def handled(self, message: Message, outcome: Outcome, seconds: float) -> None:
        """Called when a message has been handled; sending its answer may still fail.

        Called again, with FAILED, for a message that was to come back later and cannot.
        """

    def settled(self, message: Message, settlement: Settlement) -> None:
        """Called when a message is acknowledged, rejected (dead-lettered) or requeued.

        A message that is called again, or goes to the end of the queue in an outage, is
        acknowledged. Messages that a lost channel or stop()
        returns to the queue are not reported.
        """

    def reconnected(self, seconds: float) -> None:
        """Called when a recovery is complete, `seconds` after a connection was lost."""


_METHODS: Final = (
    *(Observer.sent, Observer.confirmed, Observer.request_ended, Observer.received),
    *(Observer.handled, Observer.settled, Observer.reconnected),
)


class _Entry:
    """An observer, its methods that are not the base's, and those whose failure has been logged."""

    __slots__ = ("calls", "failed", "observer")

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.calls: dict[object, Callable[..., None]] = {}
        for method in _METHODS:
            call = getattr(observer, method.__name__)
            if getattr(call, "__func__", None) is not method:
                self.calls[method] = call
        self.failed: set[object] = set()


class Observers:
    """The observers of one transport, and its tracing. Callers check `active` before they call."""

    __slots__ = ("_calls", "_entries", "_lost_at", "_tracing", "active", "counts", "recording")

    def __init__(self) -> None:
        self.counts = Counts()
        self._entries: list[_Entry] = []
        # The observers that override a method, by the method.
        self._calls: dict[object, tuple[_Entry, ...]] = {}
        self._tracing: Tracing | None = None
        self.recording: Recording | None = None
        # Monotonic time at which the connection was lost; 0 while there is no recovery.
        self._lost_at = 0.0
        self.active = False

    def add(self, observer: Observer) -> Callable[[], None]:
        """Add an observer; return a function that removes it."""
        entry = _Entry(observer)
        self._entries.append(entry)
        self._sort_out()

        def remove() -> None:
            if entry in self._entries:
                self._entries.remove(entry)
                self._sort_out()

        return remove

    def _sort_out(self) -> None:
        self.active = bool(self._entries or self._tracing)
        self._calls = {
            method: found
            for method in _METHODS
            if (found := tuple(entry for entry in self._entries if method in entry.calls))
        }

    def trace(self, tracing: Tracing) -> Callable[[], None]:
        """Make spans with this from now on, and with nothing else; return a function that ends it.

        What is under way then ends with what it began with.
        """
        self._tracing = tracing
        self._sort_out()

        def end() -> None:
            if self._tracing is tracing:
                self._tracing = None
                self._sort_out()

        return end

    def tell(self, method: Callable[..., None], *arguments: object) -> None:
        """Call a method of Observer on each observer; never raises."""
        for entry in self._calls.get(method, ()):
            try:
                entry.calls[method](*arguments)
            except BaseException as e:  # noqa: BLE001 - a program's own code, which must not harm a message
                if method not in entry.failed:
                    entry.failed.add(method)
                    failed = f"{type(entry.observer).__name__}.{method.__name__}"
                    report(logger, logging.ERROR, e, "observer %s failed (logged once)", failed)

    def state_changed(self, state: State, _: NuropbTransportError | None) -> None:
        """Call `reconnected` when a transport that was RECOVERING is up again."""
        if state is State.RECOVERING:
            self._lost_at = self._lost_at or monotonic()
        elif self._lost_at:
            seconds, self._lost_at = monotonic() - self._lost_at, 0.0
            if state.up:
                self.counts.reconnects += 1
                self.tell(Observer.reconnected, seconds)

    # -- messages on their way out ------------------------------------------------------------

    def unobserved(self, encrypted: bool, bare: bool) -> bytes | None:
        """Return the headers of a message that nobody observes; None: somebody does."""
        tracing = self._tracing
        if tracing is None or self._entries:
            return None
        headers = tracing.travels(encrypted, bare)
        if headers is None:
            return None
        return entries(headers) if headers else b""

    def sending(self, message: SentMessage) -> Sending:
        """Begin to observe a message, before it is packed."""
        tracing = self._tracing
        span = None if tracing is None else tracing.publish(message)
        return Sending(message, span)

    def publish(self, sending: Sending, on_done: OnDone, publish: Callable[[OnDone], None]) -> None:
        """Publish a message, and call `sent` and `confirmed`. Raises what `publish` raises."""
        self.tell(Observer.sent, sending.message)

        def done(error: NuropbException | None) -> None:
            sending.end(error)
            self.tell(Observer.confirmed, sending.message, error)
            on_done(error)

        try:
            publish(done)
        except NuropbException as e:
            sending.end(e)
            self.tell(Observer.confirmed, sending.message, e)
            raise

    def call(self, payload: Mapping[str, Any], *, encrypted: bool) -> ObservedCall:
        """Begin to observe a request at its caller; its span is current until it is published."""
        tracing = self._tracing
        span = None if tracing is None else tracing.call(payload, encrypted=encrypted)
        return ObservedCall(self._request_ended, span)

    def _request_ended(self, message: SentMessage, error: str | None) -> None:
        self.tell(Observer.request_ended, message, error, monotonic() - message.posted_at)

    # -- messages of the service queue ----------------------------------------------------------

    def processing(self, message: Message) -> ProcessSpan | None:
        """Call `received`; return the message's span, which is current from now on."""
        if self._entries:
            self.tell(Observer.received, message)
        tracing = self._tracing
        return None if tracing is None else tracing.process(message)

    def handled(
        self,
        message: Message,
        outcome: Outcome,
        began: float,
        span: ProcessSpan | None,
        error: BaseException | None,
    ) -> None:
        """Call `handled`, and tell the recording and the message's span."""
        if self.recording is not None:
            try:
                self.recording.handled(message.kind, message.payload, outcome, began)
            except Exception as e:  # noqa: BLE001 - metrics must not harm a message
                report(logger, logging.ERROR, e, "a handled message was not recorded")
        if self._entries:
            self.tell(Observer.handled, message, outcome, monotonic() - began)
        if span is not None:
            span.handled(outcome, error)
