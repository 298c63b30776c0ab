"""AMQP 0-9-1 frames of the data plane, packed and read; no I/O.

Only frequent frames are handled here: Basic.Publish with its content, acknowledgements, and the
parts of a delivery that the router must read. aiormq packs all others. Layouts follow the AMQP
0-9-1 specification: 2.3.5 (frames), 4.2.5 (values, in RabbitMQ's dialect) and 4.2.6 (content).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct, error
from typing import Any, Final

import pamqp.decode

from ..exceptions import AMQPProtocolError
from ..printable import shorten

FRAME_METHOD: Final = 1
FRAME_HEADER: Final = 2
FRAME_BODY: Final = 3
FRAME_END: Final = 0xCE
FRAME_OVERHEAD: Final = 8
"""Bytes around a frame's payload: type, channel, size, and the end octet."""
HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

# Class and method numbers as one 32-bit word, as they stand at the start of a method frame.
CONNECTION_TUNE: Final = 10 << 16 | 30
CONNECTION_CLOSE: Final = 10 << 16 | 50
CONNECTION_BLOCKED: Final = 10 << 16 | 60
CONNECTION_UNBLOCKED: Final = 10 << 16 | 61
CONNECTION_UPDATE_SECRET_OK: Final = 10 << 16 | 71
CHANNEL_OPEN_OK: Final = 20 << 16 | 11
CHANNEL_CLOSE: Final = 20 << 16 | 40
CHANNEL_CLOSE_OK: Final = 20 << 16 | 41
BASIC_CANCEL: Final = 60 << 16 | 30
BASIC_CANCEL_OK: Final = 60 << 16 | 31
BASIC_PUBLISH: Final = 60 << 16 | 40
BASIC_RETURN: Final = 60 << 16 | 50
BASIC_DELIVER: Final = 60 << 16 | 60
BASIC_ACK: Final = 60 << 16 | 80
BASIC_REJECT: Final = 60 << 16 | 90
BASIC_NACK: Final = 60 << 16 | 120

FRAME_START: Final = Struct(">BHI")
METHOD_ID: Final = Struct(">I")
DELIVERY_TAG: Final = Struct(">Q")
CONTENT_HEADER: Final = Struct(">HHQ")

_SHORT = Struct(">H")
_LONG = Struct(">I")
_LONGLONG = Struct(">Q")
_SIGNED_LONG = Struct(">i")
_SIGNED_LONGLONG = Struct(">q")
# Field types of a fixed size (4.2.1, in RabbitMQ's dialect) are few in headers: pamqp reads them.
_FIXED: Final = {
    kind: (pamqp.decode.TABLE_MAPPING[bytes((kind,))], size)
    for size, kinds in ((0, b"V"), (1, b"tbB"), (2, b"su"), (4, b"Iif"), (5, b"D"), (8, b"lLdT"))
    for kind in kinds
}
TABLE_DEPTH: Final = 32  # tables and arrays within each other; the broker's own x-death is 3
_HEADER = Struct(">IHHQ")
_TO_BODY = Struct(">BBHI")  # the end of one frame and the start of the next in one go
_TAG_METHOD = Struct(">BHIIQBB")

# Property flags (4.2.6.1) of the properties that we send.
HAS_CONTENT_TYPE: Final = 0x8000
HAS_CONTENT_ENCODING: Final = 0x4000
HAS_HEADERS: Final = 0x2000
HAS_DELIVERY_MODE: Final = 0x1000
HAS_PRIORITY: Final = 0x0800
HAS_CORRELATION_ID: Final = 0x0400
HAS_REPLY_TO: Final = 0x0200
HAS_EXPIRATION: Final = 0x0100
HAS_MESSAGE_ID: Final = 0x0080


class FieldError(ValueError):
    """A value that AMQP cannot carry; the text quotes it."""


