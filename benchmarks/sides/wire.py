"""AMQP 0-9-1 with nothing but what the floor needs: hand-packed frames, no errors, no recovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import cast
from urllib.parse import urlsplit

FRAME_MAX = 131_072
END = b"\xce"
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
CONSUMER = b"c"
"""The consumer tag: of one byte, so that all behind it has its place."""

_FRAME = Struct(">BHI")
_DELIVER = 60 << 16 | 60
_METHOD = Struct(">I")
_SIZE = Struct(">Q")
_HEADER_TO_BODY = Struct(">BHIHHQ")
_ACK = Struct(">BHIIQBB")

OnDelivery = Callable[[int, memoryview, bytes], None]
"""Delivery tag, properties from their flags on, body."""


def short(text: bytes) -> bytes:
    """A short string."""
    return b"%c%s" % (len(text), text)


def frame(kind: int, payload: bytes) -> bytes:
    """A frame of channel 1, or 0 for the connection class."""
    channel = 0 if payload[:2] == b"\x00\x0a" else 1
    return _FRAME.pack(kind, channel, len(payload)) + payload + END


def method(class_id: int, method_id: int, *arguments: bytes) -> bytes:
    """A method frame."""
    return frame(1, _METHOD.pack(class_id << 16 | method_id) + b"".join(arguments))


def publish_method(exchange: bytes, routing_key: bytes) -> bytes:
    """Basic.Publish, without its content."""
    return method(60, 40, b"\x00\x00", short(exchange), short(routing_key), b"\x00")


def content(properties: bytes, body: bytes) -> bytes:
    """Content header and body; `properties` begin with their flags."""
    size = len(body)
    header = _HEADER_TO_BODY.pack(2, 1, 12 + len(properties), 60, 0, size)
    room = FRAME_MAX - 8
    if size <= room:
        return b"%s%s\xce%s%s\xce" % (header, properties, _FRAME.pack(3, 1, size), body)
    parts = [body[at : at + room] for at in range(0, size, room)]
    return b"%s%s\xce%s" % (header, properties, b"".join(frame(3, part) for part in parts))


def ack(tag: int, *, multiple: bool) -> bytes:
    """Basic.Ack of this delivery tag, or of all up to it."""
    return _ACK.pack(1, 1, 13, 60 << 16 | 80, tag, multiple, 0xCE)


class Wire(asyncio.BufferedProtocol):
    """One connection with one channel; with `joined`, what one turn of the loop writes is one."""

    def __init__(self, joined: bool) -> None:
        self._joined = joined
        self._loop = asyncio.get_running_loop()
        self._space = memoryview(bytearray(256 * 1024))
        self._kept = b""
        self._out: list[bytes] = []
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._tag = 0
        self._properties: memoryview | None = None
        self._body: list[bytes] = []
        self._missing = 0
        self.on_delivery: OnDelivery | None = None
        self.on_batch: Callable[[], None] | None = None

    # -- out --------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Now, or at the end of this turn of the loop."""
        if not self._joined:
            self._transport.write(data)
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._transport.write(b"".join(out))

    async def ask(self, class_id: int, method_id: int, *arguments: bytes) -> bytes:
        """A method that is answered; the payload of the answer."""
        self.write(method(class_id, method_id, *arguments))
        answer = await self._answers.get()
        if answer[:4] in (
            b"",
            b"\x00\x0a\x00\x32",
            b"\x00\x14\x00\x28",
        ):  # a Close, of either class
            raise ConnectionError(f"{class_id}.{method_id} was answered with {answer!r}")
        return answer

    async def declare(self, queue: bytes, flags: bytes) -> None:
        """Queue.Declare: passive 1, durable 2, exclusive 4, auto-delete 8."""
        await self.ask(50, 10, b"\x00\x00", short(queue), flags, b"\x00" * 4)

    async def bind(self, queue: bytes, exchange: bytes, key: bytes) -> None:
        """Queue.Bind."""
        names = (short(queue), short(exchange), short(key))
        await self.ask(50, 20, b"\x00\x00", *names, b"\x00", b"\x00" * 4)

    async def consume(self, queue: bytes, on_delivery: OnDelivery, *, no_ack: bool) -> None:
        """Basic.Consume."""
        self.on_delivery = on_delivery
        flags = b"\x02" if no_ack else b"\x00"
        await self.ask(60, 20, b"\x00\x00", short(queue), short(CONSUMER), flags, b"\x00" * 4)

    async def qos(self, prefetch: int) -> None:
        """Basic.Qos."""
        await self.ask(60, 10, b"\x00" * 4, prefetch.to_bytes(2, "big"), b"\x00")

    def close(self) -> None:
        """Without a word."""
        self._transport.abort()

    # -- in ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"AMQP\x00\x00\x09\x01")

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is mended here."""
        self._answers.put_nowait(b"")

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the space to read into."""
        return self._space

    def buffer_updated(self, count: int) -> None:
        """Frames, whole and not."""
        data = self._kept + self._space[:count]
        self._kept = data[self._take(data) :]
        if self.on_batch is not None:
            self.on_batch()

    def _take(self, data: bytes) -> int:
        """Read all whole frames; where the first other one begins."""
        at, size = 0, len(data)
        while size - at >= 8:
            kind, _, length = _FRAME.unpack_from(data, at)
            start, end = at + 7, at + 7 + length
            if end + 1 > size:
                break
            at = end + 1
            if kind == 1:
                if _METHOD.unpack_from(data, start)[0] == _DELIVER:
                    (self._tag,) = _SIZE.unpack_from(data, start + 6)
                else:
                    self._answers.put_nowait(data[start:end])
            elif kind == 2:
                (self._missing,) = _SIZE.unpack_from(data, start + 4)
                self._properties = memoryview(data)[start + 12 : end]
            elif kind == 3:
                self._take_body(data[start:end])
            else:
                self.write(HEARTBEAT)
        return at

    def _take_body(self, part: bytes) -> None:
        self._missing -= len(part)
        if self._missing:
            self._body.append(part)
            return
        if self._body:
            part = b"".join((*self._body, part))
            self._body.clear()
        if self.on_delivery is not None and self._properties is not None:
            self.on_delivery(self._tag, self._properties, part)


async def connect(url: str, *, joined: bool) -> Wire:
    """A connection with an open channel."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(
        lambda: Wire(joined), str(parts.hostname), parts.port or 5672
    )
    await wire._answers.get()  # Connection.Start
    plain = b"\x00guest\x00guest"
    login = (b"\x00" * 4, short(b"PLAIN"), len(plain).to_bytes(4, "big"), plain, short(b"en_US"))
    await wire.ask(10, 11, *login)  # StartOk; Connection.Tune
    wire.write(method(10, 31, b"\x07\xff", FRAME_MAX.to_bytes(4, "big"), b"\x00\x3c"))
    await wire.ask(10, 40, short(parts.path[1:].encode()), b"\x00\x00")
    await wire.ask(20, 10, b"\x00")
    return wire
