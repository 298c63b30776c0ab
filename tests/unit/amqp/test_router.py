"""The frame router, reading: what it keeps, what it passes on, however the stream is cut."""

from __future__ import annotations

import asyncio

import pamqp.frame
import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import AMQPConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.heartbeat import HEARTBEAT_EVERY
from nuropb_rmq.amqp.router import FRAME_MAX_CAP, HEADER_ROOM, UNTUNED_FRAME_MAX

from ...seams import inside, kept_of_body
from ...support import eventually
from .harness import (
    HEARTBEAT,
    Event,
    Harness,
    body_frame,
    content,
    deliver,
    header,
    method,
    naming,
    tick,
    told,
)
from .strategies import KEPT, MIXED, OTHER, Sent, splits, streams

# -- the same, however it is cut ----------------------------------------------------------------


def run(*chunks: bytes) -> tuple[bytes, list[list[Event]], list[str | None]]:
    """Return the output of a new router that gets these chunks."""
    harness = Harness(*KEPT)
    harness.feed(*chunks)
    assert harness.router.lost is None
    assert not inside(harness.router).buffer
    return harness.passed, [harness.events(number) for number in KEPT], harness.blocked


async def test_a_stream_cut_anywhere_in_two_gives_the_same() -> None:
    stream = b"".join(MIXED)
    whole = run(stream)
    others = [each for each in MIXED if each[1:3] in (b"\x00\x00", bytes((0, OTHER)))]
    assert whole[0] == b"".join([others[0], method(1, commands.Basic.QosOk()), *others[1:]])
    assert [each[-1] for each in whole[1][0]] == [b"two frames", b"", b"three of them"]
    assert len(whole[1][1]) == 1
    for at in range(len(stream) + 1):
        assert run(stream[:at], stream[at:]) == whole, f"cut at {at}"


async def test_a_stream_in_single_bytes_gives_the_same() -> None:
    stream = b"".join(MIXED)
    assert run(*(stream[at : at + 1] for at in range(len(stream)))) == run(stream)


@settings(deadline=None, max_examples=120)
@given(streams(), st.data())
async def test_any_stream_in_any_pieces_goes_where_it_belongs(
    stream: list[Sent], data: st.DataObject
) -> None:
    pieces = data.draw(splits(b"".join(each.data for each in stream)))
    passed, events, _ = run(*pieces)
    assert passed == b"".join(each.data for each in stream if each.passed)
    for number, told_of in zip(KEPT, events, strict=True):
        # Connection.Unblocked is told to every channel.
        told_of[:] = [each for each in told_of if each != ("writable",)]
        assert told_of == [each.event for each in stream if each.number == number and each.event]


async def test_aiormq_reads_what_is_passed_on() -> None:
    harness = Harness(*KEPT)
    harness.feed(b"".join(MIXED))
    harness.reader.feed_eof()
    receiver = FrameReceiver(harness.reader)
    names = [(number, frame.name) async for _, number, frame in receiver]
    assert names == [
        (0, "Heartbeat"),
        (1, "Basic.QosOk"),
        (OTHER, "Basic.Deliver"),
        (OTHER, "ContentHeader"),
        (OTHER, "ContentBody"),
        (OTHER, "ContentBody"),
        (0, "Connection.Blocked"),
    ]


# -- content ------------------------------------------------------------------------------------


async def test_frames_of_two_channels_may_be_interleaved() -> None:
    harness = Harness(1, 2)
    first = deliver(1, 11, b"first body", cuts=(5,))
    second = deliver(2, 22, b"second body", cuts=(6,))
    for pair in zip(first, second, strict=True):
        harness.feed(*pair)
    assert [each[-1] for each in harness.events(1)] == [b"first body"]
    assert [each[-1] for each in harness.events(2)] == [b"second body"]
    assert harness.passed == b""


