"""Contexts of traces in the headers of messages, by the propagator that the program has set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import baggage, propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from ..protocol.constants import HEADER_ENCRYPTED, HEADER_TRACE_ID, HEADER_TRACEPARENT
from ..protocol.reader import Head
from .guard import Guard, guarded

MOST_HEADERS: Final = 16
MOST_BYTES: Final = 1024
"""Of names and values together, beside traceparent; and of a tracestate.

All headers of a message must fit into one frame, which may be as small as 4,096 bytes (AMQP 0-9-1,
frame-min-size), with those that NuroPb and the program write.
"""
_BAGGAGE: Final = "baggage"
_TRACESTATE: Final = "tracestate"
_RESERVED: Final = frozenset({"cc", "bcc", HEADER_ENCRYPTED, HEADER_TRACE_ID})
_RESERVED_PREFIXES: Final = ("x-", "nuropb_")
_LONGEST_NAME: Final = 128
_W3C: Final = frozenset({HEADER_TRACEPARENT, _TRACESTATE, _BAGGAGE})
_OF_TRACE: Final = frozenset({HEADER_TRACEPARENT, _TRACESTATE})
_UNSAMPLED: Final = re.compile(
    rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]"
)
_SAMPLE: Final = SpanContext(2**127 + 1, 2**63 + 1, True)
NOTHING: Final = Context()
SPAN: Final = next(iter(set_span_in_context(INVALID_SPAN, NOTHING)))
"""The key of the current span in a context."""
Headers = dict[str, str]


class _Setter(Setter[Headers]):
    """Takes what is text, fits, and is no header of the broker's or of NuroPb.

    Baggage is left out first: a trace goes on without it.
    """

    def set(self, carrier: Headers, key: str, value: str) -> None:
        if not (_is_text(key) and _is_text(value)) or not 0 < len(key) <= _LONGEST_NAME:
            return
        name = key.lower()
        if name in _RESERVED or name.startswith(_RESERVED_PREFIXES):
            return
        if len(carrier) >= MOST_HEADERS and key not in carrier:
            return
        room = MOST_BYTES - len(key) - len(value)
        if key not in _OF_TRACE:
            room -= sum(_size(carrier, each) for each in carrier if each not in _OF_TRACE | {key})
        if room < 0 and key not in _W3C and _BAGGAGE in carrier:
            room += _size(carrier, _BAGGAGE)
            if room >= 0:
                del carrier[_BAGGAGE]
        if room >= 0:
            carrier[key] = value


class _Getter(Getter[Mapping[str, Any]]):
    """Reads headers that are text; senders may have written anything."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return [key for key in carrier if isinstance(carrier[key], str)]


def _size(headers: Headers, name: str) -> int:
    return len(name) + len(headers[name])


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


_SETTER: Final = _Setter()
_GETTER: Final = _Getter()


class Unsampled(NonRecordingSpan):
    """A span of a trace that is not sampled; its ids are read when somebody asks for them."""

    def __init__(self, traceparent: str) -> None:
        self.headers: Final = {HEADER_TRACEPARENT: traceparent}
        """Of messages that are sent while it is current."""

    def get_span_context(self) -> SpanContext:
        """Return what the traceparent says."""
        _, trace_id, span_id, flags = self.headers[HEADER_TRACEPARENT].split("-")
        return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))


class Propagation:
    """Writes contexts into headers, and reads them."""

    def __init__(self, propagator: TextMapPropagator | None, guard: Guard) -> None:
        self._own = propagator
        self._looked_at: TextMapPropagator | None = None
        self._is_plain = False
        self.guard = guard

    @property
    def is_plain(self) -> bool:
        """True when its propagator writes a traceparent alone for a span alone; see probe()."""
        self._propagator()
        return self._is_plain

    def _propagator(self) -> TextMapPropagator:
        """Return the propagator of this moment, and look whether it is plain, when it is new."""
        propagator = self._own or propagate.get_global_textmap()
        if propagator is not self._looked_at:
            self._looked_at, self._is_plain = propagator, False
            self._is_plain = bool(self.probe(propagator))
        return propagator

    @guarded
    def probe(self, propagator: TextMapPropagator) -> bool:
        """Return whether it writes and reads, of a span alone, a traceparent alone.

        OpenTelemetry's default does. What is not sampled is then written and read here, in a
        quarter of the time.
        """
        headers: Headers = {}
        propagator.inject(headers, set_span_in_context(NonRecordingSpan(_SAMPLE), Context()))
        if headers != {HEADER_TRACEPARENT: written(_SAMPLE)} or not propagator.fields <= _W3C:
            return False
        read = propagator.extract(headers, Context(), _GETTER)
        return len(read) == 1 and span_context(read) == _SAMPLE

    @guarded
    def inject(self, context: Context, encrypted: bool) -> Headers:
        """Return headers for a message; the traceparent is the last of them."""
        propagator = self._propagator()
        if encrypted:  # what goes in plain text beside an encrypted body is the trace's id alone
            context = baggage.clear(context)
        headers: Headers = {}
        propagator.inject(headers, context, _SETTER)
        if len(headers) > 1 and HEADER_TRACEPARENT in headers:
            headers[HEADER_TRACEPARENT] = headers.pop(HEADER_TRACEPARENT)
        return headers

    def unsampled(self, head: Head) -> Context | None:
        """Return the context of a message in a trace that is not sampled, if that is quickly seen.

        None: extract() tells.
        """
        traceparent = head.traceparent
        if not traceparent or _UNSAMPLED.fullmatch(traceparent) is None:
            return None
        if not _W3C.isdisjoint(head.shape.headers) or not self.is_plain:
            return None
        return Context({SPAN: Unsampled(traceparent.decode())})

    def unsampled_root(self, about: SpanContext) -> Context | None:
        """Return the context of a trace that begins here and is not sampled; None as above."""
        if about.trace_state or not about.is_valid or not self.is_plain:
            return None
        return Context({SPAN: Unsampled(written(about))})

    @guarded
    def extract(self, headers: Mapping[str, Any], encrypted: bool) -> Context:
        """Return the context that a message came with; empty without one, and for a broken one."""
        propagator = self._propagator()
        context = propagator.extract(headers, NOTHING, _GETTER)
        if not isinstance(context, Context):
            raise TypeError(f"extract: expected a Context, got {type(context).__name__}")
        lost = HEADER_TRACEPARENT in headers and not span_context(context).is_valid
        if lost and HEADER_TRACEPARENT in propagator.fields:
            self.guard.broken_contexts += 1
        return baggage.clear(context) if encrypted else context

    def sender(self, headers: Mapping[str, Any]) -> SpanContext:
        """Return the span that sent a message; an invalid one when it does not say."""
        context = self.extract(headers, True)
        return INVALID_SPAN_CONTEXT if context is None else span_context(context)


def span_context(context: Context) -> SpanContext:
    """Return what a context says of its current span."""
    return get_current_span(context).get_span_context()


def written(about: SpanContext) -> str:
    """Return a span as a traceparent (W3C Trace Context, section 3.2)."""
    return f"00-{about.trace_id:032x}-{about.span_id:016x}-{about.trace_flags:02x}"


def is_dark(context: Context) -> bool:
    """Return whether the trace that a context belongs to is not sampled."""
    span = context.get(SPAN)
    if not isinstance(span, Span):
        return False
    if type(span) is Unsampled:
        return True
    about = span.get_span_context()
    return about.is_valid and not about.trace_flags.sampled and not span.is_recording()
