"""Read the properties and headers of a message in one pass, before its body.

The properties are read first, so that a message with bad headers or a bad body can still be
answered. The headers of one kind of message from one kind of peer differ in the trace id alone, and
in the traceparent before it: the rest is decoded once, and looked up by its bytes from then on
(`Shape`). Where the trace id is the last header, as with us, properties as long as earlier ones are
cut at the same offsets, if the bytes between the values are the same (`Layout`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct, error
from typing import Any, Final

from ..amqp import frames
from ..amqp.frames import Content, Properties
from ..exceptions import AMQPProtocolError, MalformedMessageError
from .constants import HEADER_TRACE_ID, HEADER_TRACEPARENT, REQUEST, MessageType
from .dead_letter import HEADER_ATTEMPTS, HEADER_FIRST_FAILED_AT, HEADER_TIME_LEFT
from .shape import (
    LONGEST_SHAPE,
    MOST_SHAPES,
    NOTHING,
    TRACEPARENT_SIZE,
    Shape,
    known,
    remember,
    shape_of,
    without_traceparent,
)

MAX_TRACE_ID: Final = 1024
"""Characters; the trace id is a header, and all headers of a message must fit into one frame."""

_LENGTH: Final = Struct(">I")
_TRACE_ID: Final = frames.shortstr(HEADER_TRACE_ID) + b"S"
_BEHIND_MESSAGE_ID: Final = 0x007C
"""Flags of the properties after the message id, which NuroPb does not use."""
USUAL_FLAGS: Final = (
    frames.HAS_CONTENT_TYPE
    | frames.HAS_HEADERS
    | frames.HAS_DELIVERY_MODE
    | frames.HAS_CORRELATION_ID
    | frames.HAS_MESSAGE_ID
)
"""Flags of the properties that every message of ours has."""
_OPTIONAL: Final = frames.HAS_REPLY_TO | frames.HAS_EXPIRATION
_MOST_OF_A_LENGTH: Final = 8
"""Layouts kept for properties of one length; others are read in full."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The offsets of the values in properties of a certain length."""

    unpack: Callable[[bytes], tuple[bytes, ...]]
    """Splits properties into constant bytes and values in turns. The values: traceparent (if
    present), trace id, correlation id, reply_to and expiration (if present), message id."""
    between: tuple[bytes, ...]
    """The constant bytes: the headers, and the length of each value."""
    traceparent: bool
    reply_to: bool
    expiration: bool
    shape: Shape


