"""Consuming a queue, in one task; the only place that settles a delivery."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from ..exceptions import ConnectionLostError
from ..safe_logging import ServiceLog, report
from . import frames
from .channel import ChannelPort
from .frames import Content
from .settlement import REJECT, REQUEUE, Settlement

logger = logging.getLogger("nuropb_rmq.amqp")


class Receiver(Protocol):
    """Takes the deliveries of a consumer: the `Dispatcher`, or `Replies`."""

    def receive(self, consumer: Consumer, content: Content) -> Awaitable[None] | None:
        """Begin to handle a delivery; an awaitable returned ends when the next one may begin."""

    def take_again(self, consumer: Consumer, content: Content) -> bool:
        """Take a redelivered message as soon as it arrives; False: receive() gets it in its turn.

        Called with `acks` only.
        """


class Consumer:
    """Hands the deliveries of one queue to its receiver: at once if it has room, else from a task.

    With `acks`, deliveries are settled by `settle`, while their channel lives; those that have not
    begun when the channel ends are dropped here, because the broker delivers them again. Without,
    the broker counts deliveries as settled when sent (no_ack), and every one is handed over.
    """

    port: ChannelPort
    task: asyncio.Task[None]

    def __init__(
        self,
        queue: str,
        receiver: Receiver,
        on_end: Callable[[ConnectionLostError], None],
        log: ServiceLog,
        *,
        acks: bool,
    ) -> None:
        self.queue = queue
        self.tag: str = f"nuropb-{queue}"[:255]
        self.acks = acks
        self._receiver = receiver
        self._on_end = on_end
        self._log = log.onto(logger)
        # Deliveries that were not handed over yet.
        self._arrived: deque[Content] = deque()
        # Delivery tags in their order, for one Basic.Ack of many.
        self._unsettled: OrderedDict[int, None] = OrderedDict()
        # Delivery tags to acknowledge at the end of this tick.
        self._acked: set[int] = set()
        # Ends when the receiver can take one more; None: it can now.
        self._room: Awaitable[None] | None = None
        # Resolved to wake the idle task.
        self._wake: asyncio.Future[None] | None = None
        self._ended = False
        self._consuming = False
        self._cancelling = False
        self._cancelled = asyncio.Event()

    def start(self, port: ChannelPort) -> None:
        """Begin on a registered channel."""
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
        report(self._log, logging.ERROR, error, "consumer of %s failed", self.queue)
        self._on_end(
            ConnectionLostError(f"consumer of {self.queue} failed: {type(error).__name__}")
        )

    def _rouse(self) -> None:
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    def settle(self, content: Content, settlement: Settlement) -> bool:
        """Settle a delivery; return False when its channel has ended, and its tag with it."""
        port = self.port
        if not port.open:
            return False
        if settlement is not REJECT and settlement is not REQUEUE:
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
        """Acknowledge up to the first unsettled delivery in one Basic.Ack, the rest one by one."""
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
        """Note that the broker knows the consumer, which can be cancelled from now on."""
        self._consuming = True
        if self._cancelling and self.port.open:
            self._stop_deliveries()

    async def cancel(self) -> None:
        """Stop the deliveries; return when the broker has stopped, or the channel has ended.

        Deliveries that were not begun go back to the queue at once, for other consumers.
        """
        if self.port.open and not self._cancelling:
            self._cancelling = True
            if self._consuming:
                self._stop_deliveries()
        if self.port.open:
            await self._cancelled.wait()

    def _stop_deliveries(self) -> None:
        """Cancel, then requeue what was not begun: before a cancel, it would come straight back."""
        self.port.cancel(self.tag)
        while self.acks and self._arrived:
            self.settle(self._arrived.popleft(), Settlement.REQUEUE)

    def give_back(self) -> None:
        """Requeue every unsettled delivery, also those being handled, before the channel is closed.

        Closing a channel requeues them too, but a quorum queue counts that against its delivery
        limit. From RabbitMQ 4.3 on, it does not count a Basic.Nack
        (https://www.rabbitmq.com/docs/4.3/nack). Later calls of settle() must not be written.
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
        """Hand a delivery over, or keep it until there is room."""
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
        """Do nothing: this channel publishes nothing."""

    def on_cancelled(self, by_broker: bool) -> None:
        """Note that the deliveries have stopped: as we asked, or because the queue is gone."""
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
        """Do nothing: acks are small, and are written whether there is room or not."""

    def on_unsent(self, count: int) -> None:
        """Do nothing: this channel publishes nothing."""

    def on_closed(self, reason: ConnectionLostError) -> None:
        """End the task once it has handed over what it still must, and report the end."""
        self._ended = True
        self._cancelled.set()
        if self.acks:
            self._arrived.clear()
        self._rouse()
        self._on_end(reason)
