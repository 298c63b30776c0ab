"""Spans of messages and calls.

One sampling decision is made for a call and all that follows from it: where the current context is
not sampled no span is made, and the context travels on in the headers of messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from opentelemetry.context import Context, attach, create_key, get_current, get_value
from opentelemetry.context import set_value as with_value
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from ..amqp.settlement import Settlement
from ..printable import printable
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import EVENT, REQUEST, RESPONSE
from ..protocol.message import Message, describe
from ..protocol.reader import Head
from ..safe_logging import Blame, blamed
from ..transport.sent_message import SentMessage
from . import destinations as names
from .destinations import Attributes, Call, Destinations, arrivals
from .guard import Guard, guarded
from .names import OTHER
from .propagation import NOTHING, SPAN, Propagation, Unsampled, is_dark, span_context
from .scopes import Passing, Scope

_SENDER: Final = create_key("nuropb-sender")
"""The span that sent the message being handled; copies of it keep that one's headers."""
_LONGEST_TEXT: Final = 300
_NO_HEADERS: Final[Mapping[str, str]] = {}
UNKNOWN_METHOD: Final = "NuropbHandlingError"
"""Class of the error that a service answers with when it has no such method; others prove that it
has."""


class Links(Enum):
    """The place of an event's handling, of a retry, a call-again and a replay among the traces."""

    LINK = "link"
    """In a trace of its own, with a link to the span that sent the message."""
    CHILD = "child"
    """In the sender's trace."""


