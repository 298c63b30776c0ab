"""Confirmed, mandatory publishing with a bounded outbox.

A message leaves at once when the publishing channel is up and has room; otherwise it waits in the
outbox, in order, until there is a channel, or until its deadline. Every message that was written
is settled by the broker's confirm, or by the loss of its channel.
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
    NuropbTimeoutError,
    OutboxFullError,
)
from ..shielded import shielded
from .outbox import Outbox
from .outgoing import ALONE, NEVER, WAITING, WRITTEN, OnDone, Outgoing
from .publisher_channel import PublisherChannel
from .refused import aftermath, too_large
from .router import HIGH_WATER

RETIRED_WITHIN = 5.0
"""Seconds in which what a retired channel has written must be confirmed."""

REFUSED_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before an answer that the broker refused is written again: the node of its queue may
have died. Few, for each may bring an event once more to those queues that took it."""
_NO_LIMIT = 2**63


class Publisher:
    """The outbox, and the publishing channel of the moment. It lives as long as its transport."""

    def __init__(self, *, max_messages: int, max_bytes: int, max_body: int = _NO_LIMIT) -> None:
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(max_messages=max_messages, max_bytes=max_bytes)
        # Requests, while there is no consumer of their responses.
        self._held = Outbox(max_messages=max_messages, max_bytes=max_bytes)
        self._answerable = False
        self._max_body = max_body
        self._connection: object = None
        self.largest = max_body
        """Bytes of the largest body that may be sent: max_body_bytes, or the broker's limit."""
        self._paused: dict[Outgoing, asyncio.TimerHandle] = {}
        """What was refused, until it is written again."""
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

    def too_large(self, size: int) -> MessageTooLargeError:
        """The error of a body of so many bytes, which are more than `largest`."""
        if self.largest < self._max_body:
            return too_large(size, self.largest)
        return MessageTooLargeError(
            f"the body of {size} bytes is larger than max_body_bytes ({self._max_body})",
            size=size,
            limit=self._max_body,
        )

    def publish(self, message: Outgoing, on_done: OnDone) -> None:
        """Write the message now, or as soon as there is a channel with room.

        Raises OutboxFullError when it would have to wait and there is no room to; not for what a
        handler answers and publishes (`resend`), which the prefetch count bounds. Raises the error
        of close() when the publisher is closed.
        """
        message.on_done = on_done
        self._publish(message, admitted=message.resend is not NEVER)

    def request(self, message: Outgoing, on_done: OnDone) -> None:
        """Publish a request, now or when there is a consumer of its response.

        Raises what publish() raises.
        """
        message.on_done = on_done
        if self._answerable and not self._held:  # else it would go before those
            self._publish(message, admitted=False)
        elif self._closed is not None:
            raise self._closed
        elif self._outbox.overfull:
            raise OutboxFullError("too many messages wait for the connection (outbox_messages)")
        else:
            self._held.check_room(message)
            self._held.add(message)

    def responses_come(self, answerable: bool) -> None:
        """Publish the requests that are held, in their order; or hold them from now on."""
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
        """Write it, or keep it; one that is `admitted` has its room already."""
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
        """Settle a message that nobody waits for any more; it is not sent if it was not yet."""
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
        self,
        on_end: Callable[[ConnectionLostError], None],
        *,
        connection: object = None,
        suspect_after: float = math.inf,
    ) -> PublisherChannel:
        """A listener for a new publishing channel; `attach` makes it the one in use.

        The broker's size limit, once learned, holds while `connection` is the same. A Basic.Nack
        retires the channel if it comes more than `suspect_after` seconds after the channel began.
        """
        if connection is not self._connection:
            self._connection = connection
            self.largest = self._max_body
        room = max(self._max_bytes, HIGH_WATER)
        return PublisherChannel(
            self, on_end, room=room, suspect_from=time.monotonic() + suspect_after
        )

    def attach(self, channel: PublisherChannel) -> None:
        """Publish through this channel from now on, beginning with what waits."""
        self._channel = channel
        self.pump()

    def retire(self, channel: PublisherChannel) -> asyncio.TimerHandle:
        """Write nothing more to this channel; return the timer that will end it."""
        self._channel, self._retired = None, channel
        return self._loop.call_later(RETIRED_WITHIN, channel.end)

    def detach(self, channel: PublisherChannel, reason: ConnectionLostError) -> None:
        """The channel ended: settle or take back what was written and not confirmed."""
        if self._channel is channel:
            self._channel = None
        if self._retired is channel:
            self._retired = None
        written = [each for each in channel.unconfirmed.values() if each.stage is WRITTEN]
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
        again = [each for each in messages if each.stage is WRITTEN]
        self._outbox.add_first(again)
        for message in again:
            self._set_timer(message)

    def tries_again(self, message: Outgoing) -> bool:
        """Return whether a message that was refused is written once more, after a pause.

        A message whose sender waits is not: the sender gets the error at once.
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
        """Take out of the outbox what the broker would refuse."""
        limit = self.largest
        large = [each for each in self._outbox if len(each.body) > limit]
        for message in large:
            self._outbox.remove(message)
        return [(each, too_large(len(each.body), limit)) for each in large]

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
            message = outbox.pop()
            if message.timer is not None:
                message.timer.cancel()
                message.timer = None
            if message.deadline is not None and message.deadline <= self._loop.time():
                message.finish(NuropbTimeoutError("never sent: its deadline had passed"))
                continue
            if message.resend is ALONE:
                message.size = channel.room  # nothing else is written until this is confirmed
            channel.send(message)
        self._check_idle()

    # -- the end ----------------------------------------------------------------------------

    async def flushed(self) -> None:
        """Wait until nothing waits and nothing is unconfirmed."""
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
        """Settle everything that waits; what was written is settled by its channel's end."""
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
        """A confirm settled something: there is room for more."""
        if self._outbox.waiting:
            self.pump()
        elif self._idle is not None:
            self._check_idle()
