"""One task per queue; the only place that settles a delivery."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from .acknowledgement import ACK, CALL_AGAIN, REJECT, Settlement
from .exceptions import ConnectionLostError
from .origins import report
from .wire import frames
from .wire.frames import Content
from .wire.port import ChannelPort

logger = logging.getLogger(__name__)


class Receiver(Protocol):
    """Whoever a consumer hands its deliveries to."""

    def receive(self, consumer: Consumer, content: Content) -> Awaitable[None] | None:
        """Begin with a delivery; the awaitable, if any, ends when there is room for the next."""


class Consumer:
    """Drains one queue's deliveries in batches, in one task.

    With `acks`, a delivery is settled through `settle`, as long as its channel lives; what has
    not been begun when the channel dies is dropped here, because the broker delivers it again.
    Without, deliveries count as settled when sent (no_ack), and all that arrived is handed over.
    """

    port: ChannelPort
    task: asyncio.Task[None]

    def __init__(
        self,
        queue: str,
        receiver: Receiver,
        on_end: Callable[[ConnectionLostError], None],
        *,
        acks: bool,
    ) -> None:
        self.queue = queue
        self.tag = f"nuropb-{queue}"[:255]
        self.acks = acks
        self._receiver = receiver
        self._on_end = on_end
        self._arrived: deque[Content] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._ended = False
        self._cancelling = False
        self._cancelled = asyncio.Event()

    def start(self, port: ChannelPort) -> None:
        """Begin: the channel is registered."""
        self.port = port
        self.task = asyncio.create_task(self._run(), name=f"nuropb-consumer-{self.queue}")

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        arrived = self._arrived
        try:
            while True:
                while arrived:
                    room = self._receiver.receive(self, arrived.popleft())
                    if room is not None:
                        await room
                if self._ended:
                    return
                self._wake = loop.create_future()
                await self._wake
        except Exception as e:  # noqa: BLE001 - it is the task's outermost loop
            report(logger, logging.ERROR, e, "consumer of %s failed", self.queue)
            failed = f"consumer of {self.queue} failed: {type(e).__name__}"
            self._on_end(ConnectionLostError(failed))

    def _rouse(self) -> None:
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    def settle(self, content: Content, settlement: Settlement) -> bool:
        """Settle a delivery; False when its channel is gone, and the delivery tag with it."""
        port = self.port
        if not port.open:
            return False
        if settlement is ACK or settlement is CALL_AGAIN:
            data = frames.pack_ack(port.number, content.tag)
        elif settlement is REJECT:
            data = frames.pack_reject(port.number, content.tag, requeue=False)
        else:
            data = frames.pack_nack(port.number, content.tag, requeue=True)
        port.write(data)
        return True

    async def cancel(self) -> None:
        """Stop the deliveries; returns when the broker has, or the channel has ended.

        What arrived and was not begun goes back to the queue.
        """
        if self.port.open and not self._cancelling:
            self._cancelling = True
            self.port.cancel(self.tag)
        if self.port.open:
            await self._cancelled.wait()
        while self.acks and self._arrived:
            self.settle(self._arrived.popleft(), Settlement.REQUEUE)

    # -- as the channel's listener ----------------------------------------------------------

    def on_content(self, content: Content) -> None:
        """A delivery."""
        self._arrived.append(content)
        self._rouse()

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Nothing is published on this channel."""

    def on_cancelled(self, by_broker: bool) -> None:
        """The deliveries have stopped: as we asked, or because the queue is gone."""
        self._cancelled.set()
        if by_broker:
            self._on_end(
                ConnectionLostError(f"the broker cancelled the consumer of {self.queue}: deleted?")
            )

    def on_writable(self) -> None:
        """Acks are small, and wait for nothing."""

    def on_closed(self, reason: ConnectionLostError) -> None:
        """The channel ended."""
        self._ended = True
        self._cancelled.set()
        if self.acks:
            self._arrived.clear()
        self._rouse()
        self._on_end(reason)
