"""A connection: frames as they are written, and what comes back, turn by turn of the loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import ConnectionLostError
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.channel import ChannelPort
from nuropb_rmq.amqp.frames import Content, Properties
from nuropb_rmq.memory.errors import ChannelError
from nuropb_rmq.memory.host import held, virtual_host
from nuropb_rmq.memory.router import MemoryRouter


class Listener:
    """Listener of a channel that keeps all events."""

    port: ChannelPort

    def __init__(self) -> None:
        self.contents: list[Content] = []
        self.events: list[Any] = []

    def on_content(self, content: Content) -> None:
        self.contents.append(content)

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        self.events.append(("confirm", tag, multiple, acked))

    def on_cancelled(self, by_broker: bool) -> None:
        self.events.append(("cancelled", by_broker))

    def on_writable(self) -> None:
        self.events.append("writable")

    def on_unsent(self, count: int) -> None:
        self.events.append(("unsent", count))

    def on_closed(self, reason: ConnectionLostError) -> None:
        self.events.append(("closed", reason.code))


class Connected:
    """A connection to a broker of its own, with a queue `q`."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.router = MemoryRouter(
            virtual_host("router"), lambda lost: self.lost.append(str(lost)), holds=True
        )
        self.host = self.router.host
        self.declare("q")

    def declare(self, name: str, *, exclusive: bool = False, **arguments: Any) -> None:
        """Declare a queue."""
        declared = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.host.declare_queue(
            name, durable=True, auto_delete=False, arguments=declared, exclusive=exclusive,
            owner=self.router,
        )  # fmt: skip

    def channel(self, *, consume: str = "", max_body: int = 10**6, **options: Any) -> Listener:
        """A channel, which may consume."""
        listener, number = Listener(), self.router.new_number()
        listener.port = self.router.register(number, listener, max_body=max_body)
        if consume:
            options = {"prefetch": 0, "no_ack": False, **options}
            self.router.consume(number, consume, **options)
        return listener


def put(channel: Listener, key: str, body: bytes = b"", exchange: str = "", **more: Any) -> None:
    """Write a message."""
    method = frames.publish_method(exchange, key, mandatory=more.pop("mandatory", False))
    properties = frames.encode_properties(Properties(**more))
    port = channel.port
    port.write(frames.pack_content(port.number, method, properties, body, port.frame_max))


