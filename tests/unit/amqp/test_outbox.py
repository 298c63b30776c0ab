"""The outbox: order, bounds, and taking messages out wherever they stand."""

from __future__ import annotations

import pytest

from nuropb_rmq import NuropbTimeoutError, OutboxFullError
from nuropb_rmq.amqp.outbox import Outbox
from nuropb_rmq.amqp.outgoing import Outgoing
from nuropb_rmq.amqp.publisher import Publisher


def message(name: bytes = b"m") -> Outgoing:
    return Outgoing(b"", b"", name)


def names(outbox: Outbox) -> list[bytes]:
    return [each.body for each in outbox]


def test_what_is_put_first_comes_first_and_in_its_order() -> None:
    outbox = Outbox(max_messages=10, max_bytes=100)
    outbox.add(message(b"c"))
    outbox.add(message(b"d"))
    outbox.add_first([message(b"a"), message(b"b")])
    assert names(outbox) == [b"a", b"b", b"c", b"d"]
    assert [outbox.pop().body for _ in range(4)] == [b"a", b"b", b"c", b"d"]
    assert (len(outbox), outbox.bytes) == (0, 0)


def test_any_message_can_be_taken_out_and_only_once() -> None:
    outbox = Outbox(max_messages=10, max_bytes=100)
    waiting = [message(name) for name in (b"a", b"b", b"c")]
    for each in waiting:
        outbox.add(each)
    assert outbox.remove(waiting[1])
    assert not outbox.remove(waiting[1])
    assert (names(outbox), outbox.bytes) == ([b"a", b"c"], 2)


def test_both_bounds() -> None:
    outbox = Outbox(max_messages=2, max_bytes=4)
    outbox.add(message(b"12"))
    with pytest.raises(OutboxFullError, match="outbox_bytes"):
        outbox.check_room(message(b"123"))
    outbox.add(message(b"34"))
    assert not outbox.overfull
    with pytest.raises(OutboxFullError, match="outbox_messages"):
        outbox.check_room(message(b""))
    outbox.add(message(b"5"))
    assert outbox.overfull


@pytest.mark.parametrize(("max_messages", "max_bytes"), [(1, 9), (9, 3)])
def test_one_bound_is_enough_to_be_overfull(max_messages: int, max_bytes: int) -> None:
    outbox = Outbox(max_messages=max_messages, max_bytes=max_bytes)
    outbox.add_first([message(b"12"), message(b"34")])
    assert outbox.overfull


@pytest.mark.timeout(60)
async def test_many_are_cancelled_last_first_in_linear_time() -> None:
    """Each is found at once, however many wait before it; to pass them all would take minutes."""
    publisher = Publisher(max_messages=90_000, max_bytes=2**24)
    waiting = [message() for _ in range(90_000)]
    for each in waiting:
        publisher.publish(each, lambda _: None)
    for each in reversed(waiting):
        publisher.discard(each, NuropbTimeoutError("nobody waits for it"))
    assert publisher.waiting == 0
