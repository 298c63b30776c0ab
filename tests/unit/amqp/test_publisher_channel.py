"""The publishing channel: when a message is written at once."""

from __future__ import annotations

import asyncio

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.channel import ChannelPort
from nuropb_rmq.amqp.outgoing import Outgoing
from nuropb_rmq.amqp.publisher import Publisher
from nuropb_rmq.exceptions import NuropbException
from nuropb_rmq.protocol import writer
from nuropb_rmq.protocol.constants import MessageType

from ...support import LOG
from .harness import Harness, tick

PROPERTIES = writer.pack_properties(MessageType.COMMAND, "c-1", trace_id="t-1")
METHOD = writer.publish_method("x", "q", True)


class Channel:
    """A publisher with its channel, on a router whose socket notes what is written."""

    def __init__(self) -> None:
        self.harness = Harness(1)
        publisher = self._publisher = Publisher(max_messages=9, max_bytes=99_999)
        self.listener = publisher.channel(lambda _: None, LOG)
        self.port: ChannelPort = self.harness.router.register(2, self.listener)
        self.listener.port = self.port
        publisher.attach(self.listener)
        self.outcomes: list[NuropbException | None] = []

    def publish(self) -> None:
        """One message."""
        message = Outgoing(METHOD, PROPERTIES, b"{}")
        self._publisher.publish(message, self.outcomes.append)

    def confirm(self) -> None:
        """All that was published."""
        self.listener.on_confirm(0, True, True)

    @property
    def writes(self) -> list[int]:
        """Numbers of messages in each write."""
        publish = frames.METHOD_ID.pack(frames.BASIC_PUBLISH)
        return [data.count(publish) for data in self.harness.writes]


async def test_one_message_at_a_time_is_written_at_once_from_the_second_on() -> None:
    channel = Channel()
    channel.publish()
    assert channel.writes == []
    await tick()
    for count in range(2, 5):
        channel.confirm()
        channel.publish()
        assert channel.writes == [1] * count
    channel.confirm()
    assert channel.outcomes == [None] * 4


async def test_several_of_one_turn_are_one_write() -> None:
    channel = Channel()
    for _ in range(3):
        channel.publish()
        channel.publish()
        await tick()
        channel.confirm()
    assert channel.writes == [2, 2, 2]


async def test_one_beside_an_unconfirmed_one_waits_for_the_turns_end() -> None:
    channel = Channel()
    for _ in range(2):
        channel.publish()
        await tick()
        channel.confirm()
    channel.publish()
    channel.publish()
    assert channel.writes == [1, 1, 1]
    await asyncio.sleep(0)
    assert channel.writes == [1, 1, 1, 1]