async def test_confirms_and_cancels_are_told() -> None:
    harness = Harness(1)
    harness.feed(
        method(1, commands.Basic.Ack(3, True)),
        method(1, commands.Basic.Nack(2**40, False)),
        method(1, commands.Basic.Cancel("ctag")),
    )
    assert harness.events() == [
        ("confirm", 3, True, True),
        ("confirm", 2**40, False, False),
        ("cancelled", True),
    ]
    assert harness.passed == method(1, commands.Basic.Cancel("ctag"))  # aiormq forgets its consumer


async def test_cancel_ok_is_ours_only_after_our_own_cancel() -> None:
    harness = Harness(1)
    answer = method(1, commands.Basic.CancelOk("ctag"))
    harness.feed(answer)
    assert harness.passed == answer
    harness.ports[1].cancel("ctag")
    await tick()
    assert harness.writes == [method(1, commands.Basic.Cancel("ctag"))]
    harness.feed(answer, answer)
    assert harness.events() == [("cancelled", False)]
    assert harness.passed == answer * 2


async def test_a_body_that_is_too_large_is_dropped_and_announced() -> None:
    harness = Harness(1, max_body=10)
    exact, large = b"x" * 10, b"y" * 11
    harness.feed(*deliver(1, 1, exact), *deliver(1, 2, large), *deliver(1, 3, large, cuts=(4, 8)))
    harness.feed(*deliver(1, 4, exact, cuts=(5,)))
    sizes = [(each[1], each[-2], each[-1]) for each in harness.events()]
    assert sizes == [(1, 10, exact), (2, 11, b""), (3, 11, b""), (4, 10, exact)]


async def test_nothing_of_a_body_that_is_too_large_is_kept_while_it_arrives() -> None:
    harness = Harness(1, max_body=10)
    *most, _ = deliver(1, 1, b"y" * 400, cuts=range(0, 400, 10))
    harness.feed(*most)
    assert not kept_of_body(harness.ports[1])


async def test_a_message_without_properties_or_body() -> None:
    harness = Harness(1)
    frame = commands.Basic.Return(312, "NO_ROUTE", "", "nobody")
    harness.feed(method(1, frame), header(1, 0))
    assert harness.events() == [told(frame, b"")]


async def test_a_header_frame_may_be_larger_than_agreed_for_the_broker_adds_to_it() -> None:
    harness = Harness(1)
    frame = commands.Basic.Deliver("ctag", 1, False, "", "k")
    properties = commands.Basic.Properties(headers={"h": "x" * 2**17})
    harness.feed(*content(1, frame, b"body", properties), *deliver(1, 2, b"next"))
    assert harness.events()[0] == told(frame, b"body", properties)
    assert [each[-1] for each in harness.events()] == [b"body", b"next"]
    assert harness.router.lost is None


# -- what breaks the protocol -------------------------------------------------------------------

METHOD = deliver(1, 1, b"body")[0]
HEADER = deliver(1, 1, b"body")[1]


def _start(kind: int, number: int, size: int) -> bytes:
    return frames.FRAME_START.pack(kind, number, size)