async def turn() -> None:
    """Let the broker take what was written."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.fixture
async def broker() -> Any:
    made = Connected()
    yield made
    made.router.abort("the test is over")
    assert made.lost == ["the test is over"]


async def test_nothing_happens_within_write(broker: Connected) -> None:
    publisher, consumer = broker.channel(), broker.channel(consume="q")
    put(publisher, "q", b"a")
    assert (consumer.contents, publisher.events) == ([], [])
    await turn()
    assert [each.body for each in consumer.contents] == [b"a"]
    assert publisher.events == [("confirm", 1, True, True)]


async def test_one_confirm_for_many(broker: Connected) -> None:
    publisher = broker.channel()
    for _ in range(5):
        put(publisher, "q")
    await turn()
    assert publisher.events == [("confirm", 5, True, True)]
    assert len(broker.host.queues["q"]) == 5


async def test_a_refusal_is_confirmed_singly(broker: Connected) -> None:
    broker.declare("full", x_max_length=1, x_overflow="reject-publish")
    publisher = broker.channel()
    for key in ("full", "full", "q"):
        put(publisher, key)
    await turn()
    assert publisher.events == [("confirm", 2, False, False), ("confirm", 3, True, True)]


async def test_what_is_called_before_the_flush_may_write(broker: Connected) -> None:
    publisher = broker.channel()
    publisher.port.at_flush(lambda: put(publisher, "q", b"a"))
    await turn()
    assert len(broker.host.queues["q"]) == 1


async def test_a_return_comes_before_its_confirm(broker: Connected) -> None:
    publisher = broker.channel()
    put(publisher, "nobody", b"a", mandatory=True, correlation_id="c")
    await turn()
    (returned,) = publisher.contents
    assert (returned.reply_code, returned.reply_text, returned.exchange, returned.routing_key) == (
        312, "NO_ROUTE", "", "nobody",
    )  # fmt: skip
    assert publisher.events == [("confirm", 1, True, True)]


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 400_000])
async def test_a_body_of_any_size(broker: Connected, size: int) -> None:
    publisher, consumer = broker.channel(), broker.channel(consume="q")
    put(publisher, "q", b"x" * size, correlation_id="c")
    await turn()
    (content,) = consumer.contents
    assert (content.body_size, len(content.body)) == (size, size)
    assert frames.decode_properties(content.raw_properties).correlation_id == "c"


async def test_a_body_over_the_limit_comes_without_it(broker: Connected) -> None:
    publisher, consumer = broker.channel(), broker.channel(consume="q", max_body=3)
    put(publisher, "q", b"four")
    await turn()
    assert (consumer.contents[0].body_size, consumer.contents[0].body) == (4, b"")


async def test_a_missing_exchange_costs_its_channel_only(broker: Connected) -> None:
    publisher, other = broker.channel(), broker.channel()
    put(publisher, "q", b"before")
    put(publisher, "k", exchange="nowhere")
    put(publisher, "q", b"behind")
    put(other, "q", b"other")
    await turn()
    assert publisher.events == [("closed", 404)]
    assert other.events == [("confirm", 1, True, True)]
    assert [each.body for each in broker.host.queues["q"]] == [b"before", b"other"]
    with pytest.raises(ConnectionLostError):
        publisher.port.write(b"")


@pytest.mark.parametrize(
    ("tag", "multiple", "unknown"),
    [
        (1, False, None),
        (3, True, None),
        (0, True, None),
        (0, False, 0),
        (4, False, 4),
        (4, True, 4),
    ],
)
@pytest.mark.parametrize("how", ["ack", "nack"])
async def test_tags(
    broker: Connected, how: str, tag: int, multiple: bool, unknown: int | None
) -> None:
    publisher, consumer = broker.channel(), broker.channel(consume="q")
    for body in (b"1", b"2", b"3"):
        put(publisher, "q", body)
    await turn()
    number = consumer.port.number
    if how == "ack":
        consumer.port.write(frames.pack_ack(number, tag, multiple=multiple))
    else:
        consumer.port.write(frames.pack_nack(number, tag, requeue=False, multiple=multiple))
    await turn()
    closed = [("closed", 406)] if unknown is not None else []
    assert consumer.events == closed
    left = 3 if unknown is not None else (2 if tag == 1 else 0)
    assert len(broker.host.queues["q"]) == (left if closed else 0)
    consumer.port.unregister("done")
    assert len(broker.host.queues["q"]) == left


async def test_what_comes_back_is_delivered_anew(broker: Connected) -> None:
    publisher, consumer = broker.channel(), broker.channel(consume="q", prefetch=1)
    for body in (b"1", b"2"):
        put(publisher, "q", body)
    await turn()
    consumer.port.write(frames.pack_reject(consumer.port.number, 1, requeue=True))
    await turn()
    assert [(each.tag, each.body, each.redelivered) for each in consumer.contents] == [
        (1, b"1", False), (2, b"1", True),
    ]  # fmt: skip


async def test_no_ack(broker: Connected) -> None:
    publisher, consumer = broker.channel(), broker.channel(consume="q", no_ack=True, prefetch=1)
    for body in (b"1", b"2"):
        put(publisher, "q", body)
    await turn()
    consumer.port.unregister("done")
    assert (len(consumer.contents), len(broker.host.queues["q"])) == (2, 0)


async def test_cancel(broker: Connected) -> None:
    publisher, consumer = broker.channel(), broker.channel(consume="q", prefetch=1)
    for _ in range(2):
        put(publisher, "q")
    await turn()
    consumer.port.cancel("any tag")
    await turn()
    assert consumer.events == [("cancelled", False)]
    consumer.port.write(frames.pack_ack(consumer.port.number, 1))
    await turn()
    assert (len(consumer.contents), len(broker.host.queues["q"])) == (1, 1)


async def test_a_queue_is_deleted_under_its_consumer(broker: Connected) -> None:
    publisher, consumer = broker.channel(), broker.channel(consume="q")
    put(publisher, "q")
    await turn()
    broker.host.delete_queue(broker.host.queues["q"])
    assert consumer.events == [("cancelled", True)]
    consumer.port.write(frames.pack_ack(consumer.port.number, 1))
    await turn()
    assert consumer.events == [("cancelled", True)]


async def test_what_was_written_is_taken_before_the_end(broker: Connected) -> None:
    publisher = broker.channel()
    put(publisher, "q")
    publisher.port.unregister("done")
    assert publisher.events == [("confirm", 1, True, True), ("closed", 0)]
    assert len(broker.host.queues["q"]) == 1


async def test_consuming_what_is_missing(broker: Connected) -> None:
    with pytest.raises(ChannelError, match="no queue 'nowhere'"):
        broker.channel(consume="nowhere")


async def test_the_end_of_the_connection() -> None:
    """Messages that one of its channels gives back go to none of the others."""
    broker = Connected()
    broker.declare("own", exclusive=True)
    publisher = broker.channel()
    consumers = [broker.channel(consume="q", prefetch=1) for _ in range(2)]
    for _ in range(3):
        put(publisher, "q")
    await turn()
    queues = broker.host.queues
    queue = queues["q"]
    broker.router.abort("over")
    broker.router.abort("once more")
    assert broker.lost == ["over"]
    assert [len(each.contents) for each in consumers] == [1, 1]
    assert all(each.events[-1] == ("closed", 0) for each in (publisher, *consumers))
    assert [each.redelivered for each in queue] == [True, True, False]
    assert queues.keys() == {"q"}
    for request in (
        broker.router.new_number,
        lambda: broker.router.register(9, Listener(), max_body=1),
    ):
        with pytest.raises(ConnectionLostError, match="over"):
            request()


async def test_a_delivery_that_ends_a_channel(broker: Connected) -> None:
    """Frames that were written behind it are taken in their order."""
    publisher, other = broker.channel(), broker.channel()
    consumer = broker.channel(consume="q", prefetch=1)

    def end(_: Content) -> None:
        put(other, "q", b"3")
        consumer.port.unregister("enough")

    consumer.on_content = end  # type: ignore[method-assign,assignment]
    for body in (b"1", b"2"):
        put(publisher, "q", body)
    await turn()
    assert [each.body for each in broker.host.queues["q"]] == [b"1", b"2", b"3"]
    assert [each[:1] for each in publisher.events] == [("confirm",)] * len(publisher.events)
    assert publisher.events[-1] == ("confirm", 2, True, True)


def test_a_loop_that_is_closed_under_its_connections() -> None:
    """Messages that they had not settled go to the consumers of the next loop."""

    async def first() -> Listener:
        broker = Connected()
        consumers = [broker.channel(consume="q", prefetch=1) for _ in range(2)]
        publisher = broker.channel()
        for body in (b"1", b"2", b"3"):
            put(publisher, "q", body)
        await turn()
        return consumers[0]

    async def second() -> list[tuple[bytes, bool]]:
        broker = Connected()
        consumer = broker.channel(consume="q")
        broker.router.abort("over")
        return [(each.body, each.redelivered) for each in consumer.contents]

    with held("router"):
        loop = asyncio.new_event_loop()
        consumer = loop.run_until_complete(first())
        loop.close()
        assert asyncio.run(second()) == [(b"1", True), (b"2", True), (b"3", False)]
        assert len(consumer.contents) == 1
        assert consumer.events == []
