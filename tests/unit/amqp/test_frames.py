"""The codec against pamqp: the same bytes out, the same values in, and typed errors only."""

from __future__ import annotations

import datetime
import struct
from typing import Any

import pamqp.decode
import pamqp.encode
import pamqp.frame
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from nuropb_rmq import MessageType
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Properties
from nuropb_rmq.protocol import writer
from nuropb_rmq.protocol.constants import NUROPB_VERSION

from .harness import method
from .strategies import CHANNELS, EXCHANGES, INT64, PLAIN_ENTRIES, PROPERTIES, SHORT, TABLES

often = settings(deadline=None, max_examples=80)
seldom = settings(deadline=None, max_examples=40)

UINT64 = st.integers(0, 2**64 - 1)


def pamqp_properties(drawn: dict[str, Any], headers: dict[str, Any] | None) -> Any:
    """The drawn properties as pamqp's."""
    theirs = {name: value for name, value in drawn.items() if name not in ("headers", "type")}
    if "timestamp" in theirs:
        theirs["timestamp"] = datetime.datetime.fromtimestamp(theirs["timestamp"], tz=datetime.UTC)
    return commands.Basic.Properties(**theirs, headers=headers, message_type=drawn.get("type"))


def payload_of(frame: bytes) -> bytes:
    """A frame's payload."""
    return frame[7:-1]


# -- what we encode -----------------------------------------------------------------------------


@often
@given(EXCHANGES, SHORT, st.booleans())
def test_publish_is_packed_as_pamqp_packs_it(exchange: str, key: str, mandatory: bool) -> None:
    theirs = payload_of(method(1, commands.Basic.Publish(0, exchange, key, mandatory)))
    assert frames.publish_method(exchange, key, mandatory=mandatory) == theirs


@often
@given(CHANNELS, UINT64, st.booleans(), SHORT)
def test_settlements_and_cancel_are_packed_as_pamqp_packs_them(
    number: int, tag: int, requeue: bool, consumer: str
) -> None:
    tag = min(tag, 2**63 - 1)  # pamqp takes delivery tags for signed
    assert frames.pack_ack(number, tag) == method(number, commands.Basic.Ack(tag))
    for multiple in (False, True):
        assert frames.pack_nack(number, tag, requeue=requeue, multiple=multiple) == method(
            number, commands.Basic.Nack(tag, multiple, requeue)
        )
    assert frames.pack_reject(number, tag, requeue=requeue) == method(
        number, commands.Basic.Reject(tag, requeue)
    )
    assert frames.pack_cancel(number, consumer) == method(number, commands.Basic.Cancel(consumer))


@often
@given(PROPERTIES, PLAIN_ENTRIES)
def test_any_combination_of_properties_is_packed_as_pamqp_packs_it(
    drawn: dict[str, Any], headers: dict[str, Any]
) -> None:
    table = pamqp.encode.field_table(headers)[4:] if "headers" in drawn else None
    ours = Properties(**{**drawn, "headers": table})
    theirs = pamqp_properties(drawn, headers if "headers" in drawn else None)
    assert frames.encode_properties(ours) == theirs.marshal()


@often
@given(PLAIN_ENTRIES)
def test_header_entries_are_packed_as_pamqp_packs_them(entries: dict[str, Any]) -> None:
    """Byte for byte, but for integers, of which pamqp chooses the smallest type."""
    in_order = sorted(entries.items())
    ours = b"".join(frames.table_entry(name, value) for name, value in in_order)
    sizes = [type(value) is int for value in entries.values()]
    if not any(sizes):
        assert struct.pack(">I", len(ours)) + ours == pamqp.encode.field_table(entries)
    assert pamqp.decode.field_table(struct.pack(">I", len(ours)) + ours)[1] == entries
    assert frames.decode_table(ours) == entries
    types = {type(value) for value in frames.decode_table(ours).values()}
    assert types <= {str, int, bool}


@seldom
@given(st.integers(-(2**31), 2**31 - 1).filter(lambda n: not -(2**15) <= n < 2**16) | INT64)
def test_an_integer_entry_is_pamqps_where_the_type_is_the_same(value: int) -> None:
    ours = frames.table_entry("n", value)
    theirs = pamqp.encode.field_table({"n": value})[4:]
    assert ours == theirs or ours[2:3] != theirs[2:3]
    assert ours[2:3] in (b"I", b"l")


@often
@given(
    CHANNELS,
    EXCHANGES,
    SHORT,
    PROPERTIES,
    st.binary(max_size=300),
    st.integers(20, 120) | st.just(131_072),
)
@example(1, "e", "k", {}, b"", 4096)
@example(1, "e", "k", {}, b"x" * 92, 100)
@example(1, "e", "k", {}, b"x" * 93, 100)
@example(1, "e", "k", {}, b"x" * 184, 100)
def test_a_message_is_packed_as_pamqp_packs_it(
    number: int, exchange: str, key: str, drawn: dict[str, Any], body: bytes, frame_max: int
) -> None:
    drawn = {name: value for name, value in drawn.items() if name != "headers"}
    room = frame_max - len(pamqp.frame.marshal(ContentBody(b""), 1))
    theirs = [
        method(number, commands.Basic.Publish(0, exchange, key, True)),
        pamqp.frame.marshal(ContentHeader(0, len(body), pamqp_properties(drawn, None)), number),
        *(
            pamqp.frame.marshal(ContentBody(body[at : at + room]), number)
            for at in range(0, len(body), room)
        ),
    ]
    ours = frames.pack_content(
        number,
        frames.publish_method(exchange, key, mandatory=True),
        frames.encode_properties(Properties(**drawn)),
        body,
        frame_max,
    )
    assert ours == b"".join(theirs)


