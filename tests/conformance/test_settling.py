"""Consuming: ack, nack, reject, redelivery and its order, prefetch, and who gets what."""

from __future__ import annotations

import pytest

from nuropb_rmq.amqp.frames import Content

from ..support import eventually
from .brokers import Place, becomes
from .raw import Raw, RawChannel, headers_of

TYPES = pytest.mark.parametrize("kind", ["classic", "quorum"])


async def filled(channel: RawChannel, count: int, **options: object) -> None:
    """Declare q, and put so many messages into it."""
    await channel.queue("q", **options)
    for number in range(count):
        channel.put("q", b"%d" % number)
    await eventually(lambda: len(channel.confirms) == count)


def texts(contents: list[Content]) -> str:
    """The bodies, in their order."""
    return b" ".join(content.body for content in contents).decode()


@TYPES
async def test_ack(channel: RawChannel, place: Place, kind: str) -> None:
    await filled(channel, 3, x_queue_type=kind)
    await channel.consume("q")
    for content in await channel.taken(3):
        channel.ack(content)
    await channel.close()
    await eventually(lambda: channel.closed)
    assert await place.depth("q") == 0


@TYPES
async def test_ack_of_several(connection: Raw, channel: RawChannel, kind: str) -> None:
    await filled(channel, 5, x_queue_type=kind)
    consumer = await connection.channel()
    await consumer.consume("q")
    contents = await consumer.taken(5)
    consumer.ack(contents[2], multiple=True)
    await consumer.close()
    await channel.consume("q")
    assert texts(await channel.taken(2)) == "3 4"


@TYPES
@pytest.mark.parametrize("how", ["nack", "reject", "nack all", "close", "connection"])
async def test_what_comes_back_is_marked(
    connection: Raw, channel: RawChannel, kind: str, how: str
) -> None:
    await filled(channel, 1, x_queue_type=kind)
    consumer = await connection.channel()
    await consumer.consume("q")
    marks = []
    for _ in range(3):
        (content,) = await consumer.taken(1)
        marks.append(content.redelivered)
        if how == "nack":
            consumer.nack(content, requeue=True)
        elif how == "reject":
            consumer.reject(content, requeue=True)
        elif how == "nack all":
            consumer.nack(Content(0, False, b""), requeue=True, multiple=True)
        else:
            await consumer.close()
            consumer = await connection.channel()
            await consumer.consume("q")
    (content,) = await consumer.taken(1)
    assert marks == [False, True, True]
    assert content.redelivered
    # From RabbitMQ 4.3 on, what a Basic.Nack gives back is not counted so.
    counted = headers_of(content).get("x-delivery-count")
    assert counted == (
        3 if kind == "quorum" and how in ("reject", "close", "connection") else None
    ) or (kind == "quorum" and how.startswith("nack"))


@TYPES
async def test_a_channel_that_ends_gives_back_in_order(
    connection: Raw, channel: RawChannel, kind: str
) -> None:
    await filled(channel, 6, x_queue_type=kind)
    consumer = await connection.channel()
    await consumer.consume("q", prefetch=3)
    assert texts(await consumer.taken(3)) == "0 1 2"
    await consumer.close()
    await channel.consume("q")
    contents = await channel.taken(6)
    assert texts(contents) == "0 1 2 3 4 5"
    assert [content.redelivered for content in contents] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("backwards", [False, True])
async def test_nacked_messages_go_where_they_stood(
    connection: Raw, channel: RawChannel, backwards: bool
) -> None:
    await filled(channel, 6)
    consumer = await connection.channel()
    await consumer.consume("q", prefetch=3)
    contents = await consumer.taken(3)
    consumer.cancel("q")
    await eventually(lambda: consumer.cancelled is False)
    for content in reversed(contents) if backwards else contents:
        consumer.nack(content, requeue=True)
    await channel.consume("q")
    assert texts(await channel.taken(6)) == "0 1 2 3 4 5"


@TYPES
@pytest.mark.parametrize("how", ["ack", "nack", "reject", "ack up to", "twice", "zero"])
async def test_an_unknown_tag(channel: RawChannel, kind: str, how: str) -> None:
    await filled(channel, 1, x_queue_type=kind)
    await channel.consume("q")
    (content,) = await channel.taken(1)
    unknown = Content(7, False, b"")
    tag = 7
    if how == "ack":
        channel.ack(unknown)
    elif how == "nack":
        channel.nack(unknown, requeue=True)
    elif how == "reject":
        channel.reject(unknown, requeue=False)
    elif how == "ack up to":
        channel.ack(unknown, multiple=True)
    elif how == "twice":
        channel.ack(content)
        channel.ack(content)
        tag = 1
    else:
        channel.ack(Content(0, False, b""))
        tag = 0
    await eventually(lambda: channel.closed)
    assert channel.closed is not None
    assert (channel.closed.code, channel.closed.text) == (
        406, f"PRECONDITION_FAILED - unknown delivery tag {tag}",
    )  # fmt: skip


@TYPES
async def test_ack_up_to_one_that_was_settled_before(channel: RawChannel, kind: str) -> None:
    await filled(channel, 3, x_queue_type=kind)
    await channel.consume("q")
    contents = await channel.taken(3)
    channel.ack(contents[1])
    channel.ack(contents[1], multiple=True)
    await eventually(lambda: channel.closed)
    assert channel.closed is not None
    assert channel.closed.text == "PRECONDITION_FAILED - unknown delivery tag 2"


@TYPES
async def test_nothing_to_settle(channel: RawChannel, place: Place, kind: str) -> None:
    await filled(channel, 0, x_queue_type=kind)
    await channel.consume("q")
    channel.ack(Content(0, False, b""), multiple=True)
    channel.nack(Content(0, False, b""), requeue=True, multiple=True)
    assert await channel.publish("q", b"x")
    assert await channel.bodies(1) == [b"x"]
    assert channel.closed is None


