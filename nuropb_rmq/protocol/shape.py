"""The content of header tables that differ in the ids of traces alone: decoded once, and kept."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from ..amqp import frames
from ..exceptions import AMQPProtocolError
from ..printable import short
from .constants import (
    HEADER_CALL_AGAIN_COUNT,
    HEADER_ENCRYPTED,
    HEADER_PROTOCOL,
    HEADER_TRACE_ID,
    HEADER_TRACEPARENT,
    HEADER_TYPE,
    KINDS,
    NUROPB_PROTOCOL_VERSIONS_SUPPORTED,
    MessageType,
)

MOST_SHAPES: Final = 256
LONGEST_SHAPE: Final = 1024  # bytes
TRACEPARENT_SIZE: Final = 55
TRACEPARENT_ENTRY: Final = (
    frames.shortstr(HEADER_TRACEPARENT) + b"S" + Struct(">I").pack(TRACEPARENT_SIZE)
)
"""The bytes before the value of a traceparent."""
_ENTRY_SIZE: Final = len(TRACEPARENT_ENTRY) + TRACEPARENT_SIZE


@dataclass(frozen=True, slots=True)
class Shape:
    """The content of a header table without the trace ids; many messages share one."""

    headers: dict[str, Any]
    kind: MessageType
    encrypted: bool
    call_again_count: int
    problem: str | None


known: dict[tuple[bytes, bytes], Shape] = {}
"""Shapes by the entries before and behind the trace id, without a traceparent."""


def without_traceparent(entries: bytes) -> tuple[bytes, bytes]:
    """Split a traceparent off the end of a header table's entries; return it, or b"", too."""
    start = len(entries) - _ENTRY_SIZE
    if start >= 0 and entries.startswith(TRACEPARENT_ENTRY, start):
        return entries[:start], entries[-TRACEPARENT_SIZE:]
    return entries, b""


def remember(before: bytes, behind: bytes) -> Shape | None:
    """Decode the entries around a trace id and keep their shape; None: they are not complete."""
    try:
        headers = frames.decode_table(before) | frames.decode_table(behind)
    except AMQPProtocolError:
        return None
    if HEADER_TRACE_ID in headers or HEADER_TRACEPARENT in headers:
        return None
    shape = shape_of(headers)
    plain = all(isinstance(value, str | int) for value in headers.values())
    if plain and len(before) + len(behind) <= LONGEST_SHAPE:
        if len(known) >= MOST_SHAPES:
            known.clear()
        known[before, behind] = shape
    return shape


def shape_of(headers: dict[str, Any]) -> Shape:
    """Return the shape of decoded headers."""
    named = headers.get(HEADER_TYPE)
    kind = KINDS.get(named) if isinstance(named, str) else None
    again = headers.get(HEADER_CALL_AGAIN_COUNT, 0)
    problem = None
    protocol = headers.get(HEADER_PROTOCOL)
    if protocol not in NUROPB_PROTOCOL_VERSIONS_SUPPORTED:
        supported = ", ".join(NUROPB_PROTOCOL_VERSIONS_SUPPORTED)
        problem = f"header {HEADER_PROTOCOL} is {short(protocol)}, expected {supported}"
    elif kind is None:
        problem = f"header {HEADER_TYPE} is {short(named)}, expected one of {', '.join(KINDS)}"
    return Shape(
        headers,
        kind or MessageType.REQUEST,
        headers.get(HEADER_ENCRYPTED) == "yes" and kind is not MessageType.EVENT,
        again if isinstance(again, int) and again >= 0 else 1,
        problem,
    )


NOTHING: Final = Shape({}, MessageType.REQUEST, False, 0, None)
