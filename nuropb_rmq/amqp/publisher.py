"""Confirmed, mandatory publishing with a bounded outbox.

A message is written at once when the publishing channel is up and has room; otherwise it waits in
the outbox, in order, until there is a channel, or until its deadline. The broker's confirm settles
a written message, or the loss of its channel does.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence

from ..exceptions import (
    ConnectionLostError,
    MessageTooLargeError,
    NuropbException,
    NuropbOutcomeUnknownError,
    OutboxFullError,
)
from ..safe_logging import ServiceLog
from ..waiting import shielded
from .outbox import Outbox
from .outgoing import ALONE, NEVER, WAITING, WRITTEN, OnDone, Outgoing
from .publisher_channel import HEADER_OVERHEAD, PublisherChannel
from .refused import aftermath, too_large
from .router import HIGH_WATER

RETIRED_WITHIN = 5.0
"""Seconds that the broker has to confirm the messages of a retired channel."""

REFUSED_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before an answer or event that the broker refused is written again, as the node of its
queue may have died. Few, because each try may bring an event again to the queues that took it."""
_NO_LIMIT = 2**63


class Publisher:
    """The outbox and the current publishing channel; lives as long as its transport."""

    def __init__(self, *, max_messages: int, max_bytes: int, max_body: int = _NO_LIMIT) -> None:
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(max_messages=max_messages, max_bytes=max_bytes)
        # Requests, while there is no consumer of their responses.
        self._held = Outbox(max_messages=max_messages, max_bytes=max_bytes)
        # True while there is one.
        self._answerable = False
        self._max_body = max_body
        # The connection for which `largest` was learned.
        self._connection: object = None
        self.largest = max_body
        """Bytes of the largest body that may be sent: max_body_bytes, or the broker's limit."""
        # Messages that were refused, until they are written again.
        self._paused: dict[Outgoing, asyncio.TimerHandle] = {}
        self._channel: PublisherChannel | None = None
        # The one before, while its last messages are unconfirmed.
        self._retired: PublisherChannel | None = None
        # What flushed() waits for.
        self._idle: asyncio.Future[None] | None = None
        self._closed: NuropbException | None = None

    @property
    def waiting(self) -> int:
        """Number of messages in the outbox."""
        return len(self._outbox)

    def backlog(self) -> tuple[int, int, float]:
        """Return messages that wait for the broker, their bytes, and seconds of the oldest.

        Can be called in any thread: each copy is made in one step of the interpreter.
        """
        paused = tuple(self._paused)
        boxes = [tuple(box.waiting) for box in (self._outbox, self._held)]
        first = [box[0].waits_since for box in (*boxes, paused) if box]
        # 0: it was written meanwhile.
        since = min((each for each in first if each), default=math.inf)
        return (
            sum(map(len, boxes)) + len(paused),
            self._outbox.bytes + self._held.bytes + sum(len(each.body) for each in paused),
            max(0.0, time.monotonic() - since),
        )

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the messages in the outbox."""
        return self._outbox.bytes

    @property
    def unconfirmed(self) -> int:
        """Number of messages that were written and not confirmed yet."""
        channels = self._channel, self._retired
        return sum(len(channel.unconfirmed) for channel in channels if channel is not None)

    def too_large(self, size: int) -> MessageTooLargeError:
        """Return the error for a body of `size` bytes, more than `largest`."""
        if self.largest < self._max_body:
            return too_large(size, self.largest)
        return MessageTooLargeError(
            f"the body of {size} bytes is larger than max_body_bytes ({self._max_body})",
            size=size,
            limit=self._max_body,
        )

    @property
    def headers_room(self) -> int:
        """Bytes that the properties of a message may have if it is written now; 0: it would wait.

        RabbitMQ delivers a message with headers of its own: a tenth of the frame is left for them.
        """
        channel = self._channel
        if (
            channel is None
            or self._outbox.waiting
            or channel.room <= 0
            or not channel.port.writable
        ):
            return 0
        return (channel.port.frame_max - HEADER_OVERHEAD) * 9 // 10

    def publish(self, message: Outgoing, on_done: OnDone) -> None:
        """Write the message now, or as soon as there is a channel with room.

        Raises OutboxFullError when it would have to wait and the outbox is full; not for a
        handler's answers and events (`resend`), which the prefetch count bounds. Raises the error
        that close() got when the publisher is closed.
        """
        message.on_done = on_done
        self._publish(message, admitted=message.resend is not NEVER)

    def request(self, message: Outgoing, on_done: OnDone) -> None:
        """Publish a request, now or when there is a consumer of its response.

        Raises what publish() raises.
        """
        message.on_done = on_done
        if self._answerable and not self._held.waiting:  # else it would overtake those held
            self._publish(message, admitted=False)
        elif self._closed is not None:
            raise self._closed
        elif self._outbox.overfull:
            raise OutboxFullError("too many messages wait for the connection (outbox_messages)")
        else:
            self._held.check_room(message)
            self._held.add(message)

    def responses_come(self, answerable: bool) -> None:
        """Publish the requests that are held, in order; or hold requests from now on."""
        self._answerable = answerable
        while self._held and self._answerable:
            message = self._held.pop()
            if len(message.body) > self.largest:  # learned while it was held
                message.finish(self.too_large(len(message.body)))
                continue
            try:
                self._publish(message, admitted=True)
            except NuropbException as e:
                message.finish(e)

    def _publish(self, message: Outgoing, *, admitted: bool) -> None:
        """Write a message, or put it into the outbox; `admitted` skips the check for room."""
        channel = self._channel
        if (
            channel is not None
            and not self._outbox.waiting
            and channel.room > 0
            and channel.port.writable
        ):
            channel.send(message)
            return
        if self._closed is not None:
            raise self._closed
        if not admitted:
            self._outbox.check_room(message)
        self._outbox.add(message)
        self._set_timer(message)

    def _set_timer(self, message: Outgoing) -> None:
        if message.deadline is not None and message.timer is None:
            message.timer = self._loop.call_at(message.deadline, self._expire, message)

    def discard(self, message: Outgoing, error: NuropbException) -> None:
        """Settle a message that nobody waits for; if it was not written yet, it never is."""
        if self._held.remove(message):
            message.finish(error)
            return
        if message.stage is WAITING and not self._outbox.remove(message):
            paused = self._paused.pop(message, None)
            if paused is not None:
                paused.cancel()
        message.finish(error)
        self._check_idle()

    def _expire(self, message: Outgoing) -> None:
        message.timer = None
        if message.stage is WAITING:
            self.discard(message, message.late("the broker took no messages until the deadline"))
        else:
            message.finish(
                NuropbOutcomeUnknownError("written, but not confirmed until the deadline")
            )

    # -- the current channel ----------------------------------------------------------------

    def channel(
        self,
        on_end: Callable[[ConnectionLostError], None],
        log: ServiceLog,
        *,
        connection: object = None,
        suspect_after: float = math.inf,
    ) -> PublisherChannel:
        """Return a listener for a new publishing channel; `attach` makes it the one in use.

        The broker's size limit, once learned, holds while `connection` is the same. A Basic.Nack
        retires the channel if it comes more than `suspect_after` seconds after this call.
        """
        if connection is not self._connection:
            self._connection = connection
            self.largest = self._max_body
        room = max(self._max_bytes, HIGH_WATER)
        return PublisherChannel(
            self, on_end, log, room=room, suspect_from=time.monotonic() + suspect_after
        )

    def attach(self, channel: PublisherChannel) -> None:
        """Publish through this channel from now on, beginning with the outbox."""
        self._channel = channel
        self.pump()

    def retire(self, channel: PublisherChannel) -> asyncio.TimerHandle:
        """Write nothing more to this channel; return the timer that will end it."""
        self._channel, self._retired = None, channel
        return self._loop.call_later(RETIRED_WITHIN, channel.end)

    def detach(self, channel: PublisherChannel, reason: ConnectionLostError) -> None:
        """Settle or take back the unconfirmed messages of a channel that has ended."""
        if self._channel is channel:
            self._channel = None
        if self._retired is channel:
            self._retired = None
        written = [message for message in channel.unconfirmed.values() if message.stage is WRITTEN]
        channel.unconfirmed.clear()
        after = aftermath(reason, written)
        if after.limit is not None:
            self.largest = min(self.largest, after.limit)
            after.ended += self._over_the_limit()
        self._outbox.add_first(after.again)
        for message in after.again:
            self._set_timer(message)
        for message, error in after.ended:
            message.finish(error)
        self._check_idle()

    def take_back(self, messages: Sequence[Outgoing]) -> None:
        """Put messages that never left back into the outbox, in order, before all others."""
        again = [message for message in messages if message.stage is WRITTEN]
        self._outbox.add_first(again)
        for message in again:
            self._set_timer(message)

    def tries_again(self, message: Outgoing) -> bool:
        """Return whether a refused message is written once more, after a pause.

        Not if its sender waits, who gets the error at once.
        """
        tries = message.refusals
        if message.resend is NEVER or message.stage is not WRITTEN or self._closed is not None:
            return False
        if tries == len(REFUSED_PAUSES):
            return False
        at = self._loop.time() + REFUSED_PAUSES[tries]
        if message.deadline is not None and at >= message.deadline:
            return False
        message.refusals = tries + 1
        message.stage = WAITING
        message.wait()
        self._paused[message] = self._loop.call_at(at, self._resume, message)
        return True

    def _resume(self, message: Outgoing) -> None:
        del self._paused[message]
        self._outbox.add(message)
        self._set_timer(message)
        self.pump()

    def _over_the_limit(self) -> list[tuple[Outgoing, NuropbException]]:
        """Take the messages that the broker would refuse out of the outbox."""
        limit = self.largest
        large = [message for message in self._outbox if len(message.body) > limit]
        for message in large:
            self._outbox.remove(message)
        return [(message, too_large(len(message.body), limit)) for message in large]

    def stalled(self) -> None:
        """Let the deadlines of written messages count: the broker blocks (Connection.Blocked).

        A broker that blocks confirms nothing, not even what was written just before. At other
        times written messages need no timer.
        """
        if self._channel is not None:
            for message in self._channel.unconfirmed.values():
                if message.stage is WRITTEN:
                    self._set_timer(message)

    def pump(self) -> None:
        """Write messages of the outbox while there is room."""
        channel, outbox = self._channel, self._outbox
        if channel is None:
            return
        while outbox and channel.room > 0 and channel.port.writable:
            message = outbox.pop()
            if message.timer is not None:
                message.timer.cancel()
                message.timer = None
            if message.deadline is not None and message.deadline <= self._loop.time():
                message.finish(message.late("its deadline had passed"))
                continue
            if message.resend is ALONE:
                message.size = channel.room  # nothing else is written until this is confirmed
            channel.send(message)
        self._check_idle()

    # -- the end ----------------------------------------------------------------------------

    async def flushed(self) -> None:
        """Wait until no message waits and none is unconfirmed; may be cancelled."""
        while self._busy():
            if self._idle is None:
                self._idle = self._loop.create_future()
            await shielded(self._idle)

    def _busy(self) -> bool:
        return bool(self._outbox or self._paused or self.unconfirmed)

    def _check_idle(self) -> None:
        if self._idle is not None and not self._busy():
            self._idle.set_result(None)
            self._idle = None

    def close(self, error: NuropbException) -> None:
        """Settle all waiting messages with `error`; the channel's end settles those written."""
        self._closed = error
        self._answerable = False
        while self._held:
            self._held.pop().finish(error)
        for message, timer in self._paused.items():
            timer.cancel()
            self._outbox.add(message)
        self._paused.clear()
        while self._outbox:
            self._outbox.pop().finish(error)
        self._check_idle()

    def confirmed(self) -> None:
        """Use the room that a confirm has made."""
        if self._outbox.waiting:
            self.pump()
        elif self._idle is not None:
            self._check_idle()
