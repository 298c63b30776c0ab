"""The consumer: what one event-loop tick settles leaves in as few frames as can be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.channel import ChannelPort
from nuropb_rmq.amqp.consumer import Consumer
from nuropb_rmq.amqp.frames import Content
from nuropb_rmq.amqp.settlement import Settlement
from nuropb_rmq.exceptions import ConnectionLostError

from ...support import LOG, eventually

NUMBER = 7


class Owner:
    """A router that keeps what is written, and flushes at calls of flush() alone."""

    frame_max = 131_072
    writable = True

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.left: list[bytes] = []
        """The data that left with the end of the channel."""
        self._at_flush: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    write_now = write

    def at_flush(self, call: Callable[[], None]) -> None:
        self._at_flush.append(call)

    def flush(self) -> list[bytes]:
        """Return the data that leaves with this tick."""
        calls, self._at_flush = self._at_flush, []
        for call in calls:
            call()
        written, self.written = self.written, []
        return written

    def end(self, port: ChannelPort, reason: ConnectionLostError) -> None:
        self.left = self.flush()
        port.tell_closed(reason)


class Receiver:
    """Takes so many deliveries, and no more until there is room."""

    def __init__(self, room: int = 1000) -> None:
        self.taken: list[int] = []
        self.room = room
        self.freed = asyncio.Event()

    def receive(self, consumer: Consumer, content: Content) -> Awaitable[None] | None:
        self.taken.append(content.tag)
        self.room -= 1
        return None if self.room > 0 else self._until_freed()

    def take_again(self, consumer: Consumer, content: Content) -> bool:
        return content.body == b"in hand"

    async def _until_freed(self) -> None:
        await self.freed.wait()
        self.freed.clear()


class Bench:
    """A consumer on a channel of its own."""

    def __init__(self, room: int = 1000) -> None:
        self.owner = Owner()
        self.receiver = Receiver(room)
        self.ended: list[ConnectionLostError] = []
        self.consumer = Consumer("q", self.receiver, self.ended.append, LOG, acks=True)
        self.consumer.start(ChannelPort(self.owner, NUMBER, self.consumer, 1000))

    def deliver(self, *tags: int) -> None:
        for tag in tags:
            self.consumer.on_content(Content(tag, False, b"\0\0"))

    def settle(self, *tags: int, by: Settlement = Settlement.ACK) -> None:
        for tag in tags:
            assert self.consumer.settle(Content(tag, False, b"\0\0"), by)

    async def end(self) -> None:
        self.consumer.on_closed(ConnectionLostError("over"))
        self.receiver.freed.set()
        await self.consumer.task


def ack(tag: int, *, multiple: bool = False) -> bytes:
    return frames.pack_ack(NUMBER, tag, multiple=multiple)


@pytest.mark.parametrize(
    ("settled", "frames_sent"),
    [
        ([1], [ack(1)]),
        ([1, 2, 3], [ack(3, multiple=True)]),
        ([3, 1, 2], [ack(3, multiple=True)]),
        ([2], [ack(2)]),
        ([1, 3], [ack(1), ack(3)]),
        ([1, 2, 4], [ack(2, multiple=True), ack(4)]),
    ],
)
async def test_acks_of_one_tick(settled: list[int], frames_sent: list[bytes]) -> None:
    bench = Bench()
    bench.deliver(1, 2, 3, 4, 5)
    bench.settle(*settled)
    assert bench.owner.written == []
    assert bench.owner.flush() == frames_sent
    assert bench.owner.flush() == []
    await bench.end()


async def test_what_was_settled_otherwise_does_not_hold_acks_back() -> None:
    bench = Bench()
    bench.deliver(1, 2, 3, 4, 5)
    bench.settle(2)
    assert bench.owner.flush() == [ack(2)]
    bench.settle(1, by=Settlement.REJECT)
    bench.settle(3, by=Settlement.REQUEUE)
    assert bench.owner.flush() == [
        frames.pack_reject(NUMBER, 1, requeue=False),
        frames.pack_nack(NUMBER, 3, requeue=True),
    ]
    bench.settle(5, 4, by=Settlement.CALL_AGAIN)
    assert bench.owner.flush() == [ack(5, multiple=True)]
    await bench.end()


async def test_nothing_is_settled_behind_the_end_and_what_was_is_written_before() -> None:
    bench = Bench()
    bench.deliver(1, 2)
    bench.settle(1, 2)
    bench.consumer.port.unregister("over")
    assert not bench.consumer.settle(Content(2, False, b"\0\0"), Settlement.ACK)
    assert bench.owner.flush() == []
    await bench.end()


async def test_without_room_the_rest_waits_in_its_order() -> None:
    bench = Bench(room=2)
    bench.deliver(1, 2, 3, 4)
    assert bench.receiver.taken == [1, 2]
    bench.receiver.room = 10
    bench.receiver.freed.set()
    await eventually(lambda: bench.receiver.taken == [1, 2, 3, 4])
    bench.deliver(5)
    await eventually(lambda: bench.receiver.taken == [1, 2, 3, 4, 5])
    await bench.end()


async def test_what_waits_when_the_channel_ends_is_never_begun() -> None:
    """The broker delivers it again."""
    bench = Bench(room=1)
    bench.deliver(1, 2, 3)
    await bench.end()  # and there is room
    assert bench.receiver.taken == [1]


async def test_a_receiver_that_fails_ends_the_session_and_not_the_router() -> None:
    bench = Bench()

    def fail(consumer: Consumer, content: Content) -> None:
        raise ValueError("odd")

    bench.receiver.receive = fail  # type: ignore[method-assign]
    bench.deliver(1)
    assert [str(each) for each in bench.ended] == ["consumer of q failed: ValueError"]
    await bench.end()


async def test_a_delivery_that_joins_another_needs_no_room() -> None:
    """And is settled as the others are."""
    bench = Bench(room=1)
    bench.deliver(1, 2)
    for again in (False, True):
        bench.consumer.on_content(Content(3 + again, again, b"\0\0", body=b"in hand"))
    bench.settle(4)
    assert bench.owner.flush() == [ack(4)]
    bench.receiver.freed.set()
    await eventually(lambda: len(bench.receiver.taken) == 2)
    bench.receiver.freed.set()
    await eventually(lambda: bench.receiver.taken == [1, 2, 3])
    await bench.end()


def cancel_of(bench: Bench) -> bytes:
    return frames.pack_cancel(NUMBER, bench.consumer.tag)


async def test_what_was_not_begun_goes_back_as_soon_as_it_is_cancelled() -> None:
    bench = Bench(room=2)
    bench.consumer.consuming()
    bench.deliver(1, 2, 3, 4)
    cancelling = asyncio.create_task(bench.consumer.cancel())
    await eventually(lambda: bench.owner.written)
    bench.deliver(5)  # on its way when the broker was told
    back = [frames.pack_nack(NUMBER, tag, requeue=True) for tag in (3, 4, 5)]
    assert bench.owner.flush() == [cancel_of(bench), *back]
    assert not cancelling.done()
    bench.consumer.on_cancelled(False)
    await cancelling
    assert bench.receiver.taken == [1, 2]
    await bench.end()


async def test_a_consumer_that_the_broker_does_not_know_yet_is_cancelled_when_it_does() -> None:
    """Deliveries until then wait: returned at once, they would be delivered here once more."""
    bench = Bench()
    cancelling = asyncio.create_task(bench.consumer.cancel())
    await asyncio.sleep(0)  # it has begun
    bench.deliver(1)
    assert bench.owner.flush() == []
    bench.consumer.consuming()
    assert bench.owner.flush() == [cancel_of(bench), frames.pack_nack(NUMBER, 1, requeue=True)]
    bench.deliver(2)
    assert bench.owner.flush() == [frames.pack_nack(NUMBER, 2, requeue=True)]
    bench.consumer.on_cancelled(False)
    await cancelling
    assert bench.receiver.taken == []
    await bench.end()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_is_not_settled_goes_back_before_the_channel_is_closed(cancelled: bool) -> None:
    """In one Basic.Nack, behind the acks, when there are no deliveries any more."""
    bench = Bench(room=4)
    bench.consumer.consuming()
    bench.deliver(1, 2, 3, 4, 5)
    if cancelled:
        cancelling = asyncio.create_task(bench.consumer.cancel())
        await eventually(bench.owner.flush)
    bench.settle(1, 3)
    bench.consumer.give_back()
    bench.consumer.port.unregister("over")
    back = frames.pack_nack(NUMBER, 0, requeue=True, multiple=True)
    left = [] if cancelled else [cancel_of(bench)]
    assert bench.owner.flush() == []
    assert bench.owner.left == [ack(1), ack(3), *left, back]
    if cancelled:
        await cancelling
    await bench.end()


async def test_nothing_goes_back_where_all_is_settled_or_the_channel_has_ended() -> None:
    bench = Bench()
    bench.deliver(1)
    bench.settle(1)
    bench.consumer.give_back()
    assert bench.owner.flush() == [ack(1), cancel_of(bench)]
    await bench.end()
    bench = Bench()
    bench.deliver(1)
    bench.consumer.port.unregister("over")
    bench.consumer.give_back()
    assert bench.owner.flush() == []
    await bench.end()
