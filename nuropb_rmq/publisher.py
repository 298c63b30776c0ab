"""Confirmed, mandatory publishing with a bounded outbox.

A message leaves at once when the publishing channel is up and has room; otherwise it waits in the
outbox, in order, until there is a channel, or until its deadline. Every message that was written
is settled by the broker's confirm, or by the loss of its channel.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import takewhile

from .exceptions import (
    AMQPProtocolError,
    ConnectionLostError,
    NuropbException,
    NuropbNotDeliveredError,
    NuropbOutcomeUnknownError,
    NuropbSerializationError,
    NuropbTimeoutError,
    OutboxFullError,
    PublishNackedError,
)
from .outgoing import WAITING, WRITTEN, Outgoing
from .wire import frames
from .wire.frames import Content
from .wire.port import ChannelPort
from .wire.router import HIGH_WATER

logger = logging.getLogger(__name__)

HEADER_OVERHEAD = 8 + 12
"""Bytes of a header frame beside its properties (AMQP 0-9-1, 4.2.6.1)."""

RETIRED_WITHIN = 5.0
"""Seconds in which what a retired channel has written must be confirmed."""

PER_MESSAGE = 1024
"""Bytes, about, that a message costs us beside its own while it is not confirmed."""

_NOT_OUR_FAULT = (0, 320)
"""Reply codes of an end that no message of ours can have caused: none, CONNECTION_FORCED."""


class Publisher:
    """The outbox, and the publishing channel of the moment. It lives as long as its transport."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[Outgoing] = deque()
        self._bytes = 0
        self._channel: PublisherChannel | None = None
        self._retired: PublisherChannel | None = None
        self._idle: asyncio.Future[None] | None = None
        self._closed: NuropbException | None = None

    @property
    def waiting(self) -> int:
        """Messages in the outbox."""
        return len(self._outbox)

    @property
    def unconfirmed(self) -> int:
        """Messages that were written and not confirmed yet."""
        channels = self._channel, self._retired
        return sum(len(each.unconfirmed) for each in channels if each is not None)

    @property
    def overfull(self) -> bool:
        """More waits than may, for it was admitted elsewhere."""
        return len(self._outbox) > self._max_messages or self._bytes > self._max_bytes

    def publish(self, message: Outgoing, *, admitted: bool = False) -> None:
        """Write the message now, or as soon as there is a channel with room.

        Raises OutboxFullError when it would have to wait and there is no room to. That is not
        asked of a message that is `admitted`, for it has waited elsewhere within a bound, nor of
        one with `resend`, for their number is bounded by the prefetch count. Raises what `close`
        was given when the publisher is closed.
        """
        channel = self._channel
        if channel is not None and not self._outbox and channel.room > 0 and channel.port.writable:
            channel.send(message)
            return
        if self._closed is not None:
            raise self._closed
        if not (admitted or message.resend):
            self._check_room(message)
        self._outbox.append(message)
        self._waits(message)

    def _waits(self, message: Outgoing) -> None:
        message.stage = WAITING
        message.wait()
        self._bytes += message.size
        self._set_timer(message)

    def _set_timer(self, message: Outgoing) -> None:
        if message.deadline is not None and message.timer is None:
            message.timer = self._loop.call_at(message.deadline, self._expire, message)

    def _check_room(self, message: Outgoing) -> None:
        if len(self._outbox) >= self._max_messages:
            raise OutboxFullError(
                f"{len(self._outbox)} messages wait to be sent (outbox_messages); "
                "the broker is unreachable, blocked, or slower than its publishers"
            )
        if self._bytes + message.size > self._max_bytes:
            raise OutboxFullError(
                f"{self._bytes} bytes wait to be sent, {message.size} more exceed outbox_bytes"
            )

    def discard(self, message: Outgoing, error: NuropbException) -> None:
        """Settle a message that nobody waits for any more; it is not sent if it was not yet."""
        if message.stage is WAITING:
            self._outbox.remove(message)
            self._bytes -= message.size
            self._check_idle()
        message.finish(error)

    def _expire(self, message: Outgoing) -> None:
        message.timer = None
        if message.stage is WAITING:
            self.discard(
                message,
                NuropbTimeoutError("never sent: the broker took no messages until the deadline"),
            )
        else:
            message.finish(
                NuropbOutcomeUnknownError("written, but not confirmed until the deadline")
            )

    # -- the channel of the moment ----------------------------------------------------------

    def channel(
        self, on_end: Callable[[ConnectionLostError], None], *, suspect_after: float = math.inf
    ) -> PublisherChannel:
        """A listener for a new publishing channel; `attach` makes it the one in use.

        A Basic.Nack retires it that comes more than `suspect_after` seconds after its begin.
        """
        room = max(self._max_bytes, HIGH_WATER)
        return PublisherChannel(
            self, on_end, room=room, suspect_from=time.monotonic() + suspect_after
        )

    def attach(self, channel: PublisherChannel) -> None:
        """Publish through this channel from now on, beginning with what waits."""
        self._channel = channel
        self.pump()

    def retire(self, channel: PublisherChannel) -> asyncio.TimerHandle:
        """Write nothing more to this channel; what is returned ends it, if it is not cancelled."""
        self._channel, self._retired = None, channel
        return self._loop.call_later(RETIRED_WITHIN, channel.end)

    def detach(self, channel: PublisherChannel, reason: ConnectionLostError) -> None:
        """The channel ended: settle or take back what was written and not confirmed.

        When the broker gave a reason, one of these may be it: then each is sent again only once.
        """
        if self._channel is channel:
            self._channel = None
        if self._retired is channel:
            self._retired = None
        unknown = []
        for message in reversed(channel.unconfirmed.values()):
            if message.stage is not WRITTEN:
                continue
            if message.resend:
                message.resend = reason.code in _NOT_OUR_FAULT
                self._outbox.appendleft(message)
                self._waits(message)
            else:
                unknown.append(message)
        channel.unconfirmed.clear()
        for message in reversed(unknown):
            message.finish(
                NuropbOutcomeUnknownError(
                    "written, but the channel was lost before the broker confirmed it: "
                    f"it may or may not have been delivered ({reason})",
                    None,
                    reason,
                )
            )
        self._check_idle()

    def stalled(self) -> None:
        """The broker takes nothing for the time being (Connection.Blocked).

        It confirms nothing then, of what was written just before either: that waits until its
        deadline, too, and no longer. Else nothing that is written needs a timer.
        """
        if self._channel is not None:
            for message in self._channel.unconfirmed.values():
                if message.stage is WRITTEN:
                    self._set_timer(message)

    def pump(self) -> None:
        """Write what waits, as far as there is room."""
        channel, outbox = self._channel, self._outbox
        if channel is None:
            return
        while outbox and channel.room > 0 and channel.port.writable:
            message = outbox.popleft()
            self._bytes -= message.size
            if message.timer is not None:
                message.timer.cancel()
                message.timer = None
            if message.deadline is not None and message.deadline <= self._loop.time():
                message.finish(NuropbTimeoutError("never sent: its deadline had passed"))
            else:
                channel.send(message)
        self._check_idle()

    # -- the end ----------------------------------------------------------------------------

    async def flushed(self) -> None:
        """Wait until nothing waits and nothing is unconfirmed."""
        while self._outbox or self.unconfirmed:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def _check_idle(self) -> None:
        if self._idle is not None and not self._outbox and not self.unconfirmed:
            self._idle.set_result(None)
            self._idle = None

    def close(self, error: NuropbException) -> None:
        """Settle everything that waits; what was written is settled by its channel's end."""
        self._closed = error
        outbox, self._outbox = self._outbox, deque()
        self._bytes = 0
        for message in outbox:
            message.finish(error)
        self._check_idle()

    def confirmed(self) -> None:
        """A confirm settled something: there is room for more."""
        if self._outbox:
            self.pump()
        elif self._idle is not None:
            self._check_idle()


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
        publisher: Publisher,
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
        port.write(
            frames.pack_content(port.number, message.method, properties, message.body, frame_max)
        )
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
                "is the service running?"
            )
        )

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Basic.Ack or Basic.Nack (https://www.rabbitmq.com/docs/confirms)."""
        unconfirmed = self.unconfirmed
        error = None if acked else PublishNackedError("the broker refused the message (Basic.Nack)")
        tags: Iterable[int] = (tag,)
        if multiple:  # tags are in their order; 0 stands for all
            tags = tuple(takewhile(tag.__ge__, unconfirmed) if tag else unconfirmed)
        for each in tags:
            message = unconfirmed.pop(each, None)
            if message is not None:
                self.room += message.size + PER_MESSAGE
                message.finish(error)
        if error is not None or self._retirement is not None:
            self._doubt()
        self._publisher.confirmed()

    def _doubt(self) -> None:
        """A message was refused, now or before: it may be for the channel's sake.

        RabbitMQ 3.10 remembers for as long as a channel lives that the node was down of a quorum
        queue's leader, and refuses whatever is published to that queue through this channel, when
        there is another leader, too. So it takes another channel, once this one has confirmed
        all.
        """
        if self._retirement is None and self._suspect_from < time.monotonic():
            self._retirement = self._publisher.retire(self)
        if self._retirement is not None and not self.unconfirmed:
            self.end()

    def end(self) -> None:
        """Be followed by another channel."""
        problem = "the broker refused messages of this channel (Basic.Nack)"
        self._on_end(ConnectionLostError(problem))

    def on_cancelled(self, by_broker: bool) -> None:
        """There is no consumer here."""

    def on_writable(self) -> None:
        """There is room again."""
        self._publisher.pump()

    def on_closed(self, reason: ConnectionLostError) -> None:
        """The channel ended."""
        if self._retirement is not None:
            self._retirement.cancel()
        self._publisher.detach(self, reason)
        self._on_end(reason)