class Spans:
    """Maker of the spans of one transport (`transport.tracing.Tracing`).

    `texts`: the texts of errors go onto spans; those of encrypted messages and of authorize_func
    never do, since they may quote secrets.
    """

    def __init__(
        self,
        tracer: Tracer,
        propagation: Propagation,
        destinations: Destinations,
        *,
        links: Links,
        texts: bool,
        instance_id: str,
        guard: Guard,
    ) -> None:
        self.tracer = tracer
        self.propagation = propagation
        self.destinations = destinations
        self.guard = guard
        self._links = links
        self._texts = texts
        self._own: Attributes = {names.CLIENT_ID: instance_id} if instance_id else {}

    @guarded
    def travels(self, encrypted: bool, bare: bool) -> Mapping[str, str] | None:
        """Return the headers of a message in a trace that is not sampled; None: see publish()."""
        context = get_current()
        span = context.get(SPAN)
        if span is None:
            return None
        if type(span) is Unsampled and not bare and len(context) == 1 and self.propagation.is_plain:
            return span.headers  # there is no baggage, there is the span alone
        if not is_dark(context):
            return None
        return _NO_HEADERS if bare else self.propagation.inject(context, encrypted)

    @guarded
    def publish(self, message: SentMessage) -> Publishing | None:
        """Begin the span of a message that is about to be packed."""
        parent = get_current()
        copy, encrypted = message.copy, message.encrypted
        if is_dark(parent):
            if copy or message.kind is RESPONSE:
                return None
            headers = self.propagation.inject(parent, encrypted)
            return Publishing(self, None, headers, encrypted)
        destination = self.destinations.sent(message)
        attributes = {
            **destination.attributes,
            **self._own,
            names.CONVERSATION: message.correlation_id,
        }
        if encrypted:
            attributes[names.ENCRYPTED] = True
        sender = get_value(_SENDER, parent) if copy else None
        span = self.tracer.start_span(
            destination.name,
            parent,
            SpanKind.CLIENT if copy else SpanKind.PRODUCER,
            attributes,
            [Link(sender)] if isinstance(sender, SpanContext) else None,
        )
        headers = None
        if not copy:
            headers = self.propagation.inject(set_span_in_context(span, parent), encrypted)
        return Publishing(self, span if span.is_recording() else None, headers, encrypted)

    @guarded
    def call(self, payload: Mapping[str, Any], *, encrypted: bool) -> Calling | Passing | None:
        """Begin the span of a request."""
        parent = get_current()
        if is_dark(parent):
            return None
        call = self.destinations.call(payload["service"], payload["method"])
        span = self.tracer.start_span(
            call.span, parent, SpanKind.CLIENT, self._rpc(call, encrypted)
        )
        if not span.is_recording():
            return Passing(self._dark(span, parent), self.guard)
        return Calling(self, span, set_span_in_context(span, parent), call, encrypted)

    @guarded
    def process(self, message: Message) -> Processing | Passing | None:
        """Begin the span of a message that was received, and of its method's call."""
        delivery = message.delivery
        if delivery is None:
            return None
        head = delivery.head
        dark = self.propagation.unsampled(head)
        if dark is not None:
            attach(dark)
            return Passing(dark, self.guard)
        headers, encrypted = message.headers, head.encrypted
        carried = self.propagation.extract(headers, encrypted) or NOTHING
        if is_dark(carried):
            attach(carried)
            return Passing(carried, self.guard)
        sender = span_context(carried)
        counts = arrivals(head, headers)
        parent, links = carried, None
        apart = self._links is Links.LINK and (head.kind is EVENT or counts)
        if apart and sender.is_valid:
            parent, links = set_span_in_context(INVALID_SPAN, carried), [Link(sender)]
        destination = self.destinations.received(head)
        attributes = {
            **destination.attributes,
            **self._own,
            names.CONVERSATION: head.correlation_id,
            names.DELIVERY_TAG: head.content.tag,
            **counts,
        }
        if head.content.redelivered:
            attributes[names.REDELIVERED] = True
        if encrypted:
            attributes[names.ENCRYPTED] = True
        span = self.tracer.start_span(
            destination.name, parent, SpanKind.CONSUMER, attributes, links
        )
        if not span.is_recording():
            context = self._dark(span, parent)
            attach(context)
            return Passing(context, self.guard)
        context = set_span_in_context(span, parent)
        if sender.is_valid:
            context = with_value(_SENDER, sender, context)
        processing = Processing(self, span, context, encrypted)
        if head.kind is REQUEST:
            try:
                processing.serve(message.payload["service"], message.payload["method"])
            except BaseException:  # of a part of OpenTelemetry's, as in guarded()
                span.end()
                raise
        # Without its token: that refers to the task's context, which holds the delivery.
        attach(processing.inner)
        return processing

    def _dark(self, span: Span, parent: Context) -> Context:
        """Return the context of a span that is not sampled."""
        context = None if parent else self.propagation.unsampled_root(span.get_span_context())
        return set_span_in_context(span, parent) if context is None else context

    def serve(self, call: Call, context: Context, encrypted: bool) -> Span:
        """Begin the span of a call at its service."""
        attributes = self._rpc(call, encrypted)
        return self.tracer.start_span(call.span, context, SpanKind.SERVER, attributes)

    def _rpc(self, call: Call, encrypted: bool) -> Attributes:
        return {**call.attributes, names.ENCRYPTED: True} if encrypted else call.attributes

    def name_again(self, span: Span, before: Call, *, proved: bool, encrypted: bool) -> None:
        """Name a call by its method, once it has proved real; else tell what was called.

        Not of an encrypted call: a name that nobody knows may be anything that a user has typed.
        """
        call = self.destinations.succeeded(before) if proved else before
        if call is not before:
            span.update_name(call.span)
            span.set_attribute(names.RPC_METHOD, call.name)
        elif call.original is not None and not encrypted:
            span.set_attribute(names.RPC_METHOD_ORIGINAL, call.original)

    def fail(self, span: Span, error: BaseException, encrypted: bool) -> str:
        """Note an error on a span; return what error.type says of it."""
        name = self.destinations.error(type(error).__name__)
        text = None
        if self._texts and not encrypted and blamed(error) is not Blame.AUTHORIZER:
            text = printable(describe(error)["description"], _LONGEST_TEXT)
        span.set_attribute(names.ERROR, name)
        span.set_status(Status(StatusCode.ERROR, text))
        return name


