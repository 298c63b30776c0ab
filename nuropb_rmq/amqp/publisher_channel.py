"""One channel of the publisher: its unconfirmed messages, its confirms and returns."""

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
    NuropbTransportError,
    PublishNackedError,
)
from ..safe_logging import ServiceLog
from . import frames
from .channel import ChannelPort
from .frames import Content
from .outgoing import WRITTEN, Outgoing

logger = logging.getLogger("nuropb_rmq.amqp")

HEADER_OVERHEAD = 8 + 12
"""Bytes of a header frame in addition to its properties (AMQP 0-9-1, 4.2.6.1)."""

PER_MESSAGE = 1024
"""Bytes of memory, about, that an unconfirmed message costs in addition to its own."""


_NACKED = (
    "the broker refused the message (Basic.Nack): a queue is full or unavailable; other queues "
    "that it is routed to may have got it"
)


class ChannelOwner(Protocol):
    """The part of `Publisher` that its channel uses."""

    def pump(self) -> None:
        """Write messages of the outbox while there is room."""

    def confirmed(self) -> None:
        """Use the room that a confirm has made."""

    def tries_again(self, message: Outgoing) -> bool:
        """Return whether a refused message is written once more, after a pause."""

    def retire(self, channel: PublisherChannel) -> asyncio.TimerHandle:
        """Write nothing more to this channel; return the timer that will end it."""

    def take_back(self, messages: Sequence[Outgoing]) -> None:
        """Put messages that never left back into the outbox, in order, before all others."""

    def detach(self, channel: PublisherChannel, reason: ConnectionLostError) -> None:
        """Settle or take back the unconfirmed messages of a channel that has ended."""


class PublisherChannel:
    """The delivery tags of one publishing channel, and the unconfirmed messages they stand for.

    `room` is the number of bytes that may be written before more are confirmed. It bounds our
    memory when a broker reads and confirms nothing.
    """

    __slots__ = (
        "_alone",
        "_id_start", "_log", "_on_end", "_prefix", "_publisher", "_retirement", "_suspect_from",
        "_tag", "port", "room", "unconfirmed",
    )  # fmt: skip

    port: ChannelPort

    def __init__(
        self,
        publisher: ChannelOwner,
        on_end: Callable[[ConnectionLostError], None],
        log: ServiceLog,
        *,
        room: int,
        suspect_from: float,
    ) -> None:
        self.room = room
        self._publisher = publisher
        self._on_end = on_end
        self._log = log.onto(logger)
        self._suspect_from = suspect_from
        # Ends the channel, once it is retired.
        self._retirement: asyncio.TimerHandle | None = None
        self._prefix = os.urandom(8).hex().encode() + b"-"
        # A packed message id up to the delivery tag, which is twelve hexadecimal digits.
        self._id_start = b"%c%b" % (len(self._prefix) + 12, self._prefix)
        self._tag = 0
        # The last message was sent while none was unconfirmed.
        self._alone = False
        self.unconfirmed: dict[int, Outgoing] = {}

    def send(self, message: Outgoing) -> None:
        """Write a message; its id carries the delivery tag, for a Basic.Return has none."""
        if message.waits_since and message.expired():
            message.finish(message.late("it expired while it waited"))
            return
        port = self.port
        frame_max = port.frame_max
        tag = self._tag + 1
        properties = b"%b%b%012x" % (message.properties, self._id_start, tag)
        if len(properties) + HEADER_OVERHEAD > frame_max:
            # The header frame cannot be split; a larger one would cost the connection (501).
            message.finish(
                NuropbSerializationError(
                    f"headers and properties: expected at most {frame_max - HEADER_OVERHEAD} bytes "
                    f"(one frame), got {len(properties)}: is the trace_id that long?"
                )
            )
            return
        was_alone, self._alone = self._alone, not self.unconfirmed
        # One message at a time: no other one will join it in this turn of the loop.
        write = port.write_now if was_alone and self._alone else port.write
        try:
            write(
                frames.pack_content(
                    port.number, message.method, properties, message.body, frame_max
                )
            )
        except Exception as e:  # noqa: BLE001 - nothing of it was written, and others wait
            problem = f"never sent: it could not be written: {type(e).__name__}"
            message.finish(NuropbTransportError(problem, None, e))
            return
        self._tag = tag
        self.room -= message.size + PER_MESSAGE
        message.stage = WRITTEN
        self.unconfirmed[tag] = message

    def on_content(self, content: Content) -> None:
        """Settle a returned message (Basic.Return): no queue takes it. Its Ack follows."""
        try:
            message_id = frames.decode_properties(content.raw_properties).message_id or ""
            prefix, _, tag = message_id.encode().rpartition(b"-")
            message = self.unconfirmed[int(tag, 16)] if prefix + b"-" == self._prefix else None
        except (AMQPProtocolError, ValueError, KeyError):
            message = None
        if message is None:
            self._log.warning("a message was returned that this channel did not publish")
            return
        message.finish(
            NuropbNotDeliveredError(
                f"no queue takes it: exchange {content.exchange!r}, routing key "
                f"{content.routing_key!r} ({content.reply_code} {content.reply_text}); "
                "is the service's name right, and was it ever started here?"
            )
        )

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Settle messages by Basic.Ack or Basic.Nack (https://www.rabbitmq.com/docs/confirms)."""
        unconfirmed = self.unconfirmed
        error = None if acked else PublishNackedError(_NACKED)
        tags: Iterable[int] = (tag,)
        if multiple:  # in order; 0 stands for all
            tags = tuple(takewhile(tag.__ge__, unconfirmed) if tag else unconfirmed)
        for confirmed in tags:
            message = unconfirmed.pop(confirmed, None)
            if message is not None:
                self.room += message.size + PER_MESSAGE
                if error is None or not self._publisher.tries_again(message):
                    message.finish(error)
        if error is not None or self._retirement is not None:
            self._doubt()
        self._publisher.confirmed()

    def _doubt(self) -> None:
        """Retire the channel after a refusal, for the channel itself may be the cause.

        When the node of a quorum queue's leader goes down, RabbitMQ 3.10 refuses all messages that
        an open channel publishes to that queue, for as long as the channel lives, even when there
        is a new leader. Only a new channel helps, once this one has no unconfirmed messages.
        """
        if self._retirement is None and self._suspect_from < time.monotonic():
            self._retirement = self._publisher.retire(self)
        if self._retirement is not None and not self.unconfirmed:
            self.end()

    def end(self) -> None:
        """End this channel; a new one follows."""
        problem = "the broker refused messages of this channel (Basic.Nack)"
        self._on_end(ConnectionLostError(problem))

    def on_cancelled(self, by_broker: bool) -> None:
        """Do nothing: this channel has no consumer."""

    def on_writable(self) -> None:
        """Write messages of the outbox."""
        self._publisher.pump()

    def on_unsent(self, count: int) -> None:
        """Give the last `count` messages, which were never written, back to the publisher."""
        newest_first = [self.unconfirmed.popitem()[1] for _ in range(count)]
        self._publisher.take_back(newest_first[::-1])

    def on_closed(self, reason: ConnectionLostError) -> None:
        """Hand the unconfirmed messages back to the publisher, and report the end."""
        if self._retirement is not None:
            self._retirement.cancel()
        self._publisher.detach(self, reason)
        self._on_end(reason)
