"""Properties of a known layout are read in another way: what they say is the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Content
from nuropb_rmq.protocol import reader, writer
from nuropb_rmq.protocol.constants import HEADER_TRACE_ID, HEADER_TYPE, MessageType
from nuropb_rmq.protocol.reader import Head

from ...seams import kept_by

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MARK = frames.shortstr(HEADER_TRACE_ID) + b"S"


def packed(
    correlation_id: str = "c-1234",
    trace_id: str | None = "t-1234",
    reply_to: str | None = "nuropb-a-rq",
    expiration: int | None = 30_000,
    kind: MessageType = MessageType.REQUEST,
) -> bytes:
    """As ours are sent, the message id behind them."""
    properties = writer.pack_properties(
        kind, correlation_id, trace_id=trace_id, reply_to=reply_to, expiration=expiration
    )
    return properties + frames.shortstr("m-1")


def like(text: str) -> str:
    """Another text that is as long."""
    return "x" * len(text.encode())


def said(raw: bytes) -> dict[str, Any]:
    """All that a head says."""
    one = Head(Content(1, False, b"\x01e\x01k", raw_properties=raw))
    names = ("kind", "correlation_id", "reply_to", "trace_id", "encrypted", "ttl", "headers")
    return {
        **{name: getattr(one, name) for name in names},
        "call_again_count": one.call_again_count,
        "problem": str(one.problem),
    }


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    kept_by(reader).clear()
    yield
    kept_by(reader).clear()


def test_a_layout_is_known_from_the_second_message_on() -> None:
    first, second = said(packed()), said(packed("c-5678", "t-5678"))
    assert len(kept_by(reader)) == 1
    assert second == {
        **first,
        "correlation_id": "c-5678",
        "trace_id": "t-5678",
        "headers": {**first["headers"], HEADER_TRACE_ID: "t-5678"},
    }
    assert (first["ttl"], first["problem"]) == (30_000, "None")


@pytest.mark.parametrize("kind", MessageType)
@pytest.mark.parametrize("reply_to", [None, "nuropb-a-rq"])
@pytest.mark.parametrize("expiration", [None, 1])
def test_each_kind_has_its_own(
    kind: MessageType, reply_to: str | None, expiration: int | None
) -> None:
    raw = packed(kind=kind, reply_to=reply_to, expiration=expiration)
    said(packed())
    first = said(raw)
    assert said(raw) == first
    assert first["problem"] == "None"


def test_a_trace_id_of_another_length_has_another_layout() -> None:
    for trace_id in ("t-1234", "t-12345", "", "t-1234"):
        assert said(packed(trace_id=trace_id))["trace_id"] == trace_id
    assert len(kept_by(reader)) == 3


@given(TEXT, TEXT, TEXT, st.none() | st.integers(0, 2**32 - 1), st.data())
def test_the_same_is_read_whether_the_layout_is_known_or_not(
    correlation_id: str, trace_id: str, reply_to: str, expiration: int | None, data: st.DataObject
) -> None:
    """Whole messages, and such as were cut off, or of which a byte is another."""
    raw = packed(correlation_id, trace_id, reply_to, expiration)
    spoilt = bytearray(raw[: data.draw(st.integers(2, len(raw)))])
    at = data.draw(st.integers(0, len(spoilt) - 1))
    spoilt[at] = data.draw(st.integers(0, 255))
    for each in (raw, bytes(spoilt)):
        kept_by(reader).clear()
        alone = said(each)
        kept_by(reader).clear()
        said(packed(like(correlation_id or "c"), like(trace_id), like(reply_to), expiration))
        said(packed(like(correlation_id or "c"), like(trace_id), None, expiration))
        assert said(each) == alone


def test_a_mark_within_another_value_is_no_trace_id() -> None:
    entry = frames.table_entry
    value = (MARK + b"\x00\x00\x00\x03abc").decode("latin-1")
    table = entry("nuropb_protocol", "0.1.1") + entry(HEADER_TYPE, "request") + entry("x", value)
    raw = frames.encode_properties(
        frames.Properties(
            content_type="application/json",
            headers=table,
            delivery_mode=1,
            correlation_id="c-1",
            message_id="m-1",
        )
    )
    first = said(raw)
    assert (first["trace_id"], first["headers"]["x"]) == (None, value)
    assert kept_by(reader) == {}
    assert said(raw) == first


def test_no_more_are_kept_than_a_bound() -> None:
    for size in range(300):
        said(packed(trace_id="t" * size))
    assert len(kept_by(reader)) <= 256


def test_no_more_of_one_length_are_kept_than_a_bound_and_none_twice() -> None:
    for size in range(1, 20):
        for _ in range(2):
            said(packed("c" * size, "t" * (20 - size)))
    (kept,) = kept_by(reader).values()
    assert len(kept) == len({each.between for each in kept}) == reader._MOST_OF_A_LENGTH
    no_text = packed("c" * 3, "t" * 9).replace(b"ccc", b"\xff\xff\xff")
    first = said(no_text)
    assert "UTF-8" in first["problem"]
    assert said(no_text) == first


def test_values_that_are_no_text_add_no_layout() -> None:
    said(packed(reply_to="r" * 9))
    spoilt = packed(reply_to="r" * 9).replace(b"r" * 9, b"\xff" * 9)
    first = said(spoilt)
    for _ in range(9):
        assert said(spoilt) == first
    assert [len(each) for each in kept_by(reader).values()] == [1]