class Head:
    """The properties and headers of an incoming message; `problem` is set when they are bad.

    Reading never raises. A message of unknown type counts as a request, so that its error is
    answered.
    """

    __slots__ = (
        "_expiration", "content", "correlation_id", "encrypted",
        "kind", "problem", "reply_to", "shape", "trace_id", "traceparent",
    )  # fmt: skip

    correlation_id: str
    reply_to: str
    kind: MessageType
    shape: Shape
    trace_id: str | None
    """None also when it is unfit for an answer: not text, or too long."""
    traceparent: bytes
    """The W3C traceparent, when it stands before the trace id; others are among the headers."""
    encrypted: bool
    """True when the body is encrypted; never for events: old peers mark them without encrypting."""

    def __init__(self, content: Content) -> None:
        self.content: Content = content
        self.problem: MalformedMessageError | None = None
        self.traceparent = b""
        if not self._read_known(content.raw_properties):
            self._clear()
            self._read(content)

    def _read_known(self, raw: bytes) -> bool:
        """Read properties of a known layout, in two fifths of the time; False: it is not known."""
        for layout in _layouts.get(len(raw), ()):
            parts = layout.unpack(raw)
            if parts[::2] == layout.between:
                break
        else:
            return False
        if layout.traceparent:
            self.traceparent = parts[1]
            parts = parts[2:]
        try:
            trace_id = parts[1].decode()
            correlation_id = parts[3].decode()
            reply_to = parts[5].decode() if layout.reply_to else ""
        except UnicodeDecodeError:
            return False
        if not correlation_id.isprintable():
            return False
        shape = self.shape = layout.shape
        self.kind = shape.kind
        self.encrypted = shape.encrypted
        self.trace_id = trace_id
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self._expiration = parts[-3] if layout.expiration else b""
        return True

    def _read(self, content: Content) -> None:
        try:
            table = self._read_properties(content.raw_properties)
        except (AMQPProtocolError, IndexError, error) as e:
            self._clear()  # the values that were read so far cannot be trusted
            ours = isinstance(e, AMQPProtocolError)
            problem: str | None = str(e) if ours else "message properties end too early"
        else:
            problem = "no headers" if table is None else self._read_headers(table)
            if problem is None:
                _remember_layout(content.raw_properties, self.shape)
        if problem is not None:
            self.problem = MalformedMessageError(problem)

    def _clear(self) -> None:
        self.correlation_id = ""
        self.reply_to = ""
        self.trace_id = None
        self.traceparent = b""
        self.kind = REQUEST
        self.encrypted = False
        self._expiration = b""
        self.shape = NOTHING

    @property
    def properties(self) -> Properties:
        """All properties; raises AMQPProtocolError when they cannot be read."""
        return frames.decode_properties(self.content.raw_properties)

    @property
    def call_again_count(self) -> int:
        """Number of times that it has been called again.

        0 unless it came by the default exchange, as call-agains do: other senders could forge it.
        """
        return 0 if self.content.route[0] else self.shape.call_again_count

    @property
    def headers(self) -> dict[str, Any]:
        """The headers, in a new dict."""
        headers = dict(self.shape.headers)
        if self.trace_id is not None:
            headers[HEADER_TRACE_ID] = self.trace_id
        if self.traceparent:
            headers[HEADER_TRACEPARENT] = self.traceparent.decode("utf-8", "replace")
        return headers

    @property
    def attempts(self) -> int:
        """Number of times that it was handled before it came back from a retry; 0 as above."""
        return self._count(HEADER_ATTEMPTS) or 0

    @property
    def first_failed_at(self) -> str | None:
        """Time of its first failure (ISO 8601), when it has come back from a retry."""
        value = self.shape.headers.get(HEADER_FIRST_FAILED_AT)
        return value if self.attempts and isinstance(value, str) else None

    @property
    def ttl(self) -> int | None:
        """Expiration in milliseconds, if it has one; after a retry, the rest of it."""
        value = self._expiration
        return int(value) if value.isdigit() else self._count(HEADER_TIME_LEFT)

    def log_fields(self) -> dict[str, object]:
        """Return what log records say of the message; see ServiceLog."""
        return {
            "type": self.kind.value,
            "correlation_id": self.correlation_id,
            "trace_id": self.trace_id,
            "delivery_tag": self.content.tag,
        }

    def _count(self, name: str) -> int | None:
        """Return a number that we have written; None for one that another sender may have forged.

        Messages that come back do so by the default exchange, to which senders may not publish.
        """
        value = None if self.content.route[0] else self.shape.headers.get(name)
        return value if type(value) is int and value >= 0 else None

    def _read_properties(self, raw: bytes) -> bytes | None:
        """Read correlation id, reply_to and expiration; return the header table's entries.

        This is frames.decode_properties for the properties that we use, without its loop (a third
        of its time). Strings that are not UTF-8 keep their bytes as surrogates.
        """
        flags = raw[0] << 8 | raw[1]
        at = 2
        table = None
        if flags & frames.HAS_CONTENT_TYPE:
            at += 1 + raw[at]
        if flags & frames.HAS_CONTENT_ENCODING:
            at += 1 + raw[at]
        if flags & frames.HAS_HEADERS:
            start = at + 4
            at = start + _LENGTH.unpack_from(raw, at)[0]
            table = raw[start:at]
        if flags & frames.HAS_DELIVERY_MODE:
            at += 1
        if flags & frames.HAS_PRIORITY:
            at += 1
        if flags & frames.HAS_CORRELATION_ID:
            start = at + 1
            at = start + raw[at]
            self.correlation_id = raw[start:at].decode("utf-8", "surrogateescape")
        if flags & frames.HAS_REPLY_TO:
            start = at + 1
            at = start + raw[at]
            self.reply_to = raw[start:at].decode("utf-8", "surrogateescape")
        if flags & frames.HAS_EXPIRATION:
            start = at + 1
            at = start + raw[at]
            self._expiration = raw[start:at]
        if flags & frames.HAS_MESSAGE_ID:
            at += 1 + raw[at]
        if flags & _BEHIND_MESSAGE_ID:
            frames.decode_properties(raw)  # rare; raises when they are incomplete
        elif at != len(raw) or flags & 3:
            raise AMQPProtocolError("message properties do not fill their frame")
        return table

    def _read_headers(self, table: bytes) -> str | None:
        """Read the headers; return the problem with properties or headers, if there is one."""
        try:
            shape = self.shape = self._look_up(table)
        except AMQPProtocolError as e:
            return str(e)
        self.kind = shape.kind
        self.encrypted = shape.encrypted
        if shape.problem is not None:
            return shape.problem
        if not self.correlation_id:
            return "no correlation_id"
        if not self.correlation_id.isprintable():
            return "correlation_id is not UTF-8 text"
        return None

    def _look_up(self, table: bytes) -> Shape:
        """Return the shape of a header table, and set the trace id.

        The bytes before and after the trace id must be complete entries. If not, its mark was part
        of another value: then the table is decoded, and not remembered.
        """
        before, mark, rest = table.partition(_TRACE_ID)
        before, traceparent = without_traceparent(before)
        trace_id = behind = b""
        if mark:
            end = 4 + _LENGTH.unpack_from(rest)[0] if len(rest) >= 4 else len(rest) + 1
            trace_id, behind = rest[4:end], rest[end:]
            if end > len(rest) or len(trace_id) > MAX_TRACE_ID:
                return self._decode(table)
        shape = known.get((before, behind))
        if shape is None:
            shape = remember(before, behind)
            if shape is None:
                return self._decode(table)
        if mark:
            try:
                self.trace_id = trace_id.decode()
            except UnicodeDecodeError:
                return self._decode(table)
        self.traceparent = traceparent
        return shape

    def _decode(self, table: bytes) -> Shape:
        headers = frames.decode_table(table)
        value = headers.get(HEADER_TRACE_ID)
        if isinstance(value, str) and len(value) <= MAX_TRACE_ID:
            self.trace_id = value
        return shape_of(headers)


