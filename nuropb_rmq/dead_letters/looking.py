"""One pass over a queue: its messages are taken one by one, held, and given back all together.

Basic.Get and not Basic.Consume: the prefetch window of a consumer would fill with messages that
are not meant. A classic queue has them back, where they stood, when the channel is closed. A quorum
queue would count that as a delivery that failed, and Basic.Nack, from RabbitMQ 4.3 on, it does not
count; but it puts what comes back behind all that came back before, so that the order stays only
if a pass takes all messages, and gives them back a few at a time.

Why: docs/decisions/015-looking-at-dead-letters.md
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from ..amqp import frames, getting
from ..amqp.channel import ChannelPort
from ..amqp.frames import Content
from ..amqp.getting import Got
from ..broker.connecting import Connection
from ..broker.control_channel import ControlChannel
from ..broker.delivery_limit import Told
from ..broker.error_translation import translated
from ..config.settings import CLASSIC
from ..exceptions import ConnectionLostError
from ..waiting import Changes

AHEAD: Final = 16
"""Messages that are asked for before the first of them is looked at: the pass need not wait for a
round trip to the broker with each."""
RETURNED_AT_ONCE: Final = 16
RETURNED_WITHIN: Final = 2.0
"""Seconds that the broker has for them; then the next ones follow all the same."""
AHEAD_BYTES: Final = 2**20
"""Bytes of messages that wait to be looked at, before more are asked for."""


class Pass:
    """A pass over the messages that are in the queue when it begins; those that come later wait.

    It ends after so many `seconds`; and after so many more, its `grace`, all is given back, if
    whoever began the pass has gone to sleep over it.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        *,
        max_body: int,
        seconds: float,
        grace: float,
        told: Told,
    ) -> None:
        """`told` is what is known of the queue."""
        self.looked_at = 0
        self.waiting = 0
        """Messages in the queue when it began; 0 until the first has come."""
        self.stopped: str | None = None
        """Why it ended before all were looked at."""
        self._connection = connection
        self._queue = queue
        self._max_body = max_body
        self._seconds = seconds
        self._grace = grace
        self._ends_at = 0.0
        self._is_classic = told.type == CLASSIC
        self._in_order = told.depth and not self._is_classic
        self._channel: ControlChannel
        self._port: ChannelPort | None = None
        self._came: deque[Got] = deque()
        self._came_bytes = 0
        self._asked = 0
        self._answered = 0
        self._taken = 0
        # Tags of what is not settled, in the order of the queue.
        self._held: dict[int, None] = {}
        self._over = False
        self._lost: ConnectionLostError | None = None
        self._changes = Changes()
        self._closing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Pass:
        channel = self._channel = self._connection.new_channel()
        with translated("channel"):
            await channel.open()
        self._port = self._connection.router.register(channel.number, self, max_body=self._max_body)
        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + self._seconds
        self._timer = loop.call_at(self._ends_at + self._grace, self._give_up)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, GeneratorExit):
            await self.close()
        else:
            await self._close()

    async def close(self, why: str | None = None) -> None:
        """Give all back, and wait until the broker has it; a second time does nothing."""
        async with self._closing:  # two may end it: an iteration, and the next pass
            if self._in_order:
                with suppress(ConnectionLostError):
                    while await self._take() is not None:
                        pass
                    await self._give_back_in_order()
            await self._close(why)

    async def _close(self, why: str | None = None) -> None:
        self.give_back(why)
        if self._timer is not None:
            self._timer.cancel()
        if self._port is not None and self._port.open:
            # What was nacked is back before the channel closes: the broker reads in this order.
            self._port.unregister("the pass is over")
            with translated("channel"):
                await self._channel.close()

    async def next(self) -> Got | None:
        """Return the next message; None when there is none, or the pass is over.

        Raises ConnectionLostError. May be cancelled.
        """
        got = await self._take()
        if got is not None:
            self.looked_at += 1
        elif not self._is_at_its_end():
            self.stopped = self._late
        return got

    async def _take(self) -> Got | None:
        self._ask()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._ends_at):
                await self._changes.until(lambda: bool(self._came) or self._is_at_its_end())
        if self._lost is not None:
            raise self._lost
        if not self._came or asyncio.get_running_loop().time() > self._ends_at:
            return None
        self._taken += 1
        got = self._came.popleft()
        self._came_bytes -= len(got.body)
        return got

    def ack(self, tag: int) -> bool:
        """Take a message out of the queue; return False when all have been given back already."""
        if not self._over:
            del self._held[tag]
            self._write(frames.pack_ack(self._number, tag))
        return not self._over

    async def _give_back_in_order(self) -> None:
        """Give back what is held, and wait with each few until they are in the queue again.

        The broker has one command for each message that came by Basic.Get, and from 32 on, that are
        not done, it keeps further ones in no order (rabbit_fifo_client).
        """
        with translated(f"queue {self._queue!r}"):
            ready = await self._channel.ready(self._queue)
            held = list(self._held)
            for at in range(0, len(held), RETURNED_AT_ONCE):
                if self._over:
                    return
                tags = held[at : at + RETURNED_AT_ONCE]
                self._write(frames.pack_nack(self._number, tags[-1], requeue=True, multiple=True))
                ready += len(tags)
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETURNED_WITHIN):
                        while await self._channel.ready(self._queue) < ready:
                            pass  # asking takes a while

    def give_back(self, why: str | None = None) -> None:
        """End the pass; a second time does nothing. A classic queue waits for the channel's end.

        Basic.Nack of thousands that came by Basic.Get would take a classic queue minutes: the
        broker hands them over one by one, and each is put behind all before it.
        """
        if self._over:
            return
        self._over = True
        self.stopped = self.stopped or why
        self._came.clear()
        if self._asked and not self._is_classic:  # what is on its way, too: it was asked for before
            self._write(frames.pack_nack(self._number, 0, requeue=True, multiple=True))
        self._changes.wake()

    def _give_up(self) -> None:
        """Give all back for somebody who has gone to sleep."""
        if not self._over:
            self.give_back(self._late)
            if self._is_classic:
                self._connection.router.abort(self._late)

    def _ask(self) -> None:
        """Ask for more; the first answer says how many there are."""
        most = self.waiting if self.waiting else 1
        while (
            not self._over
            and self._asked < most
            and self._asked - self._taken < AHEAD
            and (self._came_bytes < AHEAD_BYTES or not self._came)
        ):
            self._asked += 1
            self._write(getting.pack_get(self._number, self._queue))

    def _is_at_its_end(self) -> bool:
        answered = self._answered == self._asked and not self._came
        return self._over or self._lost is not None or answered

    @property
    def _late(self) -> str:
        return f"the time for a pass was over: {self._seconds:g} s (pass_seconds)"

    @property
    def _number(self) -> int:
        assert self._port is not None  # noqa: S101 - it was entered
        return self._port.number

    def _write(self, data: bytes) -> None:
        assert self._port is not None  # noqa: S101 - it was entered
        with suppress(ConnectionLostError):  # on_closed has said so
            self._port.write(data)

    # -- as the listener of its channel -----------------------------------------------------

    def on_content(self, content: Content) -> None:
        """Take the answer to a Basic.Get."""
        assert isinstance(content, Got)  # noqa: S101 - nothing else is asked for here
        self._answered += 1
        if content.tag and not self._over:
            if not self.waiting:
                self.waiting = content.left + 1
            self._came.append(content)
            self._held[content.tag] = None
            self._came_bytes += len(content.body)
        self._changes.wake()

    def on_closed(self, reason: ConnectionLostError) -> None:
        """Note the channel's end: the broker has taken all back."""
        self._over, self._lost = True, None if self._over else reason
        self._changes.wake()

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Do nothing: it publishes nothing."""

    def on_cancelled(self, by_broker: bool) -> None:
        """Do nothing: it has no consumer."""

    def on_writable(self) -> None:
        """Do nothing: what it writes is small."""

    def on_unsent(self, count: int) -> None:
        """Do nothing: it publishes nothing."""
