"""Payload ↔ message: what a NuroPb payload is on the wire, and whether a body is one.

All but the ids of a message is the same for many: that part is packed once. What a message says
before its body is opened is read in `nuropb_rmq.protocol.reader`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from ..amqp import frames
from ..exceptions import MalformedMessageError, NuropbSerializationError, NuropbValidationError
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
from .reader import MAX_TRACE_ID, USUAL_FLAGS, Head, short, type_of

_TRACE_ID: Final = frames.shortstr(HEADER_TRACE_ID) + b"S"
_LENGTH: Final = Struct(">I")
_SHORT: Final = Struct(">H")

MAX_TOPIC: Final = 255
"""Bytes; a topic is a routing key, and that is a short string (AMQP 0-9-1, section 4.2.5.3)."""

# Tuples: isinstance with `dict | None` makes the union anew each time.
_DICT_OR_NONE: Final = (dict, type(None))
_MAPPING_OR_NONE: Final = (dict, type(None), Mapping)  # the quick answers first
_MISSING: Final = object()
_CALL: Final = (("service", str), ("method", str), ("params", dict)), ""
_REQUIRED: Final = {
    MessageType.REQUEST: _CALL,
    MessageType.COMMAND: _CALL,
    MessageType.EVENT: ((("topic", str),), "event"),
    MessageType.RESPONSE: ((("error", _DICT_OR_NONE),), "result"),
}
"""The fields that a kind of payload has, with their types; and one that may be anything."""
_NEEDED: Final[dict[object, str]] = {
    str: "text is needed",
    dict: "a dict is needed",
    _DICT_OR_NONE: "a dict or None is needed",
}


def check_outgoing(payload: Mapping[str, Any], encoding: str = "json") -> MessageType:
    """The kind of a payload that is to be sent.

    Raises NuropbValidationError naming the field that is missing or of the wrong type.
    """
    if encoding != "json":
        raise NuropbValidationError(f"encoding: {encoding!r} is not known, use 'json'")
    if not isinstance(payload, dict) and not isinstance(payload, Mapping):
        raise NuropbValidationError(f"payload: {type_of(payload)}, a mapping is needed")
    tag = payload.get("tag")
    kind = KINDS.get(tag) if isinstance(tag, str) else None
    if kind is None:
        known = ", ".join(KINDS)
        raise NuropbValidationError(f"payload field 'tag': {short(tag)}, use one of {known}")
    name = _unfit(payload, kind)
    if name is not None:
        if name not in payload:
            raise NuropbValidationError(f"payload field {name!r}: missing, a {tag} needs it")
        needed = _NEEDED[dict(_REQUIRED[kind][0])[name]]
        raise NuropbValidationError(f"payload field {name!r}: {type_of(payload[name])}, {needed}")
    if "correlation_id" in payload and not _text(payload, "correlation_id").isprintable():
        raise NuropbValidationError(  # as in Head: nobody would accept it
            "payload field 'correlation_id': it has characters that are not printable"
        )
    if "trace_id" in payload and len(_text(payload, "trace_id")) > MAX_TRACE_ID:
        raise NuropbValidationError(
            f"payload field 'trace_id': longer than {MAX_TRACE_ID} characters"
        )
    if "context" in payload and not isinstance(payload["context"], _MAPPING_OR_NONE):
        raise NuropbValidationError("payload field 'context': a mapping is needed")
    return kind


def _unfit(payload: Mapping[str, Any], kind: MessageType) -> str | None:
    """The first field that this kind needs and that is missing, or of another type."""
    get = payload.get
    if kind is REQUEST or kind is COMMAND:  # in place of the loop, in half of its time
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
        if not isinstance(payload.get(name, _MISSING), types):
            return name
    return other if other and other not in payload else None


def _text(payload: Mapping[str, Any], name: str) -> str:
    """The text of a field that may also be None."""
    value = payload[name]
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise NuropbValidationError(f"payload field {name!r}: {type_of(value)}, text is needed")


@lru_cache(maxsize=256)
def milliseconds(ttl: float) -> int:
    """Seconds as a message's expiration: at least 1, for with 0 it would expire on arrival."""
    return max(1, round(ttl * 1000))


