"""One channel of the publisher: what was written to it, its confirms and returns."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Protocol

from ..exceptions import (
    AMQPProtocolError,
    ConnectionLostError,
    NuropbNotDeliveredError,
    NuropbSerializationError,
    NuropbTimeoutError,
    NuropbTransportError,
    PublishNackedError,
)
from . import frames
from .channel import ChannelPort
from .frames import Content
from .outgoing import WRITTEN, Outgoing

logger = logging.getLogger("nuropb_rmq.amqp")

HEADER_OVERHEAD = 8 + 12
"""Bytes of a header frame beside its properties (AMQP 0-9-1, 4.2.6.1)."""

PER_MESSAGE = 1024
"""Bytes, about, that a message costs us beside its own while it is not confirmed."""


_NACKED = (
    "the broker refused the message (Basic.Nack): a queue is full, or not to be had; of several "
    "queues that take it, others may have got it"
)


class Owner(Protocol):
    """The part of `Publisher` that its channel uses."""

    def pump(self) -> None:
        """There is room: write what waits."""

    def confirmed(self) -> None:
        """A confirm settled something: there is room for more."""

    def tries_again(self, message: Outgoing) -> bool:
        """Return whether a message that was refused is written once more, after a pause."""

    def retire(self, channel: PublisherChannel) -> asyncio.TimerHandle:
        """Write nothing more to this channel, and end it in a while."""

    def take_back(self, messages: Sequence[Outgoing]) -> None:
        """These, in their order, never left."""

    def detach(self, channel: PublisherChannel, reason: ConnectionLostError) -> None:
        """The channel ended."""


class PublisherChannel:
    """One epoch of publishing: the delivery tags of one channel, and what they stand for.

    `room` is how many bytes more may be written before some are confirmed: a broker that reads, and
    confirms nothing, would else have us remember all of it.
    """

    __slots__ = (
        "_id_start", "_on_end", "_prefix", "_publisher", "_retirement", "_suspect_from", "_tag",
        "port", "room", "unconfirmed",
    )  # fmt: skip

    port: ChannelPort

    def __init__(
        self,
        publisher: Owner,
        on_end: Callable[[ConnectionLostError], None],
        *,
        room: int,
        suspect_from: float,
    ) -> None:
        self.room = room
        self._publisher = publisher
        self._on_end = on_end
        self._suspect_from = suspect_from
        self._retirement: asyncio.TimerHandle | None = None
        self._prefix = os.urandom(8).hex().encode() + b"-"
        self._id_start = b"%c%b" % (len(self._prefix) + 12, self._prefix)
        """How a message id is packed, up to the delivery tag in twelve hexadecimal digits."""
        self._tag = 0
        self.unconfirmed: dict[int, Outgoing] = {}

    def send(self, message: Outgoing) -> None:
        """Pack and write; the message id carries the delivery tag, for a Basic.Return has none."""
        if message.waits_since and message.expired():
            message.finish(NuropbTimeoutError("never sent: it expired while it waited"))
            return
        port = self.port
        frame_max = port.frame_max
        tag = self._tag + 1
        properties = b"%b%b%012x" % (message.properties, self._id_start, tag)
        if len(properties) + HEADER_OVERHEAD > frame_max:
            # The header frame cannot be split; a larger one would cost the connection (501).
            message.finish(
                NuropbSerializationError(
                    f"headers and properties of {len(properties)} bytes do not fit into one frame "
                    f"of {frame_max} bytes: is the trace_id that long?"
                )
            )
            return
        try:
            port.write(
                frames.pack_content(
                    port.number, message.method, properties, message.body, frame_max
                )
            )
        except Exception as e:  # noqa: BLE001 - nothing of it was written, and others wait behind it
            problem = f"never sent: it could not be written: {type(e).__name__}"
            message.finish(NuropbTransportError(problem, None, e))
            return
        self._tag = tag
        self.room -= message.size + PER_MESSAGE
        message.stage = WRITTEN
        self.unconfirmed[tag] = message

    def on_content(self, content: Content) -> None:
        """Basic.Return: the broker has no queue for this message. Its Ack follows."""
        try:
            message_id = frames.decode_properties(content.raw_properties).message_id or ""
            prefix, _, tag = message_id.encode().rpartition(b"-")
            message = self.unconfirmed[int(tag, 16)] if prefix + b"-" == self._prefix else None
        except (AMQPProtocolError, ValueError, KeyError):
            message = None
        if message is None:
            logger.warning("a message was returned that this channel did not publish")
            return
        message.finish(
            NuropbNotDeliveredError(
                f"no queue takes it: exchange {content.exchange!r}, routing key "
                f"{content.routing_key!r} ({content.reply_code} {content.reply_text}); "
                "is the service's name right, and was it ever started here?"
            )
        )

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Basic.Ack or Basic.Nack (https://www.rabbitmq.com/docs/confirms)."""
        unconfirmed = self.unconfirmed
        error = None if acked else PublishNackedError(_NACKED)
        tags: Iterable[int] = (tag,)
        if multiple:  # tags are in their order; 0 stands for all
            tags = tuple(takewhile(tag.__ge__, unconfirmed) if tag else unconfirmed)
        for each in tags:
            message = unconfirmed.pop(each, None)
            if message is not None:
                self.room += message.size + PER_MESSAGE
                if error is None or not self._publisher.tries_again(message):
                    message.finish(error)
        if error is not None or self._retirement is not None:
            self._doubt()
        self._publisher.confirmed()

    def _doubt(self) -> None:
        """Retire the channel after a refusal, for the channel itself may be the cause.

        When the node of a quorum queue's leader goes down, RabbitMQ 3.10 refuses whatever an open
        channel publishes to that queue, for as long as the channel lives, even when there is a new
        leader. Only another channel helps, once this one has confirmed all.
        """
        if self._retirement is None and self._suspect_from < time.monotonic():
            self._retirement = self._publisher.retire(self)
        if self._retirement is not None and not self.unconfirmed:
            self.end()

    def end(self) -> None:
        """End this channel, so that another one follows it."""
        problem = "the broker refused messages of this channel (Basic.Nack)"
        self._on_end(ConnectionLostError(problem))

    def on_cancelled(self, by_broker: bool) -> None:
        """There is no consumer here."""

    def on_writable(self) -> None:
        """There is room again."""
        self._publisher.pump()

    def on_unsent(self, count: int) -> None:
        """The last so many never left."""
        newest_first = [self.unconfirmed.popitem()[1] for _ in range(count)]
        self._publisher.take_back(newest_first[::-1])

    def on_closed(self, reason: ConnectionLostError) -> None:
        """The channel ended."""
        if self._retirement is not None:
            self._retirement.cancel()
        self._publisher.detach(self, reason)
        self._on_end(reason)
