"""What a message says before its body is opened: properties and headers, read in one pass.

The properties are read first, so that a message whose headers or body are bad can still be
answered. The headers of one kind of message from one kind of peer differ in the trace id alone:
all others are decoded once, and looked up by their bytes from then on. Where the trace id is the
last of them, as with us, a message whose properties are as long as those of one before is taken
apart at the same places, if what lies between them is the same (`Layout`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct, error
from typing import Any, Final

from ..amqp import frames
from ..amqp.frames import Content, Properties
from ..exceptions import AMQPProtocolError, MalformedMessageError
from .constants import (
    HEADER_CALL_AGAIN_COUNT,
    HEADER_ENCRYPTED,
    HEADER_PROTOCOL,
    HEADER_TRACE_ID,
    HEADER_TYPE,
    KINDS,
    NUROPB_PROTOCOL_VERSIONS_SUPPORTED,
    REQUEST,
    MessageType,
)

MAX_TRACE_ID: Final = 1024
"""Characters: it travels in a header, and all headers of a message must fit into one frame."""

_LENGTH: Final = Struct(">I")
_TRACE_ID: Final = frames.shortstr(HEADER_TRACE_ID) + b"S"
_BEHIND_MESSAGE_ID: Final = 0x007C
"""Flags of the properties that stand behind the message id, and mean nothing here."""
USUAL_FLAGS: Final = (
    frames.HAS_CONTENT_TYPE
    | frames.HAS_HEADERS
    | frames.HAS_DELIVERY_MODE
    | frames.HAS_CORRELATION_ID
    | frames.HAS_MESSAGE_ID
)
"""Of the properties that every message of ours has."""
_OPTIONAL: Final = frames.HAS_REPLY_TO | frames.HAS_EXPIRATION
_MOST_SHAPES: Final = 256
_MOST_OF_A_LENGTH: Final = 8
"""Layouts that are kept of properties that are equally long; others are read in full."""
_LONGEST_SHAPE: Final = 1024  # bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """What a header table says, whatever its trace id is. Many messages share one."""

    headers: dict[str, Any]
    kind: MessageType
    encrypted: bool
    call_again_count: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the values of properties are that have a certain length."""

    unpack: Callable[[bytes], tuple[bytes, ...]]
    """Into what is the same in each, and what is not, in turns: trace id, correlation id, reply_to
    and expiration (where they are), message id."""
    between: tuple[bytes, ...]
    """What is the same: the headers, and how long each value is."""
    reply_to: bool
    expiration: bool
    shape: Shape


