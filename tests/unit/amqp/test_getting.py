"""Basic.Get, packed and read."""

from __future__ import annotations

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from nuropb_rmq.amqp import getting
from nuropb_rmq.amqp.getting import Got

from .strategies import CHANNELS, EXCHANGES, SHORT


@given(CHANNELS, st.text("abcäö-_.", min_size=1, max_size=60))
def test_what_is_asked_for(channel: int, queue: str) -> None:
    packed = getting.pack_get(channel, queue)
    assert getting.read_get(packed[7:-1]) == queue
    if queue.isascii():
        _, number, read = pamqp.frame.unmarshal(packed)
        assert isinstance(read, commands.Basic.Get)
        assert (number, read.queue, read.no_ack) == (channel, queue, False)


@given(st.integers(1, 2**63 - 1), st.booleans(), EXCHANGES, SHORT, st.integers(0, 2**32 - 1))
def test_what_is_answered(
    tag: int, redelivered: bool, exchange: str, routing_key: str, left: int
) -> None:
    answer = commands.Basic.GetOk(tag, redelivered, exchange, routing_key, left)
    payload = pamqp.frame.marshal(answer, 1)[7:-1]
    got = getting.read_get_ok(payload)
    assert (got.tag, got.redelivered, got.exchange, got.routing_key, got.left) == (
        tag, redelivered, exchange, routing_key, left,
    )  # fmt: skip
    for damaged in (payload[:-1], payload + b"\x00"):
        with pytest.raises(IndexError):
            getting.read_get_ok(damaged)


def test_nothing_was_there() -> None:
    nothing = getting.nothing()
    assert isinstance(nothing, Got)
    assert (nothing.tag, nothing.exchange, nothing.routing_key, nothing.left) == (0, "", "", 0)
