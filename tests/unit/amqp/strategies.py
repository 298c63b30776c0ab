"""Hypothesis strategies for the wire: properties, header tables, streams of frames."""

from __future__ import annotations

import datetime
import itertools
import string
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pamqp.frame
from hypothesis import strategies as st
from pamqp import commands
from pamqp.base import Frame
from pamqp.heartbeat import Heartbeat

from .harness import Event, content, deliver, method, told

# What pamqp admits as the name of an exchange.
EXCHANGES = st.text(string.ascii_letters + string.digits + "-_.:@#,/+", max_size=40)
SHORT = st.text(st.characters(codec="utf-8"), max_size=60)
FULL_SHORT = SHORT.filter(bool)  # pamqp leaves out a property that is empty
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
INT64 = st.integers(-(2**63), 2**63 - 1)
TAGS = st.integers(0, 2**63 - 1)
CHANNELS = st.integers(1, 65535)

PLAIN_ENTRIES = st.dictionaries(NAMES, st.one_of(SHORT, INT64, st.booleans()), max_size=8)
"""Header entries of the types that we write."""


def _layout(kind: bytes, layout: str, value: Any) -> bytes:
    return kind + struct.pack(layout, value)


def _sized(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack(">I", len(data)) + data


def _decimal(raw: int, scale: int) -> tuple[bytes, Any]:
    packed = b"D" + struct.pack(">Bi", scale, raw)
    return packed, Decimal(raw) * Decimal(10) ** -scale


def _timestamp(seconds: int) -> tuple[bytes, Any]:
    packed = _layout(b"T", ">Q", seconds)
    return packed, datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)


def _numbers(kind: bytes, layout: str, low: int, high: int) -> st.SearchStrategy[tuple[bytes, Any]]:
    return st.integers(low, high).map(lambda value: (_layout(kind, layout, value), value))


def _floats(kind: bytes, layout: str, width: Any) -> st.SearchStrategy[tuple[bytes, Any]]:
    drawn = st.floats(width=width, allow_nan=False)
    return drawn.map(lambda value: (_layout(kind, layout, value), value))


_SCALARS: st.SearchStrategy[tuple[bytes, Any]] = st.one_of(
    st.booleans().map(lambda value: (_layout(b"t", ">?", value), value)),
    _numbers(b"b", ">b", -(2**7), 2**7 - 1),
    _numbers(b"B", ">B", 0, 2**8 - 1),
    _numbers(b"s", ">h", -(2**15), 2**15 - 1),
    _numbers(b"u", ">H", 0, 2**16 - 1),
    _numbers(b"I", ">i", -(2**31), 2**31 - 1),
    _numbers(b"i", ">I", 0, 2**32 - 1),
    _numbers(b"l", ">q", -(2**63), 2**63 - 1),
    _numbers(b"L", ">q", -(2**63), 2**63 - 1),
    _floats(b"f", ">f", 32),
    _floats(b"d", ">d", 64),
    st.builds(_decimal, st.integers(-(2**31), 2**31 - 1), st.integers(0, 20)),
    st.integers(0, 2**32 - 1).map(_timestamp),
    SHORT.map(lambda text: (_sized(b"S", text.encode()), text)),
    st.just((_sized(b"S", b"\xff\xfe"), b"\xff\xfe")),
    st.binary(max_size=20).map(lambda data: (_sized(b"x", data), data)),
    st.just((b"V", None)),
)


def _table(entries: dict[str, tuple[bytes, Any]]) -> tuple[bytes, dict[str, Any]]:
    packed = b"".join(
        bytes((len(name.encode()),)) + name.encode() + value for name, (value, _) in entries.items()
    )
    return packed, {name: value for name, (_, value) in entries.items()}


def _array(items: list[tuple[bytes, Any]]) -> tuple[bytes, list[Any]]:
    return _sized(b"A", b"".join(packed for packed, _ in items)), [value for _, value in items]


def _nested(inner: st.SearchStrategy[tuple[bytes, Any]]) -> st.SearchStrategy[tuple[bytes, Any]]:
    tables = st.dictionaries(NAMES, inner, max_size=4).map(_table)
    arrays = st.lists(inner, max_size=4)
    return st.one_of(
        tables.map(lambda pair: (_sized(b"F", pair[0]), pair[1])),
        arrays.map(
            lambda items: (_sized(b"A", b"".join(p for p, _ in items)), [v for _, v in items])
        ),
    )


FIELDS = st.recursive(_SCALARS, _nested, max_leaves=6)
"""A field value of any type, nested: (its bytes with the type octet, the value)."""
TABLES = st.dictionaries(NAMES, FIELDS, max_size=4).map(_table)
"""A header table: (its entries' bytes, the dict)."""

PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "content_type": FULL_SHORT,
        "content_encoding": FULL_SHORT,
        "headers": TABLES,
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "correlation_id": FULL_SHORT,
        "reply_to": FULL_SHORT,
        "expiration": st.integers(0, 2**32 - 1).map(str),
        "message_id": FULL_SHORT,
        "timestamp": st.integers(0, 2**32 - 1),
        "type": FULL_SHORT,
        "user_id": FULL_SHORT,
        "app_id": FULL_SHORT,
    },
)
"""Any combination of properties, by our names; `headers` as in TABLES."""