def shortstr(value: str) -> bytes:
    """Pack a short string (4.2.5.3), of at most 255 bytes of UTF-8; raises FieldError."""
    data = value.encode() if value.isascii() else utf8(value)
    size = len(data)
    if size > 255:
        raise FieldError(f"expected at most 255 bytes of UTF-8, got {size}: {shorten(value)!r}")
    return b"%c%s" % (size, data)


def utf8(value: str) -> bytes:
    """Encode text; surrogateescape restores bytes that were not UTF-8. Raises FieldError."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as e:
        raise FieldError(f"expected text for UTF-8, got {shorten(value)!r}") from e


def table_entry(name: str, value: str | int | bool) -> bytes:
    """Pack one entry of a field table: strings as S, booleans as t, integers as I or l."""
    key = shortstr(name)
    match value:
        case bool():
            return key + (b"t\x01" if value else b"t\x00")
        case int():
            if -(2**31) <= value < 2**31:
                return key + b"I" + _SIGNED_LONG.pack(value)
            return key + b"l" + _SIGNED_LONGLONG.pack(value)
        case str():
            return b"%sS%s%s" % (key, _LONG.pack(len(data := utf8(value))), data)


def decode_table(entries: bytes) -> dict[str, Any]:
    """Read a header table's entries (without the length in front) into a dict.

    Raises AMQPProtocolError for anything unreadable: the message is bad, not the connection.
    """
    try:
        return _table(entries, 0, len(entries), TABLE_DEPTH)
    except (ValueError, LookupError, OverflowError, OSError, error) as e:
        raise AMQPProtocolError(f"header table cannot be decoded: {e}") from e


def _table(data: bytes, at: int, end: int, depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    while at < end:
        key_at, key_end = at + 1, at + 1 + data[at]
        value: Any
        if data[key_end] == 0x53:  # "S", long string: NuroPb's headers hold little else
            start = key_end + 5
            at = start + _LONG.unpack_from(data, key_end + 1)[0]
            value = _text(data[start:at])
        else:
            value, at = read_value(data, key_end, depth)
        table[data[key_at:key_end].decode()] = value
    if at != end:
        raise ValueError("a value runs past the end of its table")
    return table


def _array(data: bytes, at: int, end: int, depth: int) -> list[Any]:
    items = []
    while at < end:
        item, at = read_value(data, at, depth)
        items.append(item)
    if at != end:
        raise ValueError("a value runs past the end of its array")
    return items


def read_value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Return the field value whose type octet stands at `at`, and the offset after it."""
    kind = data[at]
    if fixed := _FIXED.get(kind):
        decode, size = fixed
        return decode(data[at + 1 : at + 1 + size])[1], at + 1 + size
    start = at + 5
    stop = start + _LONG.unpack_from(data, at + 1)[0]
    if kind == 0x53:  # "S", long string
        return _text(data[start:stop]), stop
    if not depth:
        raise ValueError(f"nested deeper than {TABLE_DEPTH} levels")
    match kind:
        case 0x46:  # "F", table
            return _table(data, start, stop, depth - 1), stop
        case 0x41:  # "A", array
            return _array(data, start, stop, depth - 1), stop
        case 0x78:  # "x", bytes
            return data[start:stop], stop
    raise ValueError(f"unknown field type {kind}")


def _text(raw: bytes) -> str | bytes:
    """Return a long string (4.2.5.3) as text, or as bytes when it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


@dataclass(slots=True)
class Properties:
    """The properties of one message (class basic, 1.8). `headers` is the undecoded table."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: bytes | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


# (flag, attribute, kind) in the order in which they stand in the frame.
_FIELDS: Final = (
    (HAS_CONTENT_TYPE, "content_type", "s"),
    (HAS_CONTENT_ENCODING, "content_encoding", "s"),
    (HAS_HEADERS, "headers", "F"),
    (HAS_DELIVERY_MODE, "delivery_mode", "o"),
    (HAS_PRIORITY, "priority", "o"),
    (HAS_CORRELATION_ID, "correlation_id", "s"),
    (HAS_REPLY_TO, "reply_to", "s"),
    (HAS_EXPIRATION, "expiration", "s"),
    (HAS_MESSAGE_ID, "message_id", "s"),
    (0x0040, "timestamp", "T"),
    (0x0020, "type", "s"),
    (0x0010, "user_id", "s"),
    (0x0008, "app_id", "s"),
    (0x0004, "cluster_id", "s"),
)


