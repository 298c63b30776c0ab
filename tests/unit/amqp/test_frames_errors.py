"""The codec on what is truncated, overlong, not text, or nested: one typed error, in time."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nuropb_rmq import AMQPProtocolError
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Properties

from .strategies import NAMES, PROPERTIES, TABLES

often = settings(deadline=None, max_examples=80)
seldom = settings(deadline=None, max_examples=40)

UINT64 = st.integers(0, 2**64 - 1)


def packed_of(drawn: dict[str, Any]) -> bytes:
    """The drawn properties, packed."""
    table, _ = drawn.get("headers", (None, None))
    return frames.encode_properties(Properties(**{**drawn, "headers": table}))


@often
@given(PROPERTIES, st.data())
def test_properties_that_end_too_early_or_too_late_are_a_protocol_error(
    drawn: dict[str, Any], data: st.DataObject
) -> None:
    packed = packed_of(drawn)
    with pytest.raises(AMQPProtocolError):
        frames.decode_properties(packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(AMQPProtocolError):
        frames.decode_properties(packed + data.draw(st.binary(min_size=1, max_size=9)))


@often
@given(TABLES, st.data())
def test_a_table_that_ends_too_early_is_a_protocol_error(
    table: tuple[bytes, dict[str, Any]], data: st.DataObject
) -> None:
    packed = table[0] + b"\x04lastS\x00\x00\x00\x03end"
    cut = data.draw(st.integers(len(table[0]) + 1, len(packed) - 1))
    with pytest.raises(AMQPProtocolError):
        frames.decode_table(packed[:cut])


@often
@given(st.binary(max_size=80))
@example(b"\x01a")
@example(b"\xff")
@example(b"\x01aF\x00\x00\x00\x05\x01bS\x00\x00")
@example(b"\x01aA\xff\xff\xff\xff")
@example(b"\x01aA\x00\x00\x00\x02S\x00\x00\x00\x00")
@example(b"\x01bV\x01aS\x00\x00\x00\x09short")
@example(b"\x01aT\xff\xff\xff\xff\xff\xff\xff\xff")
@example(b"\x02\xff\xfeV")
@example(b"\x01a?")
def test_any_bytes_are_a_table_or_a_protocol_error(data: bytes) -> None:
    try:
        table = frames.decode_table(data)
    except AMQPProtocolError:
        return
    assert isinstance(table, dict)


@often
@given(st.binary(max_size=80))
@example(b"")
@example(b"\x80")
@example(b"\x80\x00\xff")
@example(b"\x00\x01")
@example(b"\x00\x02")
@example(b"\x00\x01\x00\x00")
@example(b"\x20\x00\xff\xff\xff\xff")
def test_any_bytes_are_properties_or_a_protocol_error(data: bytes) -> None:
    try:
        read = frames.decode_properties(data)
    except AMQPProtocolError:
        return
    assert frames.encode_properties(read) == data


@seldom
@given(st.binary(max_size=60))
def test_any_bytes_are_a_method_or_an_error_that_the_router_turns_into_one(data: bytes) -> None:
    for read in (frames.read_deliver, frames.read_return):
        try:
            content = read(data)
        except (IndexError, struct.error):
            continue
        assert len(content.exchange.encode("utf-8", "surrogateescape")) <= 255
        assert len(content.routing_key.encode("utf-8", "surrogateescape")) <= 255


@seldom
@given(st.binary(min_size=1, max_size=60))
def test_a_property_that_is_not_utf8_goes_back_as_it_came(raw: bytes) -> None:
    packed = b"\x04\x00" + bytes((len(raw),)) + raw
    assert frames.encode_properties(frames.decode_properties(packed)) == packed


@pytest.mark.parametrize("kind", [b"F", b"A"])
@pytest.mark.parametrize("levels", [frames.TABLE_DEPTH, frames.TABLE_DEPTH + 1, 900, 20_000])
def test_nesting_is_bounded(kind: bytes, levels: int) -> None:
    nested = b""
    for _ in range(levels):
        nested = kind + struct.pack(">I", len(nested)) + nested
        if kind == b"F":
            nested = b"\x01k" + nested
    entries = nested if kind == b"F" else b"\x01k" + nested
    if levels <= frames.TABLE_DEPTH:
        assert list(frames.decode_table(entries)) == ["k"]
        return
    with pytest.raises(AMQPProtocolError, match="nested"):
        frames.decode_table(entries)


@pytest.mark.parametrize(
    "entries",
    [
        b"\x00V" * 1_200_000,
        b"\x01kA" + struct.pack(">I", 2_400_000) + b"V" * 2_400_000,
        b"\x01kA" + struct.pack(">I", 2_400_000) + b"F\x00\x00\x00\x00" * 480_000,
        b"\x00S\x00\x00\x00\x00" * 400_000,
    ],
    ids=["voids", "array of voids", "array of tables", "strings"],
)
@pytest.mark.timeout(60)
def test_tiny_values_are_read_in_linear_time(entries: bytes) -> None:
    """pamqp copies the rest of the table for each value: it takes minutes for these."""
    assert set(frames.decode_table(entries)) <= {"", "k"}


@seldom
@given(NAMES, st.sampled_from([2**63, -(2**63) - 1, 10**30]))
def test_an_integer_over_64_bits_is_no_header(name: str, value: int) -> None:
    with pytest.raises(struct.error):
        frames.table_entry(name, value)


@pytest.mark.parametrize("value", ["é" * 128, "x" * 256, "\ud800"])
def test_text_that_a_short_string_cannot_carry_is_refused(value: str) -> None:
    with pytest.raises(frames.FieldError):
        frames.shortstr(value)
    with pytest.raises(frames.FieldError):
        frames.publish_method("", value, mandatory=False)


def test_a_header_that_is_not_text_is_refused() -> None:
    with pytest.raises(frames.FieldError, match="UTF-8"):
        frames.table_entry("trace_id", "\ud800")
