"""One connection to a broker in this process: takes frames as a socket would, and answers.

It stands below ChannelPort, in the place of FrameRouter. Nothing happens within write(): the next
turn of the event loop takes what was written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from ..amqp import frames, getting
from ..amqp.channel import ChannelListener, ChannelPort
from ..amqp.frames import Content
from ..amqp.getting import Got
from ..exceptions import ConnectionLostError
from .errors import PRECONDITION_FAILED, ChannelError
from .host import VirtualHost
from .message import Stored, published
from .queue import StoredQueue

FRAME_MAX: Final = 131_072
_NO_ROUTE: Final = 312


class _Channel:
    """The broker's side of one channel: its consumer, and messages that are not settled."""

    def __init__(self, host: VirtualHost, port: ChannelPort, max_body: int) -> None:
        self.port = port
        self.no_ack = False
        self.prefetch = 0
        self.room = True
        self.published = 0
        self.unsettled: dict[int, tuple[StoredQueue, Stored]] = {}
        self.queue: StoredQueue | None = None
        self._host = host
        self._max_body = max_body
        self._tag = 0

    # -- as the subscriber of a queue -------------------------------------------------------

    def deliver(self, queue: StoredQueue, message: Stored) -> None:
        """Hand a message to the consumer."""
        self._tag += 1
        if not self.no_ack:
            self.unsettled[self._tag] = queue, message
            self.room = not self.prefetch or len(self.unsettled) < self.prefetch
        content = queue.content(message, self._tag)
        if len(content.body) > self._max_body:
            content.body = b""
        self.port.listener.on_content(content)

    def get(self, queue: StoredQueue) -> None:
        """Hand over the next message that was asked for, or that there is none."""
        message = queue.get()
        if message is None:
            self.port.listener.on_content(getting.nothing())
            return
        self._tag += 1
        self.unsettled[self._tag] = queue, message
        content = queue.content(message, self._tag)
        body = content.body if len(content.body) <= self._max_body else b""
        self.port.listener.on_content(
            Got(
                self._tag,
                content.redelivered,
                content.route,
                raw_properties=content.raw_properties,
                body_size=content.body_size,
                body=body,
                left=len(queue),
            )
        )

    def cancelled(self) -> None:
        """Tell the consumer that its queue is gone."""
        self.queue = None
        self.port.listener.on_cancelled(True)

    # -- requests ---------------------------------------------------------------------------

    def settle(self, method: int, tag: int, bits: int) -> None:
        """Do what Basic.Ack, Nack or Reject says. Raises ChannelError for an unknown tag."""
        multiple = bits & 1 == 1 and method != frames.BASIC_REJECT
        if tag not in self.unsettled and (tag or not multiple):
            raise ChannelError(PRECONDITION_FAILED, f"unknown delivery tag {tag}")
        tags = [n for n in self.unsettled if not tag or n <= tag] if multiple else [tag]
        settled: dict[StoredQueue, list[Stored]] = {}
        for each in tags:
            queue, message = self.unsettled.pop(each)
            settled.setdefault(queue, []).append(message)
        if not self.room:
            self.room = not self.prefetch or len(self.unsettled) < self.prefetch
            if self.room and self.queue is not None:
                self.queue.has_room(self)
        requeue = bits & (1 if method == frames.BASIC_REJECT else 2)
        for queue, messages in settled.items():
            if method == frames.BASIC_ACK:
                pass
            elif requeue:
                # From RabbitMQ 4.3 on, Basic.Nack does not count.
                queue.give_back(messages, counts=method == frames.BASIC_REJECT)
            else:
                for message in messages:
                    queue.reject(message)
            queue.deliver()

    def cancel(self) -> None:
        """Deliver nothing more."""
        if self.queue is not None:
            queue, self.queue = self.queue, None
            queue.unsubscribe(self)

    def end(self) -> list[StoredQueue]:
        """Give back what is not settled; return the queues that can deliver again."""
        self.cancel()
        unsettled, self.unsettled = self.unsettled, {}
        by_queue: dict[StoredQueue, list[Stored]] = {}
        for queue, message in unsettled.values():
            by_queue.setdefault(queue, []).append(message)
        for queue, messages in by_queue.items():
            queue.give_back(messages, counts=True)
        return list(by_queue)


