"""Whatever arrives: the router goes on, or ends the connection; it never raises, hangs or grows.

What it passes on to aiormq until then is what must be passed on, byte for byte and in order.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pamqp import commands

from nuropb_rmq import AMQPProtocolError
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Content
from nuropb_rmq.amqp.router import FRAME_MAX_CAP, HEADER_ROOM, UNTUNED_FRAME_MAX
from nuropb_rmq.protocol.reader import Head

from ...seams import inside, kept_of_body
from .harness import Harness, Listener, body_frame, deliver, header, method
from .strategies import KEPT, MIXED, damaged, splits, streams

MAX_BODY = 1000
MANY = 20_000
"""Examples of the long run."""

_RECORDED = json.loads((Path(__file__).parents[2] / "data" / "session-4.3.6.json").read_text())
SESSIONS = [base64.b64decode(each) for each in _RECORDED["streams"]]
"""All that a broker has sent over three connections, from Connection.Start to CloseOk: deliveries,
returns, confirms, an alarm, a channel that it closed with 406, and a consumer that it cancelled."""


class Reading(Listener):
    """Reads all of a message, as the dispatcher and the publisher do."""

    def on_content(self, content: Content) -> None:
        """Nothing in a message may raise anything that is not expected of it."""
        super().on_content(content)
        assert len(content.body) in (content.body_size, 0)
        assert len(content.body) <= MAX_BODY
        try:
            frames.decode_properties(content.raw_properties)
        except AMQPProtocolError:
            assert Head(content).problem is not None
        else:
            Head(content)


# -- what must be passed on, said a second time -------------------------------------------------

OURS = (frames.BASIC_DELIVER, frames.BASIC_RETURN, frames.BASIC_ACK, frames.BASIC_NACK)


def control_of(data: bytes) -> bytes:
    """Return the part of a stream that is not ours to keep, as far as its frames are whole."""
    kept, closing, passed = set(KEPT), set[int](), b""
    while len(data) >= 7:
        kind, number, size = frames.FRAME_START.unpack_from(data)
        frame, data = data[: size + 8], data[size + 8 :]
        if len(frame) < size + 8 or frame[-1] != frames.FRAME_END:
            break
        name = int.from_bytes(frame[7:11]) if kind == frames.FRAME_METHOD and size >= 4 else 0
        if number in kept:
            ours = name in OURS if kind == frames.FRAME_METHOD else True
        elif number in closing:
            ours = name in (*OURS, frames.BASIC_CANCEL_OK) or kind != frames.FRAME_METHOD
        else:
            ours = False
        if not ours:
            passed += frame
        if number in kept and name in (frames.CHANNEL_CLOSE, frames.CHANNEL_CLOSE_OK):
            kept.discard(number)
            closing.add(number)
        elif name == frames.CHANNEL_OPEN_OK:
            closing.discard(number)
        elif (number, name) == (0, frames.CONNECTION_CLOSE):
            closing |= kept
            kept.clear()
    return passed


def survive(chunks: list[bytes]) -> Harness:
    """Feed a router, and see that it keeps its promises at every step."""
    harness = Harness()
    for number in KEPT:
        listener = harness.listeners[number] = Reading()
        harness.ports[number] = harness.router.register(number, listener, max_body=MAX_BODY)
    router = harness.router
    inside(router).show_no_heartbeats()  # no heartbeats for aiormq among what is passed on
    for chunk in chunks:
        router.data_received(chunk)
        assert len(inside(router).buffer) <= router.frame_max + HEADER_ROOM + len(chunk)
        assert len(inside(router).buffer) < max(
            inside(router).need, 8 if inside(router).refused else 7
        )
        for port in harness.ports.values():
            assert kept_of_body(port) <= MAX_BODY
    must_pass = b"" if inside(router).refused else control_of(b"".join(chunks))
    assert must_pass.startswith(harness.passed)
    assert router.lost is not None or harness.passed == must_pass
    for number in KEPT:
        closed = [each for each in harness.events(number) if each == ("closed",)]
        assert len(closed) == (0 if harness.ports[number].open else 1)
        if router.lost is not None:
            assert not harness.ports[number].open
            assert harness.events(number)[-1] == ("closed",)
    assert harness.lost == ([] if router.lost is None else [router.lost])
    if harness.transport.aborted:
        assert router.lost is not None
        assert router.lost.code == 501
        assert isinstance(harness.reader.exception(), ConnectionResetError)
        assert not inside(router).buffer
    return harness


# -- streams ------------------------------------------------------------------------------------


def _frame(kind: int, number: int, payload: bytes, end: int) -> bytes:
    return struct.pack(">BHI", kind, number, len(payload)) + payload + bytes((end,))


_METHODS = st.sampled_from(
    [value for name, value in vars(frames).items() if name.isupper() and isinstance(value, int)]
)
FRAMES = st.one_of(
    st.builds(
        _frame,
        st.integers(0, 9) | st.sampled_from([1, 1, 2, 3]),
        st.sampled_from([0, 1, 1, 2, 3]),
        st.binary(max_size=40)
        | st.builds(
            lambda method, rest: struct.pack(">I", method & 0xFFFFFFFF) + rest,
            _METHODS,
            st.binary(max_size=40),
        ),
        st.sampled_from([frames.FRAME_END] * 9 + [0]),
    ),
    st.sampled_from(MIXED),
)
ANY_FRAMES = st.lists(FRAMES, max_size=10).map(b"".join)
DAMAGED = streams().flatmap(lambda stream: damaged(b"".join(each.data for each in stream)))
DAMAGED_SESSIONS = st.sampled_from(SESSIONS).flatmap(damaged)
ANYTHING = st.one_of(st.binary(max_size=400), ANY_FRAMES, DAMAGED, DAMAGED_SESSIONS)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=400), st.data())
async def test_any_bytes(data: bytes, more: st.DataObject) -> None:
    survive(more.draw(splits(data)))


@settings(deadline=None, max_examples=150)
@given(ANY_FRAMES, st.data())
@example(b"".join(deliver(1, 1, b"x" * (MAX_BODY + 1))), None)
@example(method(1, commands.Basic.Deliver("c", 1, False, "", "k")) + body_frame(1, b""), None)
@example(
    deliver(1, 1, b"x")[0] + header(1, 2**64 - 1) + b"".join([body_frame(1, b"x" * 100)] * 50), None
)
@example(method(0, commands.Connection.Tune(0, 1, 0)) + b"".join(MIXED), None)
@example(method(0, commands.Connection.Close(320, "bye", 0, 0)) + b"".join(MIXED), None)
@example(method(1, commands.Channel.Close(406, "no", 0, 0)) + b"".join(MIXED), None)
@example(
    method(2, commands.Channel.CloseOk())
    + method(2, commands.Basic.Nack(1))
    + method(2, commands.Basic.CancelOk("c"))
    + method(2, commands.Channel.OpenOk())
    + method(2, commands.Basic.Nack(1)),
    None,
)
async def test_any_frames(data: bytes, more: st.DataObject | None) -> None:
    survive([data] if more is None else more.draw(splits(data)))


@settings(deadline=None, max_examples=150)
@given(DAMAGED, st.data())
async def test_a_good_stream_with_damage(data: bytes, more: st.DataObject) -> None:
    survive(more.draw(splits(data)))


@settings(deadline=None, max_examples=100)
@given(DAMAGED_SESSIONS, st.data())
@example(SESSIONS[0], None)
@example(SESSIONS[1], None)
@example(SESSIONS[2], None)
async def test_a_recorded_session_with_damage(data: bytes, more: st.DataObject | None) -> None:
    harness = survive([data] if more is None else more.draw(splits(data)))
    if more is None:
        assert harness.router.lost is None


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(deadline=None, max_examples=MANY, suppress_health_check=list(HealthCheck))
@given(ANYTHING, st.data())
async def test_very_many_streams(data: bytes, more: st.DataObject) -> None:
    survive(more.draw(splits(data)))


# -- growth -------------------------------------------------------------------------------------


async def test_an_endless_frame_is_bounded_by_the_frame_max_that_was_agreed() -> None:
    """Nothing is kept of a frame that is larger; of one that is as large, no more than it has."""
    for start in (b"\x01\x00\x01", b"\x03\x00\x09", b"\x02\x00\x01", b"\x63\x00\x00"):
        harness = survive([start + struct.pack(">I", 2**31), bytes(10_000)])
        assert harness.router.lost is not None
        harness = survive([start + struct.pack(">I", UNTUNED_FRAME_MAX - 8), *[bytes(9000)] * 99])
        assert harness.router.lost is not None
    harness = survive([method(0, commands.Connection.Tune(0, 0, 0)), b"\x03\x00\x09\xff" * 9])
    assert harness.router.lost is not None
    assert harness.router.frame_max == FRAME_MAX_CAP


async def test_a_large_frame_in_small_pieces_is_not_read_anew_for_each() -> None:
    """A megabyte in 1,000 bytes at a time costs one pass over the buffer, not a thousand."""
    harness = survive([method(0, commands.Connection.Tune(0, 2**20, 0))])
    frame = body_frame(3, bytes(2**20 - 8))
    cuts = inside(harness.router).count_cuts()
    for at in range(0, len(frame), 1000):
        harness.feed(frame[at : at + 1000])
    assert len(cuts) <= 3
    assert harness.passed.endswith(frame)