BROKEN = {
    "frame larger than frame_max": _start(1, 0, UNTUNED_FRAME_MAX - 7),
    "frame larger than frame_max, by far": _start(3, 1, 2**32 - 1),
    "header frame larger than any": _start(2, 1, UNTUNED_FRAME_MAX + HEADER_ROOM + 1),
    "no end octet": METHOD[:-1] + b"\x00",
    "no end octet, control": method(0, commands.Connection.Unblocked())[:-1] + b"\x00",
    "header without method": HEADER,
    "header within a body": METHOD + HEADER + HEADER,
    "header after a method without content": method(1, commands.Basic.Ack(1)) + HEADER,
    "body without header": METHOD + body_frame(1, b"body"),
    "empty body without header": METHOD + body_frame(1, b""),
    "body without method": body_frame(1, b"body"),
    "empty body without method": body_frame(1, b""),
    "more body than announced": METHOD + HEADER + body_frame(1, b"body!"),
    "body after the message": b"".join(deliver(1, 1, b"body")) + body_frame(1, b"!"),
    "message within a message": METHOD + METHOD,
    "message within a body": METHOD + HEADER + body_frame(1, b"bo") + METHOD,
    "unknown frame type": _start(4, 1, 2) + b"xx\xce",
    "heartbeat on a channel": _start(8, 1, 0) + b"\xce",
    "method frame without a method": _start(1, 1, 2) + b"\x00\x3c\xce",
    "delivery that ends too early": _start(1, 1, 6) + b"\x00\x3c\x00\x3c\x09c\xce",
    "delivery that ends too late": _start(1, 1, len(METHOD) - 7) + METHOD[7:-1] + b"!\xce",
    "return that ends too early": _start(1, 1, 6) + b"\x00\x3c\x00\x32\x01\x38\xce",
    "header that ends too early": METHOD + _start(2, 1, 4) + b"\x00\x3c\x00\x00\xce",
    "ack that ends too early": _start(1, 1, 8) + b"\x00\x3c\x00\x50\x00\x00\x00\x00\xce",
    "ack without its bits": _start(1, 1, 12) + b"\x00\x3c\x00\x50" + b"\x00" * 8 + b"\xce",
    "close that ends too early": _start(1, 1, 5) + b"\x00\x14\x00\x28\x01\xce",
    "connection method of two bytes": _start(1, 0, 2) + b"\x00\x0a\xce",
    "tune to less than the smallest": method(0, commands.Connection.Tune(0, 4095, 0)),
    "tune that ends too early": _start(1, 0, 5) + b"\x00\x0a\x00\x1e\x00\xce",
    "blocked without its reason": _start(1, 0, 6) + b"\x00\x0a\x00\x3c\x05x\xce",
    "another protocol, with an A": b"A" * 4,
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


async def test_what_breaks_the_protocol_ends_the_connection() -> None:
    for name, data in BROKEN.items():
        with naming(name):
            await _ends_the_connection(data)


async def _ends_the_connection(data: bytes) -> None:
    harness = Harness(1, 2)
    receiver = FrameReceiver(harness.reader)
    reading = asyncio.ensure_future(receiver.get_frame())
    await tick()
    harness.feed(data)
    assert harness.transport.aborted == 1
    with pytest.raises(AMQPConnectionError):
        await asyncio.wait_for(reading, 1)
    await tick(2)  # connection_lost
    (lost,) = harness.lost
    assert lost is harness.router.lost
    assert lost.code == 501
    for number in (1, 2):
        assert harness.events(number)[-1] == ("closed",)
        assert harness.listeners[number].reasons == [lost]
        assert not harness.ports[number].open
    harness.feed(METHOD, HEADER)  # what the transport had read already
    with pytest.raises((AMQPConnectionError, StopAsyncIteration)):
        await asyncio.wait_for(receiver.get_frame(), 1)
    assert harness.passed == b""


async def test_what_breaks_the_protocol_later_leaves_what_came_before() -> None:
    harness = Harness(1)
    unblocked = method(0, commands.Connection.Unblocked())
    harness.feed(b"".join(deliver(1, 1, b"good")) + unblocked + HEADER + unblocked)
    assert [each[0] for each in harness.events()] == ["content", "writable", "closed"]
    assert harness.passed == unblocked


async def test_an_unknown_frame_of_a_channel_that_is_not_ours_is_aiormqs_to_judge() -> None:
    harness = Harness(1)
    strange = _start(4, OTHER, 2) + b"xx\xce"
    harness.feed(strange)
    assert harness.passed == strange
    assert harness.router.lost is None


async def test_another_version_of_amqp_is_named_and_nothing_behind_it_is_kept() -> None:
    for cut in range(1, 9):
        harness = Harness()
        greeting = b"AMQP\x00\x01\x00\x00"
        harness.feed(greeting[:cut])
        assert len(inside(harness.router).buffer) == cut % 8
        harness.feed(greeting[cut:] + b"A" * 100_000)
        assert "but 1-0-0" in str(harness.router.lost)
        assert harness.passed == b""
        assert not inside(harness.router).buffer


# -- Tune ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told_max", "kept_max"), [(4096, 4096), (0, FRAME_MAX_CAP), (2**20, 2**20)]
)
async def test_tune_sets_frame_max(told_max: int, kept_max: int) -> None:
    harness = Harness(1)
    tune = method(0, commands.Connection.Tune(2047, told_max, 60))
    harness.feed(tune)
    assert harness.passed == tune
    assert harness.router.frame_max == harness.ports[1].frame_max == kept_max
    harness.feed(_start(3, OTHER, kept_max - 8))
    assert harness.router.lost is None
    harness = Harness(1)
    harness.feed(tune, _start(3, OTHER, kept_max - 7))
    assert harness.router.lost is not None


