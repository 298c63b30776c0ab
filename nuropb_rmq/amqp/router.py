"""The frame router: an asyncio protocol between the socket and aiormq.

The router cuts the byte stream into frames. Content frames and publisher confirms of registered
channels are kept and go to that channel's listener; everything else goes on to aiormq byte for
byte and in order. Our writes share the socket with aiormq's, whole messages at a time, joined up
to the end of the event loop's tick or to WRITE_SIZE.

The end of a channel is decided here, synchronously with the byte stream: queued frames are
written before aiormq can answer Channel.Close, and nothing of ours is written after it.

Why: docs/decisions/001-a-data-plane-of-our-own.md
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import cast

from ..exceptions import AMQPProtocolError, ConnectionLostError
from ..printable import printable
from ..safe_logging import ServiceLog
from . import frames, getting
from .channel import ChannelListener, ChannelPort
from .greeting import is_frame, problem
from .heartbeat import Liveness, now
from .outflow import Outflow

logger = logging.getLogger("nuropb_rmq.amqp")

HIGH_WATER = 256 * 1024
"""Bytes that may wait to be written before publishers pause."""
UNTUNED_FRAME_MAX = 131_072
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAME_MIN_SIZE = 4096
"""Bytes of the smallest frame_max that may be agreed on (AMQP 0-9-1, 1.2, frame-min-size)."""
HEAD = 7
"""Bytes of a frame before its payload."""
READ_SIZE = 256 * 1024
"""Bytes that are read at once, at most."""
FRAME_MAX_CAP = 16 * 2**20
"""Bytes; used as the frame_max of a broker that sets no limit."""
_UPDATE_SECRET = 10 << 16 | 70
HEADER_ROOM = 64 * 1024
"""Bytes by which a content header frame may exceed frame_max: RabbitMQ adds headers of its own
(x-death, x-delivery-count), also to a message whose header frame was full."""


class FrameRouter(asyncio.StreamReaderProtocol, asyncio.BufferedProtocol):
    """The asyncio protocol of one socket; every connection attempt makes a new one.

    A BufferedProtocol, for asyncio would otherwise allocate READ_SIZE bytes for each read, which
    costs 20 µs, to receive some hundred.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        loop: asyncio.AbstractEventLoop,
        log: ServiceLog,
        *,
        on_blocked: Callable[[str | None], None],
        on_lost: Callable[[ConnectionLostError], None],
        clock: Callable[[], float] = now,
    ) -> None:
        super().__init__(reader, loop=loop)
        self._reader = reader
        self._event_loop = loop
        self._log = log.onto(logger)
        self._on_blocked = on_blocked
        self._on_lost = on_lost
        self._out_transport: asyncio.Transport | None = None
        self._ports: dict[int, ChannelPort] = {}
        # Numbers of channels that were ended and not opened again.
        self._closing: set[int] = set()
        # The event loop reads into this.
        self._space = memoryview(bytearray(READ_SIZE))
        # The start of a frame whose rest has not arrived.
        self._buffer = bytearray()
        # Bytes that `_buffer` must have before it is worth cutting again.
        self._need = 0
        self.heard = False
        # Resolved by the first answer to the protocol header.
        self._greeting: asyncio.Future[None] | None = None
        # The first bytes were no frame.
        self._refused = False
        # The transport's buffer is over its high-water mark.
        self._held = False
        self.writable = True
        """False while buffers are full, the broker blocks us, or the connection has ended."""
        self._liveness = Liveness(loop, clock=clock, show=reader.feed_data, lost=self.abort)
        self._outflow = Outflow(loop, self._liveness, clock)
        self.write = self._outflow.write
        """Queue whole frames; those of one tick leave in one write, or in a few."""
        self.write_now = self._outflow.write_now
        """Write whole frames at once, unless others wait to be written."""
        self.at_flush = self._outflow.at_flush
        """Make a call just before this tick's frames are written."""
        # What update_secret() waits for.
        self._secret_ok: asyncio.Future[None] | None = None
        self.frame_max = UNTUNED_FRAME_MAX
        self.blocked: str | None = None
        self.lost: ConnectionLostError | None = None

    def watch(self, heartbeat: float, patience: float) -> None:
        """Abort the connection when nothing at all has been heard for `patience` seconds.

        Also when the loop stands still for longer than the broker tolerates: LOST_AFTER heartbeats.
        """
        self._liveness.watch(heartbeat, patience)

    # -- registration -----------------------------------------------------------------------

    def register(
        self, number: int, listener: ChannelListener, *, max_body: int = FRAME_MAX_CAP
    ) -> ChannelPort:
        """Keep the content frames of channel `number` for `listener` from now on.

        `max_body` is in bytes; a larger body is dropped as it arrives, and handed over as empty.
        Raises ConnectionLostError when the connection has ended.
        """
        if self.lost is not None:
            raise self.lost
        port = ChannelPort(self, number, listener, max_body)
        self._ports[number] = port
        return port

    def end(self, port: ChannelPort, reason: ConnectionLostError) -> None:
        """End a registration, synchronously: write all queued frames, and nothing more.

        Content that still arrives is dropped until the number is opened again: the broker sends
        some even after its own Channel.Close.
        """
        self._outflow.flush()
        if unsent := self._outflow.drop(port.number):  # the loop stood still: nothing was written
            port.tell_unsent(unsent)
        self._ports.pop(port.number, None)
        self._closing.add(port.number)
        port.tell_closed(reason)

    # -- writing ----------------------------------------------------------------------------

    async def update_secret(self, secret: str) -> None:
        """Give the broker another secret for this connection, and wait until it accepts it.

        Not through aiormq, whose log would show it. Raises ConnectionLostError; a broker that
        refuses the secret closes the connection.
        """
        if self.lost is not None:
            raise self.lost
        self._secret_ok = self._event_loop.create_future()
        self.write(_pack_update_secret(secret))
        await self._secret_ok

    def pause_writing(self) -> None:
        """Pause publishers: the transport's buffer is above its high-water mark."""
        super().pause_writing()
        self._held = True
        self._update_writable()

    def resume_writing(self) -> None:
        """Let publishers go on: the transport's buffer has drained."""
        super().resume_writing()
        self._held = False
        self._update_writable()

    def _update_writable(self, *, tell: bool = True) -> None:
        self.writable = not (self._held or self.blocked is not None or self.lost is not None)
        if self.writable and tell:
            for port in tuple(self._ports.values()):
                port.tell_writable()

    # -- the connection's life --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the open socket."""
        super().connection_made(transport)
        # No isinstance: uvloop's transports are not of asyncio's class.
        self._out_transport = transport = cast(asyncio.Transport, transport)
        self._outflow.transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)

    async def greet(self) -> None:
        """Send the protocol header (AMQP 0-9-1, 4.2.2), and wait for the first bytes of an answer.

        Raises OSError when the connection ends before. Cancelling aborts the connection.
        """
        assert self._out_transport is not None  # noqa: S101 - the socket is open
        self._greeting = self._event_loop.create_future()
        self._out_transport.write(PROTOCOL_HEADER)
        try:
            await self._greeting
        except asyncio.CancelledError:
            self.abort("it did not answer in time")
            raise
        if self.lost is not None:
            raise self._reader.exception() or ConnectionResetError(str(self.lost))

    def _answered(self) -> None:
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the router: release every waiter, and end every port."""
        self._end(ConnectionLostError(f"connection lost: {exc or 'closed'}"))
        super().connection_lost(exc)
        if not (closed := self._closed).cancelled():  # type: ignore[attr-defined]
            closed.exception()  # else asyncio may log it: garbage collection has no order

    def eof_received(self) -> bool:
        """End the router when the broker closes its side: AMQP has no half-open connections."""
        hint = "" if self.heard else ": is this the port of AMQP?"
        self._end(ConnectionLostError(f"the broker closed the connection without a word{hint}"))
        super().eof_received()
        return False

    def abort(self, reason: str) -> None:
        """Close the socket at once; unsent frames are lost."""
        self._end(ConnectionLostError(reason))
        if self._out_transport is not None:
            self._out_transport.abort()

    def _end(self, reason: ConnectionLostError) -> None:
        if self.lost is not None:
            return
        self.lost = reason
        unsent = self._outflow.end()
        self._update_writable()
        self._answered()
        self._liveness.end()
        if self._secret_ok is not None and not self._secret_ok.done():
            self._secret_ok.set_exception(reason)
        self._buffer.clear()
        for port in tuple(self._ports.values()):
            if count := unsent.get(port.number):
                port.tell_unsent(count)
            self.end(port, reason)
        self._on_lost(reason)

    # -- reading ----------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer that the event loop reads into."""
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        """Take `nbytes` bytes that the event loop has read into the buffer."""
        self.data_received(bytes(self._space[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into frames, and hand each to its port or to aiormq."""
        if self.lost is not None:
            return
        self._liveness.heard()
        if not self.heard:
            self.heard = True
            self._answered()
            self._refused = not is_frame(data)
        if self._refused:
            self._read_greeting(data)
            return
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return
            data = bytes(buffer)
            buffer.clear()
        try:
            used = self._cut(data)
        except AMQPProtocolError as e:
            self._fail(e)
            return
        except (IndexError, struct.error) as e:
            self._fail(AMQPProtocolError(f"a frame of the broker ends too early: {e}"))
            return
        if used < len(data) and self.lost is None:
            buffer += memoryview(data)[used:]

    def _read_greeting(self, data: bytes) -> None:
        """Name another server, or a broker with another version of AMQP, once it is recognised."""
        self._buffer += data
        if (found := problem(bytes(self._buffer))) is not None:
            self._fail(AMQPProtocolError(found))

    def _cut(self, data: bytes) -> int:
        # type(1) channel(2) size(4) | payload(size) | 0xCE
        at, end = 0, len(data)
        kept, self._need = False, HEAD
        ports, closing = self._ports, self._closing
        start = frames.FRAME_START.unpack_from
        while end - at >= HEAD:
            kind, number, size = start(data, at)
            if size > self.frame_max - frames.FRAME_OVERHEAD and (
                kind != frames.FRAME_HEADER or size > self.frame_max + HEADER_ROOM
            ):
                raise AMQPProtocolError(
                    f"frame of {size + frames.FRAME_OVERHEAD} bytes on channel {number}, "
                    f"agreed were at most {self.frame_max}"
                )
            stop = at + size + frames.FRAME_OVERHEAD
            if stop > end:
                self._need = size + frames.FRAME_OVERHEAD
                break
            if data[stop - 1] != frames.FRAME_END:
                raise AMQPProtocolError(f"frame on channel {number} has no end octet")
            next_at = stop
            port = ports.get(number)
            if port is not None:
                next_at = port.take(kind, data, at + HEAD, stop, end)
                keep = next_at > 0
            elif number == 0:
                keep = kind == frames.FRAME_METHOD and self._watch_connection(
                    data[at + HEAD : stop - 1]
                )
            else:
                keep = number in closing and self._read_closing(number, kind, data, at)
            if keep:
                kept = True
                at = next_at
            else:
                self._reader.feed_data(data[at:stop])
                at = stop
        if kept:
            self._liveness.show()
        return at

    def _read_closing(self, number: int, kind: int, data: bytes, at: int) -> bool:
        """Return whether to drop a frame of a channel that has ended: content and confirms."""
        if kind != frames.FRAME_METHOD:
            return True
        (method,) = frames.METHOD_ID.unpack_from(data, at + 7)
        if method == frames.CHANNEL_OPEN_OK:
            self._closing.discard(number)
        return method in (
            frames.BASIC_DELIVER,
            frames.BASIC_RETURN,
            frames.BASIC_ACK,
            frames.BASIC_NACK,
            frames.BASIC_CANCEL_OK,
            getting.BASIC_GET_OK,
            getting.BASIC_GET_EMPTY,
        )

    def _watch_connection(self, payload: bytes) -> bool:
        """Act on a method of the connection; return whether it is kept from aiormq."""
        (method,) = frames.METHOD_ID.unpack_from(payload)
        match method:
            case frames.CONNECTION_TUNE:
                agreed = frames.read_tune_frame_max(payload) or FRAME_MAX_CAP
                if agreed < FRAME_MIN_SIZE:
                    raise AMQPProtocolError(
                        f"frame_max: expected at least {FRAME_MIN_SIZE} bytes, got {agreed}"
                    )
                self.frame_max = agreed
            case frames.CONNECTION_BLOCKED:
                self.blocked = printable(frames.read_shortstr(payload, 4)[0])
                self._update_writable()
                self._on_blocked(self.blocked)
            case frames.CONNECTION_UNBLOCKED:
                self.blocked = None
                self._update_writable(tell=False)
                self._on_blocked(None)
                self._update_writable()
            case frames.CONNECTION_UPDATE_SECRET_OK if self._secret_ok is not None:
                if not self._secret_ok.done():
                    self._secret_ok.set_result(None)
                self._secret_ok = None
                return True
            case frames.CONNECTION_CLOSE:
                code, text = frames.read_close(payload)
                text = printable(text)
                self._end(
                    ConnectionLostError(
                        f"the broker closed the connection: {code} {text}", code, text
                    )
                )
        return False

    def _fail(self, problem: AMQPProtocolError) -> None:
        self._log.error("closing the connection: %s", problem)
        self._end(ConnectionLostError(str(problem), 501, str(problem)))
        self._reader.set_exception(ConnectionResetError(str(problem)))
        if self._out_transport is not None:
            self._out_transport.abort()


def _pack_update_secret(secret: str) -> bytes:
    """Pack Connection.UpdateSecret, of RabbitMQ alone (https://www.rabbitmq.com/docs/oauth2)."""
    text = secret.encode()
    reason = frames.shortstr("renewed before its expiry")
    payload = struct.pack(f">II{len(text)}s", _UPDATE_SECRET, len(text), text) + reason
    return frames.FRAME_START.pack(frames.FRAME_METHOD, 0, len(payload)) + payload + b"\xce"
