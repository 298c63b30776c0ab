"""Confirmed, mandatory publishing with a bounded outbox.

A message leaves at once when the publishing channel is up and has room; otherwise it waits in the
outbox, in order, until there is a channel, or until its deadline. Every message that was written
is settled by the broker's confirm, or by the loss of its channel.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from .exceptions import (
    ConnectionLostError,
    NuropbException,
    NuropbOutcomeUnknownError,
    NuropbTimeoutError,
)
from .outbox import Outbox
from .outgoing import WAITING, WRITTEN, Outgoing
from .publisher_channel import PublisherChannel
from .wire.router import HIGH_WATER

RETIRED_WITHIN = 5.0
"""Seconds in which what a retired channel has written must be confirmed."""

_NOT_OUR_FAULT = (0, 320)
"""Reply codes of an end that no message of ours can have caused: none, CONNECTION_FORCED."""


class Publisher:
    """The outbox, and the publishing channel of the moment. It lives as long as its transport."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(max_messages=max_messages, max_bytes=max_bytes)
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
        """Whether more waits than the bound allows, for it was admitted elsewhere."""
        return self._outbox.overfull

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
            self._outbox.check_room(message)
        self._outbox.add(message)
        self._set_timer(message)

    def _set_timer(self, message: Outgoing) -> None:
        if message.deadline is not None and message.timer is None:
            message.timer = self._loop.call_at(message.deadline, self._expire, message)

    def discard(self, message: Outgoing, error: NuropbException) -> None:
        """Settle a message that nobody waits for any more; it is not sent if it was not yet."""
        if message.stage is WAITING and self._outbox.remove(message):
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
        written = [each for each in channel.unconfirmed.values() if each.stage is WRITTEN]
        channel.unconfirmed.clear()
        again = [each for each in written if each.resend]
        self._outbox.add_first(again)
        for message in again:
            message.resend = reason.code in _NOT_OUR_FAULT
            self._set_timer(message)
        for message in written:
            if message.stage is not WRITTEN:
                continue
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
            message = outbox.pop()
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
        while self._outbox:
            self._outbox.pop().finish(error)
        self._check_idle()

    def confirmed(self) -> None:
        """A confirm settled something: there is room for more."""
        if self._outbox:
            self.pump()
        elif self._idle is not None:
            self._check_idle()
