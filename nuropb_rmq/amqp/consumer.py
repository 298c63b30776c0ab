"""One task per queue; the only place that settles a delivery."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from ..exceptions import ConnectionLostError
from ..safe_logging import report
from . import frames
from .channel import ChannelPort
from .frames import Content
from .settlement import ACK, CALL_AGAIN, REJECT, Settlement

logger = logging.getLogger("nuropb_rmq.amqp")


class Receiver(Protocol):
    """Takes the deliveries of a consumer: the `Dispatcher`, or `Replies`."""

    def receive(self, consumer: Consumer, content: Content) -> Awaitable[None] | None:
        """Begin with a delivery; the awaitable, if any, ends when there is room for the next."""

    def take_again(self, consumer: Consumer, content: Content) -> bool:
        """Take a redelivered message as soon as it arrives; return False to treat it as any other.

        Called with `acks` only. A message taken here needs no room.
        """


class Consumer:
    """Hands one queue's deliveries over: at once while there is room, else its task does so.

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
        self._unsettled: OrderedDict[int, None] = OrderedDict()
        self._acked: set[int] = set()
        self._room: Awaitable[None] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._ended = False
        self._consuming = False
        self._cancelling = False
        self._cancelled = asyncio.Event()

    def start(self, port: ChannelPort) -> None:
        """Begin: the channel is registered."""
        self.port = port
        self.task = asyncio.create_task(self._run(), name=f"nuropb-consumer-{self.queue}")

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                if self._room is not None:
                    await self._room
                    self._room = None
                elif self._arrived and not self._cancelling:
                    self._room = self._receiver.receive(self, self._arrived.popleft())
                elif self._ended:
                    return
                else:
                    self._wake = loop.create_future()
                    await self._wake
        except Exception as e:  # noqa: BLE001 - it is the task's outermost loop
            self._fail(e)

    def _fail(self, error: Exception) -> None:
        report(logger, logging.ERROR, error, "consumer of %s failed", self.queue)
        self._on_end(
            ConnectionLostError(f"consumer of {self.queue} failed: {type(error).__name__}")
        )

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
            if not self._acked:
                port.at_flush(self._write_acks)
            self._acked.add(content.tag)
            return True
        self._unsettled.pop(content.tag, None)
        if settlement is REJECT:
            data = frames.pack_reject(port.number, content.tag, requeue=False)
        else:
            data = frames.pack_nack(port.number, content.tag, requeue=True)
        port.write(data)
        return True

    def _write_acks(self) -> None:
        """One Basic.Ack for all that this tick settled, as far as nothing unsettled lies before."""
        port, acked, unsettled = self.port, self._acked, self._unsettled
        count = last = 0
        while unsettled and (tag := next(iter(unsettled))) in acked:
            del unsettled[tag]
            acked.discard(tag)
            count, last = count + 1, tag
        if count:
            port.write(frames.pack_ack(port.number, last, multiple=count > 1))
        for tag in acked:
            unsettled.pop(tag, None)
            port.write(frames.pack_ack(port.number, tag))
        acked.clear()

    def consuming(self) -> None:
        """The broker knows the consumer: from now on it can be cancelled."""
        self._consuming = True
        if self._cancelling and self.port.open:
            self._stop_deliveries()

    async def cancel(self) -> None:
        """Stop the deliveries; returns when the broker has, or the channel has ended.

        What arrived and was not begun goes back to the queue, at once: another may take it.
        """
        if self.port.open and not self._cancelling:
            self._cancelling = True
            if self._consuming:
                self._stop_deliveries()
        if self.port.open:
            await self._cancelled.wait()

    def _stop_deliveries(self) -> None:
        """Cancel, and then return what was not begun: before, it would come straight back."""
        self.port.cancel(self.tag)
        while self.acks and self._arrived:
            self.settle(self._arrived.popleft(), Settlement.REQUEUE)

    def give_back(self) -> None:
        """Return to the queue whatever is not settled, in hand or not: the channel will be closed.

        The end of a channel returns it too, but a quorum queue counts that against its delivery
        limit, and from RabbitMQ 4.3 on not what is returned by Basic.Nack
        (https://www.rabbitmq.com/docs/4.3/nack). What is settled from now on is not written.
        """
        port = self.port
        if not (self.acks and port.open):
            return
        self._write_acks()
        if not self._cancelling:
            port.write(frames.pack_cancel(port.number, self.tag))
        if self._unsettled:
            port.write(frames.pack_nack(port.number, 0, requeue=True, multiple=True))

    # -- as the channel's listener ----------------------------------------------------------

    def on_content(self, content: Content) -> None:
        """A delivery."""
        if self.acks:
            self._unsettled[content.tag] = None
            if self._cancelling:
                if self._consuming:
                    self.settle(content, Settlement.REQUEUE)
                else:
                    self._arrived.append(content)
                return
            if content.redelivered and self._receiver.take_again(self, content):
                return
        if self._room is not None or self._arrived:
            self._arrived.append(content)
            return
        try:
            self._room = self._receiver.receive(self, content)
        except Exception as e:  # noqa: BLE001 - the router must go on, whatever it is
            self._fail(e)
        if self._room is not None:
            self._rouse()

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Nothing is published on this channel."""

    def on_cancelled(self, by_broker: bool) -> None:
        """The deliveries have stopped: as we asked, or because the queue is gone."""
        self._cancelled.set()
        if by_broker:
            self._on_end(
                ConnectionLostError(
                    f"the broker cancelled the consumer of {self.queue}: was the queue deleted, is "
                    "its node down, or was a handler slower than the broker's consumer_timeout "
                    "(see handler_timeout)?"
                )
            )

    def on_writable(self) -> None:
        """Acks are small, and wait for nothing."""

    def on_unsent(self, count: int) -> None:
        """Nothing is published on this channel."""

    def on_closed(self, reason: ConnectionLostError) -> None:
        """The channel ended."""
        self._ended = True
        self._cancelled.set()
        if self.acks:
            self._arrived.clear()
        self._rouse()
        self._on_end(reason)
