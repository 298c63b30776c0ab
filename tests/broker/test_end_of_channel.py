"""Channels that the broker closes under full load: the connection lives, every outcome is typed."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import pytest
from aio_pika import Channel
from aio_pika.abc import AbstractQueue

from nuropb_rmq import MessageType, NuropbOutcomeUnknownError, TransportConfig
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.channel import ChannelPort
from nuropb_rmq.amqp.consumer import Consumer
from nuropb_rmq.amqp.frames import Content
from nuropb_rmq.amqp.outgoing import Outgoing
from nuropb_rmq.amqp.publisher import Publisher
from nuropb_rmq.amqp.settlement import Settlement
from nuropb_rmq.broker.connection import BrokerConnection
from nuropb_rmq.exceptions import ConnectionLostError, NuropbException
from nuropb_rmq.protocol import writer
from nuropb_rmq.testing import RabbitMQNode

from ..support import LOG, eventually

ROUNDS = 50
IN_FLIGHT = 200
NO_SUCH_TAG = 10**6
PROPERTIES = writer.pack_properties(kind=MessageType.COMMAND, correlation_id="c-1", trace_id=None)


class Received:
    """Takes every delivery, and settles none by itself."""

    def __init__(self) -> None:
        self.contents: list[Content] = []

    def receive(self, consumer: Consumer, content: Content) -> None:
        """Keep it."""
        self.contents.append(content)

    def take_again(self, consumer: Consumer, content: Content) -> bool:
        """Take it for another one."""
        return False


class Bench:
    """One connection; on it, round after round, a publishing and a consuming channel."""

    def __init__(self, connection: BrokerConnection) -> None:
        self.connection = connection
        self.publisher = Publisher(max_messages=100_000, max_bytes=2**30)
        self.outcomes: Counter[str] = Counter()
        self.published = 0
        self.queue: AbstractQueue

    async def open(self) -> None:
        """Connect, and make the queue: it belongs to this connection, and would die with it."""
        await self.connection.open()
        channel = Channel(self.connection)
        await channel.initialize()
        self.queue = await channel.declare_queue(exclusive=True)

    def publish(self, exchange: str = "", tag: int = 0) -> None:
        """One message to the queue, or to an exchange that is missing."""
        self.published += 1
        method = writer.publish_method(exchange, self.queue.name, True)
        self.publisher.publish(Outgoing(method, PROPERTIES, b"{}" * (tag % 50)), self._done)

    def _done(self, error: NuropbException | None) -> None:
        self.outcomes["confirmed" if error is None else type(error).__name__] += 1

    async def publishing_channel(self) -> Ended:
        """Open it, and let the publisher use it."""
        channel = Channel(self.connection, publisher_confirms=True)
        await channel.initialize()
        ended = Ended(channel)
        listener = self.publisher.channel(ended.by, LOG)
        ended.port = listener.port = self.connection.router.register(ended.number, listener)
        self.publisher.attach(listener)
        return ended

    async def consuming_channel(self) -> tuple[Ended, Consumer, list[Content]]:
        """Open it, and consume what the queue holds."""
        channel = Channel(self.connection, publisher_confirms=False)
        await channel.initialize()
        ended, received = Ended(channel), Received()
        consumer = Consumer(self.queue.name, received, ended.by, LOG, acks=True)
        ended.port = self.connection.router.register(ended.number, consumer)
        consumer.start(ended.port)
        queue = await channel.get_queue(self.queue.name, ensure=False)
        await queue.consume(_never, no_ack=False, consumer_tag=consumer.tag)
        return ended, consumer, received.contents


class Ended:
    """A channel, and how it ended."""

    port: ChannelPort

    def __init__(self, channel: Channel) -> None:
        assert channel.number is not None
        self.number = channel.number
        self.channel = channel
        self.reason: asyncio.Future[ConnectionLostError] = (
            asyncio.get_running_loop().create_future()
        )

    def by(self, reason: ConnectionLostError) -> None:
        """It ended by this."""
        assert not self.reason.done()
        self.reason.set_result(reason)


async def _never(_: object) -> None:
    raise AssertionError("a delivery reached aiormq")


async def _round(bench: Bench, number: int) -> tuple[ConnectionLostError, ConnectionLostError]:
    """Publish and acknowledge at full speed, break both channels in the midst, and go on."""
    await bench.queue.purge()
    publishing = await bench.publishing_channel()
    for _ in range(IN_FLIGHT):
        bench.publish()
    await bench.publisher.flushed()
    consuming, consumer, contents = await bench.consuming_channel()
    await eventually(lambda: len(contents) >= IN_FLIGHT)

    poison = number * 37 % IN_FLIGHT  # another place in each round
    for step in range(IN_FLIGHT):
        if step == poison:
            if number % 2:
                bench.publish("no-such-exchange")
            else:
                publishing.port.write(frames.pack_ack(publishing.number, NO_SUCH_TAG))
            consuming.port.write(frames.pack_ack(consuming.number, NO_SUCH_TAG))
        bench.publish(tag=step)
        consumer.settle(contents[step], Settlement.ACK)
        if step % 16 == number % 16:
            await asyncio.sleep(0)
    while not (publishing.reason.done() and consuming.reason.done()):
        bench.publish()
        if consuming.port.open:
            consuming.port.write(frames.pack_nack(consuming.number, NO_SUCH_TAG, requeue=True))
        await asyncio.sleep(0)
    assert not consumer.settle(contents[0], Settlement.ACK)
    await asyncio.wait_for(consumer.task, 5)
    await eventually(lambda: publishing.channel.is_closed and consuming.channel.is_closed)
    return publishing.reason.result(), consuming.reason.result()


async def test_channels_end_under_load_and_the_connection_lives(
    mesh_url: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    node = _node(request)
    log_before = node.log_text() if node else ""
    lost: list[ConnectionLostError] = []
    connection = BrokerConnection(
        TransportConfig(amqp_url=mesh_url, service_name="orders"),
        purpose="end of channel",
        instance_id="i-1",
        on_blocked=lambda _: None,
        on_lost=lost.append,
    )
    bench = Bench(connection)
    try:
        async with asyncio.timeout(60):
            await bench.open()
            router = connection.router
            name = await _name_at_the_broker(node, mesh_url)
            for number in range(ROUNDS):
                publishing, consuming = await _round(bench, number)
                assert publishing.code == (404 if number % 2 else 406), publishing
                assert consuming.code == 406, consuming
                assert lost == []
            await bench.publishing_channel()
            await bench.publisher.flushed()
            assert connection.router is router
            assert router.lost is None
            assert await _name_at_the_broker(node, mesh_url) == name
    finally:
        await connection.shut()
    assert set(bench.outcomes) == {"confirmed", NuropbOutcomeUnknownError.__name__}
    assert bench.outcomes.total() == bench.published
    assert bench.outcomes["confirmed"] >= ROUNDS * IN_FLIGHT
    assert bench.outcomes[NuropbOutcomeUnknownError.__name__] >= ROUNDS
    content = ("Basic.Deliver", "Basic.Return", "ContentHeader", "ContentBody", "Basic.Ack")
    assert not [each for each in caplog.messages if any(name in each for name in content)]
    if node:
        await _no_connection_error(node, log_before)


def _node(request: pytest.FixtureRequest) -> RabbitMQNode | None:
    if os.environ.get("NUROPB_RMQ_TEST_URL"):
        return None  # a broker of someone else's: what it logs is out of reach
    node: RabbitMQNode = request.getfixturevalue("rabbitmq_node")
    return node


async def _name_at_the_broker(node: RabbitMQNode | None, url: str) -> str:
    """The broker's name of the one connection in this virtual host: it has our port in it."""
    if node is None:
        return ""
    path = f"/api/vhosts{urlsplit(url).path}/connections"
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while len(found) != 1 or "name" not in found[0]:  # listed within a few seconds
            found = await asyncio.to_thread(node.api, "GET", path)
            await asyncio.sleep(0.1)
    return str(found[0]["name"])


async def _no_connection_error(node: RabbitMQNode, before: str) -> None:
    """The broker has logged what we provoked, and nothing that ends a connection."""

    def new(words: str) -> int:
        return node.log_text().count(words) - before.count(words)

    await eventually(lambda: new("unknown delivery tag") >= ROUNDS)
    for words in (
        "caused a connection exception",
        "unexpected_frame",
        "UNEXPECTED_FRAME",
        "CHANNEL_ERROR",
        "closed abruptly",
    ):
        assert new(words) <= 0, node.log_text()[-4000:]