class Head:
    """What properties and headers of an incoming message say; `problem` when they are bad.

    Reading never raises. A message whose type is not known counts as a request: then its error is
    answered.
    """

    __slots__ = (
        "_expiration", "content", "correlation_id", "encrypted",
        "kind", "problem", "reply_to", "shape", "trace_id",
    )  # fmt: skip

    trace_id: str | None
    """None, too, when it is nothing that an answer could carry."""
    encrypted: bool
    """Whether the body is. Old peers may mark events so, and never encrypt them."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.problem: MalformedMessageError | None = None
        if not self._read_known(content.raw_properties):
            self._clear()
            self._read(content)

    def _read_known(self, raw: bytes) -> bool:
        """Read properties of a known layout, in two fifths of the time; False when it is not."""
        for layout in _layouts.get(len(raw), ()):
            parts = layout.unpack(raw)
            if parts[::2] == layout.between:
                break
        else:
            return False
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
            self._clear()  # nothing that was read so far can be trusted
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
        self.kind = REQUEST
        self.encrypted = False
        self._expiration = b""
        self.shape = _NOTHING

    @property
    def properties(self) -> Properties:
        """All of the properties. Raises AMQPProtocolError when they cannot be read."""
        return frames.decode_properties(self.content.raw_properties)

    @property
    def call_again_count(self) -> int:
        """Number of times that it has been called again.

        0 unless it came by the default exchange, as call-agains do: other senders could forge it.
        """
        return 0 if self.content.route[0] else self.shape.call_again_count

    @property
    def headers(self) -> dict[str, Any]:
        """The headers, as a dict of one's own."""
        headers = dict(self.shape.headers)
        if self.trace_id is not None:
            headers[HEADER_TRACE_ID] = self.trace_id
        return headers

    @property
    def ttl(self) -> int | None:
        """The expiration in milliseconds, when it has one."""
        value = self._expiration
        return int(value) if value.isdigit() else None

    def _read_properties(self, raw: bytes) -> bytes | None:
        """Read correlation id, reply_to and expiration; returns the header table's entries.

        This is frames.decode_properties for what is looked at, in a straight line (a third of its
        time). A string that is not UTF-8 keeps its bytes as surrogates.
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
            frames.decode_properties(raw)  # few have them: only whether they are whole matters
        elif at != len(raw) or flags & 3:
            raise AMQPProtocolError("message properties do not fill their frame")
        return table

    def _read_headers(self, table: bytes) -> str | None:
        """Read the headers; returns what is wrong with the envelope, if anything is."""
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
        """The shape of a header table, and the trace id.

        What stands before and behind the trace id must each be whole entries: the mark may occur
        within some other value, and then all is decoded, and nothing remembered.
        """
        before, mark, rest = table.partition(_TRACE_ID)
        trace_id = behind = b""
        if mark:
            end = 4 + _LENGTH.unpack_from(rest)[0] if len(rest) >= 4 else len(rest) + 1
            trace_id, behind = rest[4:end], rest[end:]
            if end > len(rest) or len(trace_id) > MAX_TRACE_ID:
                return self._decode(table)
        shape = _shapes.get((before, behind))
        if shape is None:
            shape = _remember(before, behind)
            if shape is None:
                return self._decode(table)
        if mark:
            try:
                self.trace_id = trace_id.decode()
            except UnicodeDecodeError:
                return self._decode(table)
        return shape

    def _decode(self, table: bytes) -> Shape:
        headers = frames.decode_table(table)
        value = headers.get(HEADER_TRACE_ID)
        if isinstance(value, str) and len(value) <= MAX_TRACE_ID:
            self.trace_id = value
        return _shape_of(headers)


_shapes: dict[tuple[bytes, bytes], Shape] = {}


def _remember(before: bytes, behind: bytes) -> Shape | None:
    """The shape of these entries, kept for the next message; None when they are none."""
    try:
        headers = frames.decode_table(before) | frames.decode_table(behind)
    except AMQPProtocolError:
        return None
    if HEADER_TRACE_ID in headers:
        return None
    shape = _shape_of(headers)
    plain = all(isinstance(value, str | int) for value in headers.values())
    if plain and len(before) + len(behind) <= _LONGEST_SHAPE:
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        _shapes[before, behind] = shape
    return shape


_layouts: dict[int, list[Layout]] = {}


def _remember_layout(raw: bytes, shape: Shape) -> None:
    """Keep the layout of properties that were read in full, when it is the usual one.

    That is: with headers that end in the trace id, and nothing but strings behind the delivery
    mode.
    """
    flags = raw[0] << 8 | raw[1]
    if flags & ~_OPTIONAL != USUAL_FLAGS:
        return
    table = 3 + raw[2]
    end = table + 4 + _LENGTH.unpack_from(raw, table)[0]
    before, mark, rest = raw.partition(_TRACE_ID)
    start = len(before) + len(mark) + 4
    size = end - start
    if len(before) > _LONGEST_SHAPE or not 0 <= size <= MAX_TRACE_ID:
        return
    # The mark may occur within some other value: what stands before it must be whole entries.
    if rest[:4] != _LENGTH.pack(size) or _shapes.get((before[table + 4 :], b"")) is not shape:
        return
    known = _layouts.get(len(raw), [])
    if len(known) >= _MOST_OF_A_LENGTH:
        return
    sizes = [start, size, 2, raw[end + 1]]
    while (at := sum(sizes)) < len(raw):
        sizes += (1, raw[at])
    unpack = Struct("".join(f"{size}s" for size in sizes)).unpack
    between = unpack(raw)[::2]
    if any(each.between == between for each in known):
        return  # it is one of those: its values are no text
    reply_to, expiration = bool(flags & frames.HAS_REPLY_TO), bool(flags & frames.HAS_EXPIRATION)
    if not known and len(_layouts) >= _MOST_SHAPES:
        _layouts.clear()
    _layouts[len(raw)] = [*known, Layout(unpack, between, reply_to, expiration, shape)]


def _shape_of(headers: dict[str, Any]) -> Shape:
    named = headers.get(HEADER_TYPE)
    kind = KINDS.get(named) if isinstance(named, str) else None
    again = headers.get(HEADER_CALL_AGAIN_COUNT, 0)
    problem = None
    protocol = headers.get(HEADER_PROTOCOL)
    if protocol not in NUROPB_PROTOCOL_VERSIONS_SUPPORTED:
        supported = ", ".join(NUROPB_PROTOCOL_VERSIONS_SUPPORTED)
        problem = f"header {HEADER_PROTOCOL} is {short(protocol)}, understood is {supported}"
    elif kind is None:
        problem = f"header {HEADER_TYPE} is {short(named)}, no type of message"
    return Shape(
        headers,
        kind or MessageType.REQUEST,
        headers.get(HEADER_ENCRYPTED) == "yes" and kind is not MessageType.EVENT,
        again if isinstance(again, int) and again >= 0 else 1,
        problem,
    )


_NOTHING: Final = Shape({}, MessageType.REQUEST, False, 0, None)


def short(value: object) -> str:
    """A header's value, for an operator."""
    if value is None:
        return "missing"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "…")
    return type_of(value)


def type_of(value: object) -> str:
    """What a value is; never the value itself, which may be secret."""
    return "null" if value is None else f"a {type(value).__name__}"