async def test_what_needs_no_ack_cannot_be_acknowledged(channel: RawChannel, place: Place) -> None:
    await filled(channel, 2)
    await channel.consume("q", no_ack=True)
    contents = await channel.taken(2)
    assert await place.depth("q") == 0
    channel.ack(contents[0])
    await eventually(lambda: channel.closed)
    assert await place.depth("q") == 0


@TYPES
@pytest.mark.parametrize("prefetch", [1, 3])
async def test_prefetch(channel: RawChannel, place: Place, kind: str, prefetch: int) -> None:
    await filled(channel, 5, x_queue_type=kind)
    await channel.consume("q", prefetch=prefetch)
    seen = 0
    while seen < 5:
        contents = await channel.taken(min(prefetch, 5 - seen))
        assert not channel.contents
        seen += len(contents)
        assert await place.depth("q") == 5 - seen
        channel.ack(contents[-1], multiple=True)


async def test_consumers_take_turns(connection: Raw, channel: RawChannel) -> None:
    await channel.queue("q")
    consumers = [await connection.channel() for _ in range(3)]
    for consumer in consumers:
        await consumer.consume("q")
    for number in range(9):
        channel.put("q", b"%d" % number)
    await eventually(lambda: sum(len(each.contents) for each in consumers) == 9)
    assert [texts(each.contents) for each in consumers] == ["0 3 6", "1 4 7", "2 5 8"]


async def test_a_new_consumer_gets_what_waits(connection: Raw, channel: RawChannel) -> None:
    await filled(channel, 9)
    consumers = [await connection.channel() for _ in range(3)]
    for consumer in consumers:
        await consumer.consume("q", prefetch=2)
    await eventually(lambda: sum(len(each.contents) for each in consumers) == 6)
    assert [texts(each.contents) for each in consumers] == ["0 1", "2 3", "4 5"]


@TYPES
async def test_who_had_no_room_waits_behind_the_others(
    connection: Raw, channel: RawChannel, kind: str
) -> None:
    await channel.queue("q", x_queue_type=kind)
    narrow, wide = await connection.channel(), await connection.channel()
    await narrow.consume("q", prefetch=1)
    await wide.consume("q", prefetch=9)
    for number in range(3):
        await channel.publish("q", b"%d" % number)
    await eventually(lambda: len(wide.contents) == 2)
    narrow.ack(narrow.contents[0])
    await channel.publish("q", b"3")
    await eventually(lambda: len(narrow.contents) + len(wide.contents) == 4)
    assert narrow.contents[0].body == b"0"


async def test_after_cancel(channel: RawChannel, place: Place) -> None:
    await filled(channel, 3)
    await channel.consume("q", prefetch=1)
    (first,) = await channel.taken(1)
    channel.cancel("q")
    await eventually(lambda: channel.cancelled is False)
    await becomes(lambda: place.consumers("q"), 0)
    channel.ack(first)
    assert await channel.publish("q", b"3")
    assert await place.depth("q") == 3
    assert not channel.contents
    assert channel.closed is None


@TYPES
async def test_one_active_consumer(connection: Raw, channel: RawChannel, kind: str) -> None:
    await channel.queue("q", x_single_active_consumer=True, x_queue_type=kind)
    consumers = [await connection.channel() for _ in range(3)]
    for consumer in consumers:
        await consumer.consume("q", prefetch=2)
    for number in range(4):
        await channel.publish("q", b"%d" % number)
    await eventually(lambda: len(consumers[0].contents) == 2)
    assert [len(each.contents) for each in consumers] == [2, 0, 0]
    await consumers[0].close()
    await eventually(lambda: len(consumers[1].contents) == 2)
    assert texts(consumers[1].contents) == "0 1"
    assert all(content.redelivered for content in consumers[1].contents)
    consumers[1].ack(consumers[1].contents[1], multiple=True)
    await eventually(lambda: len(consumers[1].contents) == 4)
    assert texts(consumers[1].contents) == "0 1 2 3"
    assert not consumers[2].contents


async def test_an_auto_delete_queue_goes_with_its_last_consumer(
    connection: Raw, channel: RawChannel, place: Place
) -> None:
    await channel.queue("q", auto_delete=True)
    assert await place.exists("q")
    first, second = await connection.channel(), await connection.channel()
    await first.consume("q")
    await second.consume("q")
    first.cancel("q")
    await eventually(lambda: first.cancelled is False)
    assert await place.exists("q")
    await second.close()
    await becomes(lambda: place.exists("q"), False)


async def test_a_queue_is_deleted_under_its_consumers(
    connection: Raw, channel: RawChannel, place: Place
) -> None:
    await filled(channel, 1)
    consumers = [await connection.channel() for _ in range(2)]
    for consumer in consumers:
        await consumer.consume("q")
    await eventually(lambda: consumers[0].contents)
    await place.delete_queue("q")
    await eventually(lambda: all(each.cancelled for each in consumers))
    assert await channel.publish("q", b"", mandatory=True)
    (returned,) = await channel.taken(1)
    assert returned.reply_text == "NO_ROUTE"
    consumers[0].ack(consumers[0].contents[0])
    await channel.queue("q")
    assert await place.depth("q") == 0
    assert consumers[0].closed is None


async def test_purge_leaves_what_is_in_hand(channel: RawChannel, place: Place) -> None:
    await filled(channel, 5)
    await channel.consume("q", prefetch=2)
    contents = await channel.taken(2)
    assert await place.purge("q") == 3
    channel.nack(contents[1], requeue=True)
    assert await channel.bodies(1) == [b"1"]
    assert await place.depth("q") == 0
