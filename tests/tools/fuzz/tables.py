"""Header tables that are wrong somewhere, or only odd, as bytes."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

from ...unit.amqp.strategies import FIELDS, TABLES

Strategy = st.SearchStrategy[Any]


def long(data: bytes) -> bytes:
    """A long string's, a table's or an array's length and bytes."""
    return struct.pack(">I", len(data)) + data


def entry(name: bytes, value: bytes) -> bytes:
    """One entry of a table; the value begins with its type."""
    return bytes((len(name),)) + name + value


KINDS = ("request", "command", "event", "response")
HEADERS = {
    b"nuropb_protocol": b"0.1.1",
    b"nuropb_version": b"0.1.8",
    b"nuropb_type": b"request",
    b"trace_id": b"t-1",
    b"encrypted": b"",
}
_OURS = (*HEADERS, b"nuropb_ca_count", b"nuropb_ca_exchange", b"nuropb_ca_routing_key")


def text(value: bytes) -> bytes:
    """A long string as a field value."""
    return b"S" + long(value)


def nested_tables(depth: int) -> bytes:
    """Tables within each other, as a field value."""
    table = b""
    for _ in range(depth):
        table = entry(b"a", b"F" + long(table))
    return b"F" + long(table)


def nested_arrays(depth: int) -> bytes:
    """Arrays within each other, as a field value."""
    array = b"A" + long(b"")
    for _ in range(depth - 1):
        array = b"A" + long(array)
    return array


ODD = (
    text(b""),
    text(b"\xff\xfe"),
    text(b"\x00"),
    text("naïve ☃".encode()),
    text(b"x" * 1024),
    text(b"x" * 1025),
    text(b"x" * 100_000),
    text(b"\x08trace_idS\x00\x00\x00\x01t"),
    b"x" + long(b"\x00\xff"),
    b"V",
    b"t\x01",
    b"t\xff",
    b"b\xff",
    b"B\xff",
    b"s\xff\xff",
    b"u\xff\xff",
    b"I\xff\xff\xff\xff",
    b"i\xff\xff\xff\xff",
    b"l" + b"\xff" * 8,
    b"l\x7f" + b"\xff" * 7,
    b"L\x7f" + b"\xff" * 7,
    b"D\x00\x00\x00\x00\x01",
    b"D\xff\xff\xff\xff\xff",
    b"T" + struct.pack(">Q", 253402300799),  # the last second of the year 9999
    b"T" + struct.pack(">Q", 253402300800),
    b"T" + struct.pack(">Q", 2**60),
    b"T" + b"\xff" * 8,
    b"F" + long(b""),
    b"F" + long(entry(b"\xff", b"V")),
    b"F" + long(entry(b"", b"V")),
    b"A" + long(b""),
    nested_tables(31),
    nested_tables(32),
    nested_tables(33),
    nested_tables(900),
    nested_arrays(31),
    nested_arrays(33),
    nested_arrays(900),
    nested_arrays(5000),
)
"""Field values."""
ODD_VALUES: Strategy = st.one_of(FIELDS.map(lambda pair: pair[0]), st.sampled_from(ODD))
# Not x-death: a hostile one ends RabbitMQ's own queue process (3.10) when it is dead-lettered.
NAMES: Strategy = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"", b"k" * 255, b"traceparent", b"CC", b"x-delivery-count", b"\xff", *_OURS]),
).filter(lambda name: name not in (b"x-death", b"CC", b"BCC"))


def headers_of(kind: str, *, encrypted: bool) -> dict[bytes, bytes]:
    """Names and packed values of headers in which nothing is wrong."""
    headers = {name: text(value) for name, value in HEADERS.items()}
    headers[b"nuropb_type"] = text(kind.encode())
    headers[b"encrypted"] = text(b"yes" if encrypted else b"")
    return headers


def table_of(headers: dict[bytes, bytes]) -> bytes:
    """The entries' bytes, from names and packed values."""
    return b"".join(entry(name, value) for name, value in headers.items())


@st.composite
def tables(draw: st.DrawFn, kind: str, encrypted: bool) -> bytes | None:
    """A header table that is right, but for what is wrong with it."""
    headers = headers_of(kind, encrypted=encrypted)
    match draw(st.sampled_from(["", "", "order", "less", "odd", "odd", "more", "twice", "none"])):
        case "order":
            headers = {name: headers[name] for name in draw(st.permutations([*headers]))}
        case "less":
            for name in draw(st.sets(st.sampled_from([*headers]), max_size=3)):
                del headers[name]
        case "odd":
            headers[draw(st.sampled_from(_OURS))] = draw(ODD_VALUES)
        case "more":
            name = draw(NAMES)
            headers = {name: draw(ODD_VALUES)} | headers if draw(st.booleans()) else headers
            headers.setdefault(name, draw(ODD_VALUES))
        case "twice":
            name = draw(st.sampled_from([*headers]))
            return table_of(headers) + entry(name, draw(ODD_VALUES))
        case "none":
            return draw(
                st.sampled_from([None, b"", table_of({b"nuropb_type": text(b"request")})])
                | TABLES.map(lambda pair: pair[0])
            )
    return table_of(headers)
