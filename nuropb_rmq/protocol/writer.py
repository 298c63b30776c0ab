"""Check payloads before they are sent, pack their messages, and read payloads from bodies.

The properties of many messages differ only in their ids: the rest is packed once.
`nuropb_rmq.protocol.reader` reads the properties and headers of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from ..amqp import frames
from ..exceptions import MalformedMessageError, NuropbSerializationError, NuropbValidationError
from ..printable import short, type_of
from . import serialization
from .constants import (
    COMMAND,
    CONTENT_TYPE,
    EVENT,
    HEADER_ENCRYPTED,
    HEADER_PROTOCOL,
    HEADER_TRACE_ID,
    HEADER_TYPE,
    HEADER_VERSION,
    KINDS,
    MAX_EXPIRATION,
    NUROPB_PROTOCOL_VERSION,
    NUROPB_VERSION,
    REQUEST,
    RESPONSE,
    MessageType,
)
from .reader import MAX_TRACE_ID, USUAL_FLAGS, Head

_TRACE_ID: Final = frames.shortstr(HEADER_TRACE_ID) + b"S"
_LENGTH: Final = Struct(">I")
_SHORT: Final = Struct(">H")

MAX_TOPIC: Final = 255
"""Bytes; a topic is a routing key, which is a short string (AMQP 0-9-1, section 4.2.5.3)."""

# Tuples: isinstance with `dict | None` makes a new union each time.
_DICT_OR_NONE: Final = (dict, type(None))
_MAPPING_OR_NONE: Final = (dict, type(None), Mapping)  # the fast checks first
_MISSING: Final = object()
_CALL: Final = (("service", str), ("method", str), ("params", dict)), ""
_REQUIRED: Final = {
    MessageType.REQUEST: _CALL,
    MessageType.COMMAND: _CALL,
    MessageType.EVENT: ((("topic", str),), "event"),
    MessageType.RESPONSE: ((("error", _DICT_OR_NONE),), "result"),
}
"""The fields that a kind of payload must have, with their types; and one of any type."""
_EXPECTED: Final[dict[object, str]] = {str: "str", dict: "dict", _DICT_OR_NONE: "dict or None"}


def check_outgoing(payload: Mapping[str, Any], encoding: str = "json") -> MessageType:
    """Check a payload before it is sent, and return its kind.

    Raises NuropbValidationError naming the field that is missing or of the wrong type.
    """
    if encoding != "json":
        raise NuropbValidationError(f"encoding: expected 'json', got {encoding!r}")
    if not isinstance(payload, dict) and not isinstance(payload, Mapping):
        raise NuropbValidationError(f"payload: expected a mapping, got {type_of(payload)}")
    tag = payload.get("tag")
    kind = KINDS.get(tag) if isinstance(tag, str) else None
    if kind is None:
        known = ", ".join(KINDS)
        raise NuropbValidationError(f"payload field 'tag' is {short(tag)}, expected one of {known}")
    problem = _problem(payload, kind)
    if problem is not None:
        raise NuropbValidationError(f"payload {problem}")
    if "correlation_id" in payload and not _text(payload, "correlation_id").isprintable():
        raise NuropbValidationError(  # Head would refuse it, too
            "payload field 'correlation_id': expected printable characters only"
        )
    if "trace_id" in payload and (size := len(_text(payload, "trace_id"))) > MAX_TRACE_ID:
        raise NuropbValidationError(
            f"payload field 'trace_id': expected at most {MAX_TRACE_ID} characters, got {size}"
        )
    if "context" in payload and not isinstance(payload["context"], _MAPPING_OR_NONE):
        came = type_of(payload["context"])
        raise NuropbValidationError(f"payload field 'context': expected a mapping, got {came}")
    return kind


def _problem(payload: Mapping[str, Any], kind: MessageType) -> str | None:
    """Return the problem with the first required field that is missing or of another type."""
    get = payload.get
    if kind is REQUEST or kind is COMMAND:  # the loop below, in half of its time
        if (
            isinstance(get("service"), str)
            and isinstance(get("method"), str)
            and isinstance(get("params"), dict)
        ):
            return None
    elif kind is RESPONSE and "result" in payload and get("error", _MISSING) is None:
        return None
    fields, other = _REQUIRED[kind]
    for name, types in fields:
        value = get(name, _MISSING)
        if not isinstance(value, types):
            came = "nothing" if value is _MISSING else type_of(value)
            return f"field {name!r}: expected {_EXPECTED[types]}, got {came}"
    if other and other not in payload:
        return f"field {other!r}: expected any value, got nothing"
    return None


def _text(payload: Mapping[str, Any], name: str) -> str:
    """Return the text of a field; "" for None."""
    value = payload[name]
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise NuropbValidationError(f"payload field {name!r}: expected str, got {type_of(value)}")


@lru_cache(maxsize=256)
def milliseconds(ttl: float) -> int:
    """Convert seconds to an expiration in ms, at least 1: with 0 it would expire on arrival."""
    return max(1, round(ttl * 1000))


# -- out ------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def publish_method(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Pack Basic.Publish for a destination; destinations are few, and cached.

    Raises NuropbSerializationError when a name is longer than AMQP allows.
    """
    try:
        return frames.publish_method(exchange, routing_key, mandatory=mandatory)
    except frames.FieldError as e:
        raise NuropbSerializationError(
            f"exchange or routing key: {e}; it is the payload's service, topic or reply_to"
        ) from e