@lru_cache(maxsize=256)
def _fields(flags: int) -> tuple[tuple[str, str], ...]:
    """Return the names and kinds of the fields that these flags announce, from a cache."""
    return tuple((name, kind) for flag, name, kind in _FIELDS if flags & flag)


def encode_properties(properties: Properties) -> bytes:
    """Pack the property flags and values of a content header, as they follow the body size."""
    flags = 0
    parts = [b""]
    for flag, name, kind in _FIELDS:
        value = getattr(properties, name)
        if value is None:
            continue
        flags |= flag
        if kind == "s":
            parts.append(shortstr(value))
        elif kind == "F":
            parts.append(_LONG.pack(len(value)))
            parts.append(value)
        elif kind == "o":
            parts.append(bytes((value,)))
        else:
            parts.append(_LONGLONG.pack(value))
    parts[0] = _SHORT.pack(flags)
    return b"".join(parts)


def decode_properties(raw: bytes) -> Properties:
    """Read property flags and values; strings that are not UTF-8 keep their bytes as surrogates.

    Raises AMQPProtocolError when the values do not fill the frame exactly.
    """
    properties = Properties()
    try:
        (flags,) = _SHORT.unpack_from(raw)
        at = 2
        for name, kind in _fields(flags):
            if kind == "s":
                start = at + 1
                at = start + raw[at]
                setattr(properties, name, raw[start:at].decode("utf-8", "surrogateescape"))
            elif kind == "F":
                start = at + 4
                at = start + _LONG.unpack_from(raw, at)[0]
                properties.headers = raw[start:at]
            elif kind == "o":
                setattr(properties, name, raw[at])
                at += 1
            else:
                properties.timestamp = _LONGLONG.unpack_from(raw, at)[0]
                at += 8
    except (IndexError, error) as e:
        raise AMQPProtocolError("message properties end too early") from e
    if at != len(raw) or flags & 3:
        raise AMQPProtocolError("message properties do not fill their frame")
    return properties