@often
@given(
    st.sampled_from(list(MessageType)),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    st.none() | SHORT,
    st.none() | SHORT,
    st.none() | st.integers(0, 2**32 - 1),
    st.none() | st.integers(0, 255),
    st.booleans(),
    st.booleans(),
    st.text("0123456789abcdef-", min_size=1, max_size=30),
)
def test_an_envelope_is_packed_as_encode_properties_packs_it(
    kind: MessageType,
    correlation_id: str,
    trace_id: str | None,
    reply_to: str | None,
    expiration: int | None,
    priority: int | None,
    persistent: bool,
    encrypted: bool,
    message_id: str,
) -> None:
    packed = writer.pack_properties(
        kind=kind,
        correlation_id=correlation_id,
        trace_id=trace_id,
        reply_to=reply_to,
        expiration=expiration,
        priority=priority,
        persistent=persistent,
        encrypted=encrypted,
    )
    packed += bytes((len(message_id),)) + message_id.encode()  # as the publisher appends it
    read = frames.decode_properties(packed)
    assert frames.encode_properties(read) == packed
    assert read.headers is not None
    headers = {
        "nuropb_protocol": "0.1.1",
        "nuropb_version": NUROPB_VERSION,
        "nuropb_type": kind.value,
        "encrypted": "yes" if encrypted else "",
    }
    if trace_id is not None:
        headers["trace_id"] = trace_id
    assert frames.decode_table(read.headers) == headers
    assert read == Properties(
        content_type="application/json",
        headers=read.headers,
        delivery_mode=2 if persistent else 1,
        priority=priority,
        correlation_id=correlation_id,
        reply_to=reply_to,
        expiration=None if expiration is None else str(expiration),
        message_id=message_id,
    )


# -- what we decode -----------------------------------------------------------------------------


@often
@given(PROPERTIES)
def test_properties_are_read_as_pamqp_reads_them(drawn: dict[str, Any]) -> None:
    table, headers = drawn.get("headers", (None, None))
    packed = frames.encode_properties(Properties(**{**drawn, "headers": table}))
    ours = frames.decode_properties(packed)
    assert ours == Properties(**{**drawn, "headers": table})
    assert frames.encode_properties(ours) == packed
    theirs = ContentHeader()
    theirs.unmarshal(struct.pack(">HHQ", 60, 0, 0) + packed)
    assert theirs.properties == pamqp_properties(drawn, headers)


@often
@given(TABLES)
def test_header_tables_of_every_field_type_are_read_as_pamqp_reads_them(
    table: tuple[bytes, dict[str, Any]],
) -> None:
    packed, value = table
    ours = frames.decode_table(packed)
    assert ours == value
    assert ours == pamqp.decode.field_table(struct.pack(">I", len(packed)) + packed)[1]
    assert list(ours) == list(value)


@often
@given(SHORT, UINT64, st.booleans(), EXCHANGES, SHORT)
def test_a_delivery_is_read_as_pamqp_packed_it(
    consumer: str, tag: int, redelivered: bool, exchange: str, key: str
) -> None:
    tag = min(tag, 2**63 - 1)
    theirs = commands.Basic.Deliver(consumer, tag, redelivered, exchange, key)
    read = frames.read_deliver(payload_of(method(1, theirs)))
    assert (read.tag, read.redelivered) == (tag, redelivered)
    assert (read.exchange, read.routing_key) == (exchange, key)


@often
@given(st.integers(0, 2**15 - 1), SHORT, EXCHANGES, SHORT)
def test_a_return_is_read_as_pamqp_packed_it(code: int, text: str, exchange: str, key: str) -> None:
    read = frames.read_return(
        payload_of(method(1, commands.Basic.Return(code, text, exchange, key)))
    )
    assert (read.reply_code, read.reply_text) == (code, text)
    assert (read.exchange, read.routing_key) == (exchange, key)
    assert read.tag == 0


@seldom
@given(st.integers(0, 2**15 - 1), SHORT)
def test_closes_are_read_as_pamqp_packed_them(code: int, text: str) -> None:
    for close in (
        commands.Connection.Close(code, text, 0, 0),
        commands.Channel.Close(code, text, 0, 0),
    ):
        assert frames.read_close(payload_of(method(0, close))) == (code, text)


@pytest.mark.parametrize("frame_max", [0, 4096, 131_072, 2**31 - 1])
def test_tune_is_read_as_pamqp_packed_it(frame_max: int) -> None:
    tune = method(0, commands.Connection.Tune(2047, frame_max, 60))
    assert frames.read_tune_frame_max(payload_of(tune)) == frame_max


METHODS = [name for name, value in vars(frames).items() if isinstance(value, int) and value >> 16]


@pytest.mark.parametrize("name", METHODS)
def test_a_number_of_a_method_is_that_of_amqp(name: str) -> None:
    """Class and method, as pamqp has them."""
    class_name, _, method_name = name.partition("_")
    found = getattr(getattr(commands, class_name.title()), method_name.title().replace("_", ""))
    assert getattr(frames, name) == found.index


def test_there_are_methods() -> None:
    assert {"CHANNEL_CLOSE", "BASIC_ACK", "CONNECTION_UPDATE_SECRET_OK"} <= set(METHODS)