def pack_properties(
    kind: MessageType,
    correlation_id: str,
    *,
    trace_id: str | None,
    reply_to: str | None = None,
    expiration: int | None = None,
    priority: int | None = None,
    persistent: bool = False,
    encrypted: bool = False,
    further: bytes = b"",
) -> bytes:
    """Pack a content header's properties without the message id, which the publisher appends.

    `expiration` is in milliseconds, `further` are packed entries of the header table. This is
    frames.encode_properties for the properties that we send (a tenth of its time). Raises
    NuropbSerializationError naming the property that AMQP cannot carry.
    """
    if priority is not None and (type(priority) is not int or not 0 <= priority <= 255):
        raise NuropbSerializationError(f"priority: expected an int from 0 to 255, got {priority!r}")
    if trace_id is None:
        trace = b""
    elif trace_id.isascii():
        trace = trace_id.encode()
    else:
        trace = _field("trace_id", frames.utf8, trace_id)
    if correlation_id.isascii() and len(correlation_id) < 256:
        correlation = correlation_id.encode()
    else:
        correlation = _field("correlation_id", frames.shortstr, correlation_id)[1:]
    start, mark, middle, end = _constant_parts(
        kind,
        len(further),
        None if trace_id is None else len(trace),
        len(correlation),
        reply_to,
        expiration,
        priority,
        persistent,
        encrypted,
    )
    return b"".join((start, further, mark, trace, middle, correlation, end))


@lru_cache(maxsize=1024)
def _constant_parts(  # noqa: PLR0917 - together they are the key of a cache
    kind: MessageType,
    further_size: int,
    trace_size: int | None,
    correlation_size: int,
    reply_to: str | None,
    expiration: int | None,
    priority: int | None,
    persistent: bool,
    encrypted: bool,
) -> tuple[bytes, bytes, bytes, bytes]:
    """Pack the bytes before further headers and before the trace id, then those behind either id.

    The trace id is the last header: the reader is quick then. Cached: few messages of one program
    differ in any of these.
    """
    flags = USUAL_FLAGS
    middle = b"\x02" if persistent else b"\x01"
    if priority is not None:
        flags |= frames.HAS_PRIORITY
        middle += bytes((priority,))
    middle += bytes((correlation_size,))
    end = b""
    if reply_to is not None:
        flags |= frames.HAS_REPLY_TO
        end += _field("reply_to", frames.shortstr, reply_to)
    if expiration is not None:
        if not 0 <= expiration <= MAX_EXPIRATION:
            raise NuropbSerializationError(
                f"expiration: expected 0 to {MAX_EXPIRATION} ms (49 days), got {expiration}"
            )
        flags |= frames.HAS_EXPIRATION
        end += frames.shortstr(str(expiration))
    entry = frames.table_entry
    headers = b"".join(
        (
            entry(HEADER_ENCRYPTED, "yes" if encrypted else ""),
            entry(HEADER_PROTOCOL, NUROPB_PROTOCOL_VERSION),
            entry(HEADER_TYPE, kind.value),
            entry(HEADER_VERSION, NUROPB_VERSION),
        )
    )
    mark = b"" if trace_size is None else _TRACE_ID + _LENGTH.pack(trace_size)
    table_size = _LENGTH.pack(len(headers) + further_size + len(mark) + (trace_size or 0))
    start = _SHORT.pack(flags) + frames.shortstr(CONTENT_TYPE) + table_size + headers
    return start, mark, middle, end


def _field(name: str, encode: Callable[[str], bytes], value: str) -> bytes:
    try:
        return encode(value)
    except frames.FieldError as e:
        raise NuropbSerializationError(f"{name}: {e}") from e


# -- in -------------------------------------------------------------------------------------


def read_payload(
    head: Head,
    body: bytes,
    *,
    max_depth: int,
    decrypted: bool = False,
) -> dict[str, Any]:
    """Decode a body, and check its payload against the message's properties and headers.

    With a key that serves several calls an attacker at the broker could exchange bodies: a
    decrypted body must carry the tag and the correlation id of its message. Raises
    MalformedMessageError naming the field.
    """
    kind = head.kind
    payload = serialization.decode(body, max_depth=max_depth)
    if not isinstance(payload, dict):
        raise MalformedMessageError(f"body: expected a JSON object, got {type_of(payload)}")
    problem = _problem(payload, kind)
    if problem is not None:
        raise MalformedMessageError(problem)
    if kind is EVENT and (size := len(payload["topic"].encode(errors="replace"))) > MAX_TOPIC:
        raise MalformedMessageError(
            f"field 'topic': expected at most {MAX_TOPIC} bytes, got {size}"
        )
    get = payload.get
    if not isinstance(get("context"), _DICT_OR_NONE):
        came = type_of(payload["context"])
        raise MalformedMessageError(f"field 'context': expected dict or None, got {came}")
    correlation_id = head.correlation_id
    if get("tag", None if decrypted else kind) != kind:
        raise MalformedMessageError("field 'tag' differs from the header nuropb_type")
    if get("correlation_id", None if decrypted else correlation_id) != correlation_id:
        raise MalformedMessageError(
            "field 'correlation_id' differs from the property correlation_id"
        )
    return payload
