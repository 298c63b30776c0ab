"""Deliveries that are whole are read in one pass; where that ends, the ordinary way goes on."""

from __future__ import annotations

import pytest
from pamqp import commands

from nuropb_rmq.amqp.deliveries import Deliveries
from nuropb_rmq.amqp.frames import Content

from ...seams import kept_by
from .harness import Harness, body_frame, content, deliver, header, method

FIRST = commands.Basic.Deliver("ctag", 1, False, "an-exchange", "a.key")
DELIVERIES = Deliveries(1, method(1, FIRST)[7:-1])
WHOLE = b"".join(deliver(1, 7, b"whole"))
PLENTY = 1000


def read(data: bytes, most: int = PLENTY) -> list[tuple[int, bytes]]:
    """The delivery tag and body of each that is read."""
    found = list(DELIVERIES.read(data, 0, len(data), most))
    assert [behind for _, behind in found] == sorted({behind for _, behind in found})
    return [(each.tag, each.body) for each, _ in found]


def test_what_differs_is_read_of_each() -> None:
    stream = b""
    properties = commands.Basic.Properties(correlation_id="c-1", headers={"h": "v"})
    sent = [
        (1, False, "", "a-queue", b"x"),
        (2, True, "an-exchange", "a.key", b"xy" * 40),
        (2**63 - 1, False, "e" * 127, "k" * 127, b"{}"),
    ]
    for tag, again, exchange, key, body in sent:
        frame = commands.Basic.Deliver("ctag", tag, again, exchange, key)
        stream += b"".join(content(1, frame, body, properties))
    found = [each for each, _ in DELIVERIES.read(stream, 0, len(stream), PLENTY)]
    assert [(o.tag, o.redelivered, o.exchange, o.routing_key, o.body) for o in found] == sent
    assert {each.raw_properties for each in found} == {found[0].raw_properties}
    assert b"c-1" in found[0].raw_properties
    assert [each.body_size for each in found] == [1, 80, 2]
    assert [behind for _, behind in DELIVERIES.read(stream, 0, len(stream), PLENTY)][-1] == len(
        stream
    )


def test_routes_and_properties_may_have_many_lengths() -> None:
    lengths = [1, 2, 1, *range(1, 250), *range(1, 250)]
    stream = b""
    for tag, length in enumerate(lengths):
        frame = commands.Basic.Deliver("ctag", tag, False, "", "k" * length)
        for letters in (length, 250 - length):
            properties = commands.Basic.Properties(correlation_id="c" * letters)
            stream += b"".join(content(1, frame, b"body", properties))
    deliveries = Deliveries(1, method(1, FIRST)[7:-1])
    found = [each for each, _ in deliveries.read(stream, 0, len(stream), PLENTY)]
    assert [each.tag for each in found] == [tag for tag in range(len(lengths)) for _ in range(2)]
    assert [len(each.routing_key) for each in found] == [each for each in lengths for _ in range(2)]
    told = [len(each.raw_properties) for each in found]
    assert [each - told[0] for each in told[::2]] == [each - 1 for each in lengths]
    assert [each - told[1] for each in told[1::2]] == [1 - each for each in lengths]
    assert 0 < len(kept_by(deliveries)) <= 256


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_what_is_not_whole_is_left(end: int) -> None:
    assert read(WHOLE + WHOLE[:end]) == [(7, b"whole")]


LEFT = {
    "of another consumer": b"".join(
        content(1, commands.Basic.Deliver("gtac", 8, False, "", "k"), b"other")
    ),
    "of another channel": b"".join(deliver(2, 8, b"other")),
    "without a body": b"".join(deliver(1, 8, b"")),
    "with two body frames": b"".join(deliver(1, 8, b"two of them", cuts=(3,))),
    "too large": b"".join(deliver(1, 8, b"x" * (PLENTY + 1))),
    "not a delivery": method(1, commands.Basic.Ack(8, False)) * 3,
    "header of another channel": method(1, FIRST) + header(2, 5) + body_frame(1, b"12345"),
    "body of another channel": method(1, FIRST) + header(1, 5) + body_frame(2, b"12345"),
    "more announced than there is": method(1, FIRST) + header(1, 6) + body_frame(1, b"12345"),
    "header without its end": WHOLE.replace(b"\xce\x03", b"\x00\x03"),
    "body without its end": WHOLE[:-1] + b"\x00",
}


@pytest.mark.parametrize("other", LEFT)
def test_what_is_anything_else_is_left(other: str) -> None:
    assert read(WHOLE + LEFT[other] + WHOLE) == [(7, b"whole")]


def test_a_route_that_does_not_fill_its_frame_is_left() -> None:
    frame = commands.Basic.Deliver("ctag", 8, False, "exchange", "k")
    shorter = b"".join(content(1, frame, b"body")).replace(b"\x08exchange", b"\x07exchange")
    assert read(WHOLE + shorter) == [(7, b"whole")]


async def test_nothing_more_is_told_when_a_listener_has_ended_its_channel() -> None:
    harness = Harness(1)
    harness.feed(WHOLE)
    port, listener = harness.ports[1], harness.listeners[1]
    told = listener.on_content

    def end(content: Content) -> None:
        told(content)
        port.unregister("enough")

    listener.on_content = end  # type: ignore[method-assign]
    harness.feed(WHOLE * 3)
    assert [each[0] for each in harness.events()] == ["content", "content", "closed"]
    assert harness.passed == b""