class MemoryRouter:
    """The channels of one connection."""

    def __init__(
        self,
        host: VirtualHost,
        on_lost: Callable[[ConnectionLostError], None],
        *,
        holds: bool,
    ) -> None:
        """`holds` says whether the broker lives at least as long as this connection.

        One that does not only declares, and may do so from any event loop. Raises
        NuropbTransportError.
        """
        host.check_process()
        self.frame_max = FRAME_MAX
        self.writable = True
        self.blocked: str | None = None
        self.lost: ConnectionLostError | None = None
        self.host = host
        self._holds = holds
        if holds:
            host.check_loop()
            host.join(self)
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._channels: dict[int, _Channel] = {}
        self._written: deque[bytes] = deque()
        self._at_flush: list[Callable[[], None]] = []
        self._due = False
        self._opened = 0

    def new_number(self) -> int:
        """Open a channel. Raises ConnectionLostError when the connection has ended."""
        if self.lost is not None:
            raise self.lost
        self._opened += 1
        return self._opened

    def close(self, number: int, reason: str) -> None:
        """Close a channel from the control plane."""
        channel = self._channels.get(number)
        if channel is not None:
            self.end(channel.port, ConnectionLostError(reason))

    def register(self, number: int, listener: ChannelListener, *, max_body: int) -> ChannelPort:
        """Make a channel. Raises ConnectionLostError when the connection has ended."""
        if self.lost is not None:
            raise self.lost
        port = ChannelPort(self, number, listener, max_body)
        self._channels[number] = _Channel(self.host, port, max_body)
        return port

    def consume(self, number: int, queue: str, *, prefetch: int, no_ack: bool) -> None:
        """Begin to deliver to a channel's listener. Raises ChannelError."""
        found = self.host.queue(queue, self)
        channel = self._channels[number]
        channel.prefetch, channel.no_ack = prefetch, no_ack
        channel.queue = found
        found.subscribe(channel)
        found.deliver()

    def flush(self) -> None:
        """Take what was written, before another request of the connection."""
        self._take_all()

    # -- as the owner of ports --------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Put whole frames in line."""
        self._written.append(data)
        self._schedule()

    write_now = write

    def at_flush(self, call: Callable[[], None]) -> None:
        """Call it before this tick's frames are taken."""
        self._at_flush.append(call)
        self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._take_all)

    def end(self, port: ChannelPort, reason: ConnectionLostError) -> None:
        """Take what was written, then end a channel: what it has not settled goes back."""
        self._take_all()
        self._finish(port, reason)

    def _finish(self, port: ChannelPort, reason: ConnectionLostError) -> None:
        channel = self._channels.pop(port.number, None)
        if channel is not None:
            queues = channel.end()
            port.tell_closed(reason)
            for queue in queues:
                queue.deliver()

    def abort(self, reason: str) -> None:
        """End the connection."""
        if self.lost is not None:
            return
        lost = ConnectionLostError(reason)
        self._take_all()
        for channel in self._channels.values():
            channel.cancel()  # nothing that one gives back goes to another of them
        for channel in tuple(self._channels.values()):
            self.end(channel.port, lost)
        self.lost, self.writable = lost, False
        if self._holds:
            self.host.leave(self)
        self._on_lost(lost)

    def forsake(self) -> None:
        """Give back what is not settled, and tell nobody: the event loop is closed."""
        for channel in self._channels.values():
            channel.cancel()
        for channel in self._channels.values():
            channel.end()
        self._channels.clear()

    # -- frames -----------------------------------------------------------------------------

    def _take_all(self) -> None:
        while self._at_flush:
            self._at_flush.pop()()
        self._due = False
        written = self._written
        publishing: dict[_Channel, None] = {}
        while written:  # one by one: a delivery may end a channel, which takes the rest
            data = written.popleft()
            number = int.from_bytes(data[1:3])
            channel = self._channels.get(number)
            if channel is None:
                continue  # it has ended, as behind a Channel.Close
            try:
                if self._take(channel, data):
                    publishing[channel] = None
            except ChannelError as e:
                publishing.pop(channel, None)  # as in RabbitMQ, what is unconfirmed remains so
                problem = f"the broker closed the channel: {e.code} {e.text}"
                self._finish(channel.port, ConnectionLostError(problem, e.code, e.text))
        for channel in publishing:
            if channel.port.open:
                channel.port.listener.on_confirm(channel.published, True, True)

    def _take(self, channel: _Channel, data: bytes) -> bool:
        """Take one method, with its content; True when it is to be confirmed."""
        _, _, size = frames.FRAME_START.unpack_from(data)
        (method,) = frames.METHOD_ID.unpack_from(data, 7)
        if method == frames.BASIC_PUBLISH:
            channel.published += 1
            return self._publish(channel, data, 7 + size + 1)
        if method == getting.BASIC_GET:
            channel.get(self.host.queue(getting.read_get(data[7 : 7 + size]), self))
            return False
        if method == frames.BASIC_CANCEL:
            channel.cancel()
            channel.port.listener.on_cancelled(False)
            return False
        (tag,) = frames.DELIVERY_TAG.unpack_from(data, 11)
        channel.settle(method, tag, data[19])
        return False

    def _publish(self, channel: _Channel, data: bytes, header: int) -> bool:
        exchange, key, route, mandatory = _destination(data[11 : header - 1])
        _, _, size = frames.FRAME_START.unpack_from(data, header)
        (_, _, body_size) = frames.CONTENT_HEADER.unpack_from(data, header + 7)
        body_at = header + 7 + size + 1
        properties = data[header + 7 + frames.CONTENT_HEADER.size : body_at - 1]
        message = published(route, key, properties, _body(data, body_at, body_size))
        queues = self.host.route(exchange, message)
        if not queues and mandatory:
            channel.port.listener.on_content(
                Content(0, False, route, _NO_ROUTE, "NO_ROUTE", properties, body_size, message.body)
            )
        refused = False
        for queue in queues:
            if queue.admits(message):
                queue.put(message if len(queues) == 1 else message.copy())
            else:
                refused = True
        if refused:
            channel.port.listener.on_confirm(channel.published, False, False)
        elif self.host.keepers and (queues or not mandatory):
            self.host.tell(message)
        return not refused


@lru_cache(maxsize=1024)
def _destination(arguments: bytes) -> tuple[str, str, bytes, bool]:
    """Read exchange, routing key, both in one and `mandatory` of a Basic.Publish, from a cache."""
    exchange, at = frames.read_shortstr(arguments, 2)
    key, at = frames.read_shortstr(arguments, at)
    return exchange, key, arguments[2:at], arguments[at] & 1 == 1


def _body(data: bytes, at: int, size: int) -> bytes:
    """Join the body frames that begin at an offset."""
    parts = []
    while size:
        _, _, length = frames.FRAME_START.unpack_from(data, at)
        parts.append(data[at + 7 : at + 7 + length])
        at += length + frames.FRAME_OVERHEAD
        size -= length
    return parts[0] if len(parts) == 1 else b"".join(parts)