# -- out ------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def publish_method(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Basic.Publish for a destination; destinations are few, and packed once.

    Raises NuropbSerializationError when a name is longer than AMQP allows.
    """
    try:
        return frames.publish_method(exchange, routing_key, mandatory=mandatory)
    except frames.FieldError as e:
        raise NuropbSerializationError(
            f"exchange or routing key is {e}; it is the payload's service, topic or reply_to"
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
) -> bytes:
    """The content header's properties, all but the message id, which the publisher appends.

    `expiration` is in milliseconds. This is frames.encode_properties for the fields that we send
    (a tenth of its time). Raises NuropbSerializationError naming the field that AMQP cannot carry.
    """
    if priority is not None and (type(priority) is not int or not 0 <= priority <= 255):
        raise NuropbSerializationError(f"priority: {priority!r} is outside 0…255, an integer")
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
    start, middle, end = _constant_parts(
        kind,
        None if trace_id is None else len(trace),
        len(correlation),
        reply_to,
        expiration,
        priority,
        persistent,
        encrypted,
    )
    return b"".join((start, trace, middle, correlation, end))


@lru_cache(maxsize=1024)
def _constant_parts(  # noqa: PLR0917 - together they are the key of a cache
    kind: MessageType,
    trace_size: int | None,
    correlation_size: int,
    reply_to: str | None,
    expiration: int | None,
    priority: int | None,
    persistent: bool,
    encrypted: bool,
) -> tuple[bytes, bytes, bytes]:
    """What stands before the trace id, between it and the correlation id, and behind that.

    Few messages of one program differ in any of these.
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
                f"expiration: {expiration} ms is outside 0…{MAX_EXPIRATION} (49 days)"
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
    if trace_size is not None:
        headers += _TRACE_ID + _LENGTH.pack(trace_size)
    table_size = _LENGTH.pack(len(headers) + (trace_size or 0))
    start = _SHORT.pack(flags) + frames.shortstr(CONTENT_TYPE) + table_size + headers
    return start, middle, end


def _field(name: str, encode: Callable[[str], bytes], value: str) -> bytes:
    try:
        return encode(value)
    except frames.FieldError as e:
        raise NuropbSerializationError(f"{name} is {e}") from e


# -- in -------------------------------------------------------------------------------------


def read_payload(
    head: Head,
    body: bytes,
    *,
    max_depth: int,
    decrypted: bool = False,
) -> dict[str, Any]:
    """Decode a body and check that the payload is what the envelope says that it is.

    Under a key that serves several calls an attacker at the broker could exchange bodies: a
    decrypted body must carry the tag and correlation id of its envelope.
    Raises MalformedMessageError naming the field.
    """
    kind = head.kind
    payload = serialization.decode(body, max_depth=max_depth)
    if not isinstance(payload, dict):
        raise MalformedMessageError(f"body is {type_of(payload)}, an object is needed")
    name = _unfit(payload, kind)
    if name is not None:
        if name in payload:
            raise MalformedMessageError(f"field {name!r} is {type_of(payload[name])}")
        raise MalformedMessageError(f"{kind.value} without field {name!r}")
    if kind is EVENT and len(payload["topic"].encode(errors="replace")) > MAX_TOPIC:
        raise MalformedMessageError(f"field 'topic' is longer than {MAX_TOPIC} bytes")
    get = payload.get
    if not isinstance(get("context"), _DICT_OR_NONE):
        raise MalformedMessageError(f"field 'context' is {type_of(payload['context'])}")
    correlation_id = head.correlation_id
    if get("tag", None if decrypted else kind) != kind:
        raise MalformedMessageError("field 'tag' does not belong to this envelope")
    if get("correlation_id", None if decrypted else correlation_id) != correlation_id:
        raise MalformedMessageError("field 'correlation_id' does not belong to this envelope")
    return payload