async def test_a_frame_of_frame_max_is_read_in_pieces() -> None:
    harness = Harness(1)
    body = bytes(UNTUNED_FRAME_MAX - 8)
    stream = b"".join(deliver(1, 1, body))
    harness.feed(*(stream[at : at + 1000] for at in range(0, len(stream), 1000)))
    assert [each[-1] for each in harness.events()] == [body]


# -- liveness -----------------------------------------------------------------------------------


async def test_aiormq_is_shown_a_heartbeat_once_a_second_while_content_flows() -> None:
    harness = Harness(1)
    for step in range(40):  # five seconds
        harness.clock.ahead = step / 8
        harness.feed(b"".join(deliver(1, step, b"x")), method(1, commands.Basic.Ack(step)))
    assert HEARTBEAT_EVERY == 1.0
    assert harness.passed == HEARTBEAT * 4
    assert len(harness.events()) == 80


async def test_a_heartbeat_is_never_shown_within_a_frame() -> None:
    harness = Harness(1)
    control = method(1, commands.Basic.QosOk())
    stream = b"".join(deliver(1, 1, b"x")) + control
    for at in range(0, len(stream), 7):
        harness.clock.ahead += HEARTBEAT_EVERY
        harness.feed(stream[at : at + 7])
    rest = harness.passed
    names = []
    while rest:
        used, _, frame = pamqp.frame.unmarshal(rest)
        names.append(frame.name)
        rest = rest[used:]
    assert names[-1] == "Basic.QosOk"
    assert set(names[:-1]) == {"Heartbeat"}


async def test_no_heartbeat_is_shown_when_nothing_is_kept() -> None:
    harness = Harness(1)
    harness.clock.ahead = 60.0
    control = method(1, commands.Basic.QosOk())
    harness.feed(control, *deliver(OTHER, 1, b"x"))
    assert harness.passed == control + b"".join(deliver(OTHER, 1, b"x"))


# -- silence ------------------------------------------------------------------------------------


async def test_a_connection_on_which_nothing_is_heard_is_lost() -> None:
    harness = Harness(1)
    harness.router.watch(10.0, 0.05)
    await eventually(lambda: harness.router.lost is not None)
    assert "nothing was heard" in str(harness.router.lost)
    assert harness.events() == [("closed",)]
    assert harness.transport.aborted == 1


async def test_any_byte_is_a_sign_of_life() -> None:
    harness = Harness(1)
    harness.router.watch(30.0, 30.0)
    for byte in HEARTBEAT:
        harness.clock.ahead += 29.0
        inside(harness.router).look()
        assert harness.router.lost is None
        harness.feed(bytes((byte,)))
    harness.clock.ahead += 30.0
    inside(harness.router).look()
    assert harness.router.lost is not None


async def test_silence_is_not_watched_after_the_end() -> None:
    harness = Harness(1)
    harness.router.watch(30.0, 30.0)
    harness.router.abort("closed")
    reason = harness.router.lost
    harness.clock.ahead += 31.0
    inside(harness.router).look()
    assert harness.router.lost is reason
    assert harness.transport.aborted == 1