# -- streams ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """One frame of a stream: is it aiormq's, and what does its channel tell when it is there?"""

    number: int
    data: bytes
    passed: bool = True
    event: Event | None = None


KEPT = (1, 2)
"""The channels that are registered; 0 and OTHER are not."""
OTHER = 3

_PROPERTIES = st.builds(
    commands.Basic.Properties,
    correlation_id=st.sampled_from([None, "c-1"]),
    headers=st.sampled_from([None, {"nuropb_type": "request", "n": 1}]),
    delivery_mode=st.sampled_from([None, 1, 2]),
)
_RETURNS = st.builds(
    commands.Basic.Return,
    reply_code=st.sampled_from([312, 313]),
    reply_text=st.just("NO_ROUTE"),
    exchange=EXCHANGES,
    routing_key=SHORT,
)
_DELIVERIES = st.builds(
    commands.Basic.Deliver,
    consumer_tag=SHORT,
    delivery_tag=TAGS,
    redelivered=st.booleans(),
    exchange=EXCHANGES,
    routing_key=SHORT,
)
_CONFIRMS = st.one_of(
    st.builds(commands.Basic.Ack, delivery_tag=TAGS, multiple=st.booleans()),
    st.builds(commands.Basic.Nack, delivery_tag=TAGS, multiple=st.booleans()),
)
_CONTROL = st.sampled_from(
    [
        commands.Basic.QosOk(),
        commands.Queue.DeclareOk("nuropb-orders-sq", 3, 1),
        commands.Queue.BindOk(),
        commands.Basic.ConsumeOk("ctag"),
        commands.Channel.OpenOk(),
        commands.Confirm.SelectOk(),
    ]
)
_BODIES = st.one_of(st.just(b""), st.binary(max_size=80))


@st.composite
def _messages(draw: st.DrawFn, number: int) -> list[Sent]:
    frame: Frame = draw(st.one_of(_DELIVERIES, _RETURNS))
    body, properties = draw(_BODIES), draw(_PROPERTIES)
    cuts = draw(st.lists(st.integers(1, 79), max_size=3))
    parts = content(number, frame, body, properties, cuts=cuts)
    if number not in KEPT:
        return [Sent(number, part) for part in parts]
    *first, last = [Sent(number, part, passed=False) for part in parts]
    return [*first, Sent(number, last.data, passed=False, event=told(frame, body, properties))]


def _confirm(number: int, frame: Frame) -> list[Sent]:
    if number not in KEPT:
        return [Sent(number, method(number, frame))]
    acked = isinstance(frame, commands.Basic.Ack)
    event = ("confirm", frame["delivery_tag"], frame["multiple"], acked)
    return [Sent(number, method(number, frame), passed=False, event=event)]


def _on(number: int) -> st.SearchStrategy[list[Sent]]:
    item = st.one_of(
        _messages(number),
        _CONFIRMS.map(lambda frame: _confirm(number, frame)),
        _CONTROL.map(lambda frame: [Sent(number, method(number, frame))]),
    )
    return st.lists(item, max_size=4).map(lambda items: [each for item in items for each in item])


_CONNECTION = st.sampled_from(
    [
        pamqp.frame.marshal(Heartbeat(), 0),
        method(0, commands.Connection.Blocked("low on memory")),
        method(0, commands.Connection.Unblocked()),
        method(0, commands.Connection.UpdateSecretOk()),
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> list[Sent]:
    """Frames of four channels, each channel's in order, the channels mixed at will."""
    queues = [draw(_on(number)) for number in (*KEPT, OTHER)]
    queues.append([Sent(0, data) for data in draw(st.lists(_CONNECTION, max_size=3))])
    order = draw(st.permutations([i for i, queue in enumerate(queues) for _ in queue]))
    taken = [iter(queue) for queue in queues]
    return [next(taken[which]) for which in order]


@st.composite
def splits(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes, in pieces."""
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=8))
    edges = sorted({0, *cuts, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The same bytes, but for one to three of them."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(changed)))
        match draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip" if at < len(changed):
                changed[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del changed[at : at + draw(st.integers(1, 9))]
            case "insert":
                changed[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "repeat":
                changed[at:at] = changed[at : at + draw(st.integers(1, 60))]
    return bytes(changed)


MIXED = (
    pamqp.frame.marshal(Heartbeat(), 0),
    *deliver(1, 1, b"two frames", cuts=(3,)),
    method(1, commands.Basic.QosOk()),
    *deliver(1, 2),
    *deliver(1, 4, b"three of them", cuts=(5, 9)),
    *deliver(OTHER, 3, b"not ours", cuts=(3,)),
    method(2, commands.Basic.Ack(7, True)),
    method(0, commands.Connection.Blocked("low on memory")),
)
"""A little of everything, for tests that go through all splits."""