class Publishing:
    """The span of a message on its way out; None: only the context travels."""

    __slots__ = ("_encrypted", "_span", "_spans", "headers")

    def __init__(
        self, spans: Spans, span: Span | None, headers: Mapping[str, str] | None, encrypted: bool
    ) -> None:
        self._spans = spans
        self._span = span
        self._encrypted = encrypted
        self.headers: Mapping[str, str] = headers or _NO_HEADERS

    @property
    def guard(self) -> Guard:
        """See Guarded."""
        return self._spans.guard

    @guarded
    def end(self, error: BaseException | None) -> None:
        """End it: with None the broker has the message."""
        if self._span is None:
            return
        try:
            if error is not None:
                self._spans.fail(self._span, error, self._encrypted)
        finally:
            self._span.end()


class Calling(Scope):
    """The span of a request at its caller."""

    __slots__ = ("_call", "_encrypted", "_span", "_spans")

    def __init__(
        self, spans: Spans, span: Span, context: Context, call: Call, encrypted: bool
    ) -> None:
        super().__init__(context, spans.guard)
        self._spans = spans
        self._span = span
        self._call = call
        self._encrypted = encrypted

    @guarded
    def answered(self, head: Head, error: str | None) -> None:
        """End it with the head of the response, and the class name of the service's error."""
        span = self._span
        try:
            self._name_again(error != UNKNOWN_METHOD)
            sender = self._spans.propagation.sender(head.headers)
            if sender.is_valid:
                span.add_link(sender)
            if error is None:
                span.set_attribute(names.RPC_STATUS, names.OK)
            else:
                name = self._spans.destinations.error(error)
                span.set_attributes({names.RPC_STATUS: name, names.ERROR: name})
                span.set_status(Status(StatusCode.ERROR))
        finally:
            span.end()

    @guarded
    def failed(self, error: BaseException) -> None:
        """End it without a response."""
        try:
            self._name_again(False)
            name = self._spans.fail(self._span, error, self._encrypted)
            self._span.set_attribute(names.RPC_STATUS, name)
        finally:
            self._span.end()

    def _name_again(self, proved: bool) -> None:
        self._spans.name_again(self._span, self._call, proved=proved, encrypted=self._encrypted)


class Processing(Scope):
    """The span of a message at its service, and of its method's call while that runs."""

    __slots__ = ("_call", "_context", "_encrypted", "_failed", "_serving", "_span", "_spans")

    def __init__(self, spans: Spans, span: Span, context: Context, encrypted: bool) -> None:
        super().__init__(context, spans.guard)
        self._spans = spans
        self._span = span
        self._encrypted = encrypted
        self._context = context
        self._serving: Span | None = None
        self._call: Call
        self._failed = False

    def serve(self, service: str, method: str) -> None:
        """Begin the span of the method's call, in which the handler runs."""
        self._call = self._spans.destinations.call(service, method)
        self._serving = self._spans.serve(self._call, self._context, self._encrypted)
        self.inner = set_span_in_context(self._serving, self._context)

    @guarded
    def handled(self, outcome: Outcome, error: BaseException | None) -> None:
        """End the part in which the handler ran; the answer and events are children of the rest."""
        failed = outcome in (Outcome.FAILED, Outcome.RETRY)
        serving, self._serving = self._serving, None
        if serving is not None:
            self.inner = self._context
            attach(self._context)
            try:
                status = self._fail(serving, error) if failed else names.OK
                self._spans.name_again(
                    serving, self._call, proved=outcome is Outcome.DONE, encrypted=self._encrypted
                )
                if outcome is not Outcome.CALL_AGAIN:
                    serving.set_attribute(names.RPC_STATUS, status)
            finally:
                serving.end()
        if failed:
            self._fail(self._span, error)

    def _fail(self, span: Span, error: BaseException | None) -> str:
        self._failed = True
        if error is not None:
            return self._spans.fail(span, error, self._encrypted)
        span.set_attribute(names.ERROR, OTHER)
        span.set_status(Status(StatusCode.ERROR))
        return OTHER

    @guarded
    def settled(self, settlement: Settlement | None, error: BaseException | None) -> None:
        """End it; no settlement: its channel was lost first, or the transport stops."""
        try:
            if self._serving is not None:  # the handler was cancelled, or goes on after complete()
                self._serving.end()
            if error is not None and not self._failed:
                self._fail(self._span, error)
            if settlement is not None:
                self._span.set_attribute(names.SETTLEMENT, settlement.name.lower())
        finally:
            self._span.end()