def publish_method(exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """Return the payload of a Basic.Publish method frame; constant for a destination."""
    names = shortstr(exchange) + shortstr(routing_key)
    return METHOD_ID.pack(BASIC_PUBLISH) + b"\x00\x00" + names + (b"\x01" if mandatory else b"\x00")


@lru_cache(maxsize=1024)
def _up_to_header(channel: int, method: bytes) -> bytes:
    """Return a method frame and the start of the header frame; constant for a destination."""
    number = channel.to_bytes(2, "big")
    start = FRAME_START.pack(FRAME_METHOD, channel, len(method))
    return b"%b%b%c%c%b" % (start, method, FRAME_END, FRAME_HEADER, number)


def pack_content(
    channel: int, method: bytes, properties: bytes, body: bytes, frame_max: int
) -> bytes:
    """Pack a message: its method frame, its header frame, and as many body frames as it needs."""
    size = len(body)
    start = _up_to_header(channel, method)
    header = _HEADER.pack(12 + len(properties), 60, 0, size)
    room = frame_max - FRAME_OVERHEAD
    if 0 < size <= room:
        to_body = _TO_BODY.pack(FRAME_END, FRAME_BODY, channel, size)
        return b"".join((start, header, properties, to_body, body, b"\xce"))
    parts = [start, header, properties]
    for at in range(0, size, room):
        chunk = body[at : at + room]
        parts += (_TO_BODY.pack(FRAME_END, FRAME_BODY, channel, len(chunk)), chunk)
    return b"".join((*parts, b"\xce"))


def pack_ack(channel: int, delivery_tag: int, *, multiple: bool = False) -> bytes:
    """Pack Basic.Ack of one delivery, or of it and all before it."""
    return _TAG_METHOD.pack(FRAME_METHOD, channel, 13, BASIC_ACK, delivery_tag, multiple, FRAME_END)


def pack_nack(channel: int, delivery_tag: int, *, requeue: bool, multiple: bool = False) -> bytes:
    """Pack Basic.Nack of one delivery, or of it and all before it; 0 stands for all."""
    bits = requeue << 1 | multiple
    return _TAG_METHOD.pack(FRAME_METHOD, channel, 13, BASIC_NACK, delivery_tag, bits, FRAME_END)


def pack_reject(channel: int, delivery_tag: int, *, requeue: bool) -> bytes:
    """Pack Basic.Reject of one delivery; without requeue it is dead-lettered."""
    bits = 1 if requeue else 0
    return _TAG_METHOD.pack(FRAME_METHOD, channel, 13, BASIC_REJECT, delivery_tag, bits, FRAME_END)


def pack_cancel(channel: int, consumer_tag: str) -> bytes:
    """Pack Basic.Cancel, which Basic.CancelOk answers."""
    payload = METHOD_ID.pack(BASIC_CANCEL) + shortstr(consumer_tag) + b"\x00"
    return FRAME_START.pack(FRAME_METHOD, channel, len(payload)) + payload + b"\xce"


def read_shortstr(data: bytes, at: int) -> tuple[str, int]:
    """Return a short string and the offset after it; raises IndexError when it is incomplete."""
    end = at + 1 + data[at]
    if end > len(data):
        raise IndexError("short string runs past the end")
    return data[at + 1 : end].decode("utf-8", "surrogateescape"), end


def read_close(payload: bytes) -> tuple[int, str]:
    """Return reply code and text of Connection.Close or Channel.Close (the same layout)."""
    (code,) = _SHORT.unpack_from(payload, 4)
    return code, read_shortstr(payload, 6)[0]


def read_tune_frame_max(payload: bytes) -> int:
    """Return the frame_max, in bytes, of Connection.Tune; 0 means no limit."""
    return int(_LONG.unpack_from(payload, 6)[0])


@dataclass(slots=True)
class Content:
    """A message of a Basic.Deliver or Basic.Return, with its properties and body.

    `tag` is the delivery tag (0 for a return), `route` the raw exchange and routing key. `body` is
    empty if the channel does not admit `body_size` bytes.
    """

    tag: int
    redelivered: bool
    route: bytes
    reply_code: int = 0
    reply_text: str = ""
    raw_properties: bytes = field(default=b"", repr=False)
    body_size: int = 0
    body: bytes = field(default=b"", repr=False)

    @property
    def exchange(self) -> str:
        """Name of the exchange that the message was published to."""
        return read_shortstr(self.route, 0)[0]

    @property
    def routing_key(self) -> str:
        """Routing key that the message was published with."""
        return read_shortstr(self.route, 1 + self.route[0])[0]


def read_deliver(payload: bytes) -> Content:
    """Read Basic.Deliver, without its consumer tag: a channel of ours has one consumer."""
    at = 5 + payload[4]
    (tag,) = _LONGLONG.unpack_from(payload, at)
    route = at + 9
    exchange_end = route + 1 + payload[route]
    if exchange_end + 1 + payload[exchange_end] != len(payload):
        raise IndexError("Basic.Deliver does not fill its frame")
    return Content(tag, payload[at + 8] & 1 == 1, payload[route:])


def read_return(payload: bytes) -> Content:
    """Read Basic.Return."""
    code, text = read_close(payload)
    route = 7 + payload[6]
    exchange_end = route + 1 + payload[route]
    if exchange_end + 1 + payload[exchange_end] != len(payload):
        raise IndexError("Basic.Return does not fill its frame")
    return Content(0, False, payload[route:], code, text)
