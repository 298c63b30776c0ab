"""Whatever arrives: the router goes on, or ends the connection; it never raises, hangs or grows."""

from __future__ import annotations

import struct

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands

from nuropb_rmq import AMQPProtocolError
from nuropb_rmq.head import Head
from nuropb_rmq.wire import frames
from nuropb_rmq.wire.frames import Content

from .harness import Harness, Listener, body_frame, deliver, header, method
from .strategies import KEPT, MIXED, Sent, splits, streams

MAX_BODY = 1000


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


def survive(chunks: list[bytes]) -> Harness:
    """Feed a router, and see that it keeps its promises at every step."""
    harness = Harness()
    for number in KEPT:
        listener = harness.listeners[number] = Reading()
        harness.ports[number] = harness.router.register(number, listener, max_body=MAX_BODY)
    router = harness.router
    for chunk in chunks:
        router.data_received(chunk)
        assert len(router._buffer) <= router.frame_max + len(chunk)
        assert len(router._buffer) < max(router._need, 7)
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
        assert not router._buffer
    return harness


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=400), st.data())
async def test_any_bytes(data: bytes, more: st.DataObject) -> None:
    survive(more.draw(splits(data)))


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


@settings(deadline=None, max_examples=150)
@given(st.lists(FRAMES, max_size=10), st.data())
@example([*deliver(1, 1, b"x" * (MAX_BODY + 1))], None)
@example([method(1, commands.Basic.Deliver("c", 1, False, "", "k")), body_frame(1, b"")], None)
@example([*deliver(1, 1, b"x")[:1], header(1, 2**64 - 1), body_frame(1, b"x" * 100)], None)
@example([method(0, commands.Connection.Tune(0, 1, 0)), *MIXED], None)
@example([method(0, commands.Connection.Close(320, "bye", 0, 0)), *MIXED], None)
@example([method(1, commands.Channel.Close(406, "no", 0, 0)), *MIXED], None)
async def test_any_frames(drawn: list[bytes], more: st.DataObject | None) -> None:
    data = b"".join(drawn)
    survive([data] if more is None else more.draw(splits(data)))


@settings(deadline=None, max_examples=200)
@given(streams(), st.data())
async def test_a_good_stream_with_damage(stream: list[Sent], more: st.DataObject) -> None:
    data = bytearray(b"".join(each.data for each in stream))
    for _ in range(more.draw(st.integers(1, 3))):
        at = more.draw(st.integers(0, len(data)))
        match more.draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip" if at < len(data):
                data[at] ^= 1 << more.draw(st.integers(0, 7))
            case "cut":
                del data[at : at + more.draw(st.integers(1, 9))]
            case "insert":
                data[at:at] = more.draw(st.binary(min_size=1, max_size=9))
            case "repeat":
                data[at:at] = data[at : at + more.draw(st.integers(1, 60))]
    survive(more.draw(splits(bytes(data))))


async def test_a_large_frame_in_small_pieces_is_not_read_anew_for_each() -> None:
    """A megabyte in 1,000 bytes at a time costs one pass over the buffer, not a thousand."""
    harness = survive([method(0, commands.Connection.Tune(0, 2**20, 0))])
    frame = body_frame(3, bytes(2**20 - 8))
    cuts = 0
    cut = harness.router._cut

    def counting(data: bytes) -> int:
        nonlocal cuts
        cuts += 1
        return cut(data)

    harness.router._cut = counting  # type: ignore[method-assign]
    for at in range(0, len(frame), 1000):
        harness.feed(frame[at : at + 1000])
    assert cuts <= 3
    assert harness.passed.endswith(frame)