_layouts: dict[int, list[Layout]] = {}


def _remember_layout(raw: bytes, shape: Shape) -> None:
    """Keep the layout of properties that were read in full, if it is the usual one.

    Usual are headers that end in the trace id, and only strings after the delivery mode.
    """
    flags = raw[0] << 8 | raw[1]
    if flags & ~_OPTIONAL != USUAL_FLAGS:
        return
    table = 3 + raw[2]
    end = table + 4 + _LENGTH.unpack_from(raw, table)[0]
    before, mark, rest = raw.partition(_TRACE_ID)
    start = len(before) + len(mark) + 4
    size = end - start
    if len(before) > LONGEST_SHAPE or not 0 <= size <= MAX_TRACE_ID:
        return
    # The mark may be part of another value: the bytes before it must be complete entries.
    entries, traceparent = without_traceparent(before[table + 4 :])
    if rest[:4] != _LENGTH.pack(size) or known.get((entries, b"")) is not shape:
        return
    layouts = _layouts.get(len(raw), [])
    if len(layouts) >= _MOST_OF_A_LENGTH:
        return
    sizes = [start, size, 2, raw[end + 1]]
    if traceparent:
        sizes[:1] = [len(before) - TRACEPARENT_SIZE, TRACEPARENT_SIZE, len(mark) + 4]
    while (at := sum(sizes)) < len(raw):
        sizes += (1, raw[at])
    unpack = Struct("".join(f"{size}s" for size in sizes)).unpack
    between = unpack(raw)[::2]
    if any(layout.between == between for layout in layouts):
        return  # known, but its values are not UTF-8
    reply_to, expiration = bool(flags & frames.HAS_REPLY_TO), bool(flags & frames.HAS_EXPIRATION)
    if not layouts and len(_layouts) >= MOST_SHAPES:
        _layouts.clear()
    _layouts[len(raw)] = [
        *layouts,
        Layout(unpack, between, bool(traceparent), reply_to, expiration, shape),
    ]


def whole_body(content: Content) -> bytes:
    """Return the body. Raises MalformedMessageError when it was too large to be kept."""
    if len(content.body) != content.body_size:
        raise MalformedMessageError(
            f"the body of {content.body_size} bytes is larger than max_body_bytes"
        )
    return content.body
