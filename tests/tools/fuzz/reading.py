"""The rules for a message at a NuroPb service, written a second time: plainly, from the bytes.

pamqp reads the header table here, and Python's json the body. What the library makes of a message
must be the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pamqp.decode

from nuropb_rmq import AMQPProtocolError
from nuropb_rmq.amqp import frames

from .bodies import MAX_BODY
from .messages import ANSWERS, Message
from .tables import KINDS, long

EVENTS = "nuropb-events-exchange"
DEEPEST_TABLE = 32
"""Tables and arrays within a header table."""
DEEPEST_JSON = 100
SIZES = {
    b"V": 0, b"t": 1, b"b": 1, b"B": 1, b"s": 2, b"u": 2, b"I": 4, b"i": 4, b"f": 4, b"D": 5,
    b"l": 8, b"L": 8, b"d": 8, b"T": 8,
}  # fmt: skip
"""Bytes of field values; all others begin with their length (AMQP 0-9-1, 4.2.1)."""
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "request": {"service": str, "method": str, "params": dict},
    "command": {"service": str, "method": str, "params": dict},
    "event": {"topic": str, "event": object},
    "response": {"result": object, "error": (dict, type(None))},
}


class Bad(Exception):  # noqa: N818 - the message is, not we
    """It cannot be read; why."""


@dataclass(frozen=True, slots=True)
class Read:
    """A message that can be read."""

    kind: str
    correlation_id: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The right outcome of a message: read, or dead-lettered for a reason; and answered or not."""

    read: Read | None
    why: str
    answered: bool


def judge_delivered(message: Message) -> tuple[Verdict, ...]:
    """Return the right outcomes behind a broker, which passes it on as it came, or packs it anew.

    RabbitMQ 4.x does that: flags that mean nothing are gone then, and of headers with the same
    name the first one stays.
    """
    raw = message.raw_properties
    flags = int.from_bytes(raw[:2])
    clean = (flags & ~3).to_bytes(2) + raw[2:]
    try:
        table = frames.decode_properties(clean).headers or b""
        first = _first_of_each(table)
    except (AMQPProtocolError, Bad):
        return (judge(message),)
    clean = clean.replace(long(table), long(first), 1) if first != table else clean
    if clean == raw:
        return (judge(message),)
    return judge(message), judge(replace(message, raw_properties=clean), way_of(message))


def way_of(message: Message) -> tuple[str, str]:
    """The exchange and routing key that a message is published with: such as it may come by."""
    try:
        read = _read(frames.decode_properties(message.raw_properties), message)
        if read.kind == "event":
            frames.shortstr(read.payload["topic"])
            return EVENTS, read.payload["topic"]
    except (AMQPProtocolError, Bad, frames.FieldError):
        pass
    return "nuropb-rpc-exchange", "orders"


def judge(message: Message, way: tuple[str, str] | None = None) -> Verdict:
    """Return the right outcome of a message at a service, or at a client's response queue."""
    try:
        properties = frames.decode_properties(message.raw_properties)
    except AMQPProtocolError as e:
        return Verdict(None, str(e), answered=False)
    answerable = properties.reply_to == ANSWERS and bool(properties.correlation_id)
    try:
        read = _read(properties, message)
        if not message.to_responses:
            _check_way(read, *(way or way_of(message)))
    except Bad as e:
        return Verdict(None, str(e), answered=answerable)
    return Verdict(read, "", answered=answerable and read.kind == "request")


def _read(properties: frames.Properties, message: Message) -> Read:
    headers = _headers(properties.headers)
    if headers.get("nuropb_protocol") != "0.1.1":
        raise Bad("another protocol")
    kind = headers.get("nuropb_type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise Bad("no type of message")
    correlation_id = properties.correlation_id or ""
    if not correlation_id or not correlation_id.isprintable():
        raise Bad("no correlation id")
    if (kind == "response") is not message.to_responses:
        raise Bad("in the wrong queue")
    if headers.get("encrypted") == "yes" and kind != "event":
        raise Bad("nothing that is drawn can be decrypted")
    return Read(kind, correlation_id, _payload(message.body, kind, correlation_id))


def _check_way(read: Read, exchange: str, routing_key: str) -> None:
    names = read.payload["topic" if read.kind == "event" else "service"]
    if (read.kind == "event") is not (exchange == EVENTS) or names != routing_key:
        raise Bad("not what its exchange and routing key allow")


def _headers(table: bytes | None) -> dict[str, Any]:
    if table is None:
        raise Bad("no headers")
    _check_table(table, DEEPEST_TABLE)
    try:
        _, headers = pamqp.decode.field_table(long(table))
    except Exception as e:  # whatever pamqp raises: it cannot be read
        raise Bad(f"headers: {type(e).__name__}") from e
    return headers


def _check_table(data: bytes, room: int) -> None:
    """Every value is as long as it says: pamqp reads on behind the end."""
    while data:
        name = 1 + data[0]
        data = _check_value(data[name:], room)


def _first_of_each(data: bytes) -> bytes:
    """A table without entries whose name was there before."""
    entries: dict[bytes, bytes] = {}
    while data:
        name = 1 + data[0]
        _, _, rest = _first_value(data[name:])
        entries.setdefault(data[:name], data[: len(data) - len(rest)])
        data = rest
    return b"".join(entries.values())


def _check_value(data: bytes, room: int) -> bytes:
    """Check the value at the start, which may nest so deep, and return the bytes behind it."""
    kind, value, rest = _first_value(data)
    if kind in (b"F", b"A") and not room:
        raise Bad("headers nest too deep")
    if kind == b"F":
        _check_table(value[4:], room - 1)
    elif kind == b"A":
        items = value[4:]
        while items:
            items = _check_value(items, room - 1)
    return rest


def _first_value(data: bytes) -> tuple[bytes, bytes, bytes]:
    """The value at the start: its type, its bytes, and what follows. It is not looked into."""
    kind, data = data[:1], data[1:]
    size = SIZES.get(kind)
    if size is None:
        size = 4 + int.from_bytes(data[:4])
    value, rest = data[:size], data[size:]
    if not kind or len(value) < size:
        raise Bad("a header is cut off")
    return kind, value, rest


def _payload(body: bytes, kind: str, correlation_id: str) -> dict[str, Any]:
    if len(body) > MAX_BODY:
        raise Bad("too large")
    try:
        payload = json.loads(body.decode())
    except (ValueError, RecursionError) as e:
        raise Bad(f"body: {type(e).__name__}") from e
    if not isinstance(payload, dict):
        raise Bad("no object")
    if _depth(payload) > DEEPEST_JSON:
        raise Bad("body nests too deep")
    for name, types in FIELDS[kind].items():
        if name not in payload or not isinstance(payload[name], types):
            raise Bad(f"field {name}")
    if not isinstance(payload.get("context"), dict | None):
        raise Bad("field context")
    if payload.get("tag", kind) != kind:
        raise Bad("field tag")
    if payload.get("correlation_id", correlation_id) != correlation_id:
        raise Bad("field correlation_id")
    return payload


def _depth(value: Any) -> int:
    """Return how deep lists and dicts nest; without recursion, for they nest deep."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [
            part for each in level for part in (each.values() if isinstance(each, dict) else each)
        ]
    return depth
