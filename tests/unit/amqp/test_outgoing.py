"""A message on its way out: what is left of its expiration is written when it had to wait."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.outgoing import Outgoing
from nuropb_rmq.protocol import writer
from nuropb_rmq.protocol.constants import MessageType


def message(expiration: int | None) -> Outgoing:
    """One whose properties end as pack_properties ends them, which the message id follows."""
    properties = writer.pack_properties(
        MessageType.REQUEST,
        "c-1234",
        trace_id="t-1234",
        reply_to="nuropb-a-1234-rq",
        expiration=expiration,
        priority=3,
    )
    return Outgoing(b"", properties, b"{}", expiration=expiration)


def properties_of(outgoing: Outgoing) -> frames.Properties:
    return frames.decode_properties(outgoing.properties + frames.shortstr("m-1"))


@pytest.mark.parametrize(
    ("expiration", "waited", "left"),
    [(30_000, 20.5, 9_500), (30_000, 29.5, 500), (43_200_000, 0.0, 43_200_000), (1_000, 0.9, 100)],
)
def test_what_is_left_is_written(expiration: int, waited: float, left: int) -> None:
    waiting = message(expiration)
    before = properties_of(waiting)
    waiting.wait()
    waiting.waits_since -= waited
    waiting.wait()  # in the outbox, behind the gate: it waits since it began to
    assert not waiting.expired()
    after = properties_of(waiting)
    assert left - 200 < int(after.expiration or 0) <= left
    assert replace(after, expiration=before.expiration) == before


def test_it_may_wait_again() -> None:
    """The channel that it was written to has ended."""
    waiting = message(10_000)
    before = properties_of(waiting)
    for left in (9_500, 500):
        waiting.wait()
        waiting.waits_since -= int(properties_of(waiting).expiration or 0) / 1000 - left / 1000
        assert not waiting.expired()
        after = properties_of(waiting)
        assert left - 200 < int(after.expiration or 0) <= left
        assert replace(after, expiration=before.expiration) == before


def test_nothing_is_left() -> None:
    waiting = message(1_000)
    waiting.wait()
    waiting.waits_since -= 1
    assert waiting.expired()


@pytest.mark.parametrize("expiration", [None, 1_000])
def test_what_does_not_wait_or_expire_is_as_it_was(expiration: int | None) -> None:
    one = message(expiration)
    if expiration is None:
        one.wait()
    assert not one.expired()
    assert properties_of(one).expiration == (None if expiration is None else "1000")
