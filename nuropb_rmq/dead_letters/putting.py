"""Publish messages to one queue, a window at a time, and tell what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from ..amqp import frames
from ..amqp.channel import ChannelPort
from ..amqp.frames import Content
from ..broker.connecting import Connection
from ..broker.control_channel import ControlChannel
from ..broker.error_translation import translated
from ..exceptions import AMQPProtocolError, ConnectionLostError
from ..protocol.dead_letter import HEADER_REPLAY_ID
from ..waiting import Changes

WINDOW: Final = 64
"""Messages that may be published and not confirmed: as many come twice when a replay is killed."""
_HEADER_OVERHEAD: Final = frames.FRAME_OVERHEAD + frames.CONTENT_HEADER.size


class Outcome(StrEnum):
    """The fate of a message that was published."""

    CONFIRMED = "confirmed"
    RETURNED = "the service queue does not exist"
    REFUSED = "the service queue refused it: is it full?"


class Putter:
    """Publishes to the default exchange: mandatory, persistent as its properties say, confirmed.

    A message is known by its nuropb_replay_id, because a Basic.Return has no number.
    """

    def __init__(self, connection: Connection, queue: str, *, patience: float) -> None:
        """`patience` is how long, in seconds, nothing may be confirmed."""
        self._connection = connection
        self._method = frames.publish_method("", queue, mandatory=True)
        self._patience = patience
        self._channel: ControlChannel
        self._port: ChannelPort
        self._published = 0
        self._unconfirmed: dict[int, tuple[str, Callable[[Outcome], None]]] = {}
        self._returned: set[str] = set()
        self._lost: ConnectionLostError | None = None
        self._changes = Changes()

    async def open(self) -> None:
        """Open a channel. Raises a NuropbTransportError."""
        channel = self._channel = self._connection.new_channel(confirms=True)
        with translated("channel"):
            await channel.open()
        router = self._connection.router
        self._port = router.register(channel.number, self, max_body=0)

    @property
    def unconfirmed(self) -> int:
        """Messages that are published and not confirmed."""
        return len(self._unconfirmed)

    def fits(self, properties: bytes) -> bool:
        """Return whether properties and headers fit into one frame, as they must."""
        return len(properties) + _HEADER_OVERHEAD <= self._port.frame_max

    def put(
        self, properties: bytes, body: bytes, replay_id: str, settle: Callable[[Outcome], None]
    ) -> None:
        """Publish a message; `settle` is called with its outcome. Raises ConnectionLostError."""
        port = self._port
        port.write(frames.pack_content(port.number, self._method, properties, body, port.frame_max))
        self._published += 1
        self._unconfirmed[self._published] = replay_id, settle

    async def room(self) -> None:
        """Wait until one more may be published.

        Raises ConnectionLostError, and TimeoutError when nothing is confirmed for too long.
        """
        await self._until(lambda: self.unconfirmed < WINDOW and self._port.writable)

    async def settled(self) -> None:
        """Wait until all are confirmed; raises what room() raises."""
        await self._until(lambda: not self._unconfirmed)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while self._lost is None and not condition():
            await self._progress(condition)
        if self._lost is not None:
            raise self._lost

    async def _progress(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, or something was confirmed: then patience begins anew."""
        before = self.unconfirmed
        try:
            async with asyncio.timeout(self._patience):
                await self._changes.until(
                    lambda: self._lost is not None or condition() or self.unconfirmed != before
                )
        except TimeoutError:
            raise TimeoutError(self._late()) from None

    def _late(self) -> str:
        blocked = self._connection.router.blocked
        why = "" if blocked is None else f": the broker takes no messages ({blocked})"
        return f"nothing was confirmed for {self._patience:g} s (publish_timeout){why}"

    # -- as the listener of its channel -----------------------------------------------------

    def on_content(self, content: Content) -> None:
        """Note a Basic.Return; the confirm of the same message follows."""
        try:
            headers = frames.decode_properties(content.raw_properties).headers or b""
            replay_id = frames.decode_table(headers).get(HEADER_REPLAY_ID)
        except AMQPProtocolError:
            return
        if isinstance(replay_id, str):
            self._returned.add(replay_id)

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Settle a message, or all up to it."""
        tags = [each for each in self._unconfirmed if each <= tag or not tag] if multiple else [tag]
        for each in tags:
            replay_id, settle = self._unconfirmed.pop(each)
            if replay_id in self._returned:
                self._returned.discard(replay_id)
                settle(Outcome.RETURNED)
            else:
                settle(Outcome.CONFIRMED if acked else Outcome.REFUSED)
        self._changes.wake()

    def on_writable(self) -> None:
        """Let whoever waits for room look again."""
        self._changes.wake()

    def on_closed(self, reason: ConnectionLostError) -> None:
        """Note the channel's end; what was not confirmed has no outcome."""
        self._lost = reason
        self._changes.wake()

    def on_unsent(self, count: int) -> None:
        """Do nothing: what was never written has no outcome either."""

    def on_cancelled(self, by_broker: bool) -> None:
        """Do nothing: it has no consumer."""
