"""A TCP proxy between a client and the broker, to break what lies between.

It reads AMQP frames where the stream is AMQP in plain, so that a single method can be lost.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from nuropb_rmq.amqp import frames

CHUNK: Final = 65_536
PROTOCOL_HEADER: Final = 8
"""Bytes that a client begins with (AMQP 0-9-1, 4.2.2); frames follow."""
_CONTENT: Final = (frames.BASIC_PUBLISH, frames.BASIC_DELIVER, frames.BASIC_RETURN)
"""Methods that a header frame and body frames belong to."""


class Wire(Enum):
    """The treatment of new connections, and of data on those that there are."""

    PASS = auto()
    HOLE = auto()
    """All stays open, and nothing is passed on, in either direction."""
    REFUSE = auto()
    """New connections are reset at once."""
    SILENT = auto()
    """New connections are accepted and never answered."""


class Way(Enum):
    """A direction."""

    UP = auto()
    """To the broker."""
    DOWN = auto()


class Proxy:
    """Passes on to the broker of an AMQP URL, until told otherwise."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._parts = parts
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._near: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = {way: asyncio.Event() for way in Way}
        self._abandoned: list[asyncio.Event] = []
        self._rate: float | None = None
        self._delay = 0.0
        self._lost: dict[Way, int] = {}
        self._cut: dict[Way, int] = {}
        self.mode = Wire.PASS
        self.accepted = 0
        self.dropped = 0
        """Methods that were lost, as asked by drop()."""

    @property
    def url(self) -> str:
        """The URL with the proxy in the broker's place."""
        userinfo, _, _ = self._parts.netloc.rpartition("@")
        return self._parts._replace(netloc=f"{userinfo}@127.0.0.1:{self.port}").geturl()

    @property
    def port(self) -> int:
        """The port that it listens on, at 127.0.0.1."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    # -- faults -----------------------------------------------------------------------------

    def set(self, mode: Wire) -> None:
        """Change how the wire behaves from now on."""
        self.mode = mode
        for way in Way:
            self._pass(way, mode is not Wire.HOLE)

    def hole(self, way: Way) -> None:
        """Pass on nothing more in one direction, until set() is called."""
        self._pass(way, False)

    def abandon(self) -> None:
        """Keep what is in a hole there until the end; let new connections pass."""
        self._abandoned += self._passing.values()
        self._passing = {way: asyncio.Event() for way in Way}
        self.set(Wire.PASS)

    def _pass(self, way: Way, passing: bool) -> None:
        if passing:
            self._passing[way].set()
        else:
            self._passing[way].clear()

    def slow(self, rate: float | None) -> None:
        """Pass on at most so many bytes a second, in each direction; None: as fast as it goes."""
        self._rate = rate

    def delay(self, seconds: float) -> None:
        """Pass on what arrives so many seconds later, in each direction."""
        self._delay = seconds

    def drop(self, way: Way, method: int) -> None:
        """Lose every such method (a number of amqp.frames) from now on, with its content."""
        self._lost[way] = method

    def cut_after(self, way: Way, size: int) -> None:
        """Reset the connection over which so many more bytes will have gone."""
        self._cut[way] = size

    def say(self, data: bytes) -> None:
        """Tell this to every client in the broker's name, between two of its frames."""
        for writer in self._near:
            writer.write(data)

    def reset(self) -> None:
        """Reset (RST) every connection that there is."""
        for writer in tuple(self._writers):
            _reset(writer)

    def finish(self) -> None:
        """Close (FIN) every connection that there is, as a peer does that ends in order."""
        for writer in tuple(self._writers):
            writer.close()

    # -- passing on -------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.mode is Wire.REFUSE:
            _reset(writer)
            return
        self._writers.add(writer)
        try:
            if self.mode is Wire.SILENT:
                await _swallow(reader)
            else:
                await self._join(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            away, back = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        self._writers.add(back)
        self._near.add(writer)
        try:
            up = self._pump(reader, back, Way.UP)
            await asyncio.gather(up, self._pump(away, writer, Way.DOWN))
        finally:
            self._writers.discard(back)
            self._near.discard(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        stream, passing = Stream(way), self._passing[way]
        try:
            while data := await reader.read(CHUNK):
                await passing.wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                for piece in stream.take(data):
                    if self._is_lost(stream, piece, way):
                        continue
                    await self._send(writer, piece, way)
            await passing.wait()  # the end of a connection does not come out of a hole either
        except OSError:
            await passing.wait()
            _reset(writer)
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, way: Way) -> None:
        if way in self._cut:
            room = self._cut[way]
            self._cut[way] = room - len(data)
            if room <= len(data):
                del self._cut[way]
                writer.write(data[:room])
                await writer.drain()
                self.reset()
                return
        step = len(data) if self._rate is None else max(1, int(self._rate / 20))
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            await writer.drain()
            if self._rate is not None:
                await asyncio.sleep(step / self._rate)

    def _is_lost(self, stream: Stream, frame: bytes, way: Way) -> bool:
        if stream.losing(frame):
            return True
        wanted = self._lost.get(way)
        if wanted is None or stream.method(frame) != wanted:
            return False
        self.dropped += 1
        if wanted in _CONTENT:
            stream.lose_content(frame)
        return True

    async def __aenter__(self) -> Self:
        self.set(Wire.PASS)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.set(Wire.PASS)
        for passing in self._abandoned:
            passing.set()
        self._rate = None
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Stream:
    """One direction of one connection, cut into frames. What is not AMQP in plain stays whole."""

    def __init__(self, way: Way) -> None:
        self._buffer = bytearray()
        self._head = PROTOCOL_HEADER if way is Way.UP else 0
        self._plain: bool | None = None
        self._losing: dict[int, int | None] = {}

    def take(self, data: bytes) -> Iterator[bytes]:
        """Whole frames, as far as they are here."""
        if self._plain is None:
            self._plain = data[:1] == (b"A" if self._head else b"\x01")
        if not self._plain:
            yield data
            return
        buffer = self._buffer
        buffer += data
        while True:
            size = self._head
            if not size:
                if len(buffer) < 7:
                    return
                size = frames.FRAME_START.unpack_from(buffer)[2] + frames.FRAME_OVERHEAD
            if len(buffer) < size:
                return
            yield bytes(buffer[:size])
            del buffer[:size]
            self._head = 0

    def method(self, frame: bytes) -> int | None:
        """The number of the method that a frame holds."""
        if not self._plain or frame[0] != frames.FRAME_METHOD:
            return None
        number: int = frames.METHOD_ID.unpack_from(frame, 7)[0]
        return number

    def lose_content(self, frame: bytes) -> None:
        """The content that belongs to this method is lost with it."""
        self._losing[frames.FRAME_START.unpack_from(frame)[1]] = None

    def losing(self, frame: bytes) -> bool:
        """Return whether this frame is part of a content that is lost."""
        if not self._losing or frame[0] not in (frames.FRAME_HEADER, frames.FRAME_BODY):
            return False
        kind, channel, size = frames.FRAME_START.unpack_from(frame)
        if channel not in self._losing:
            return False
        if kind == frames.FRAME_HEADER:
            remaining: int = frames.CONTENT_HEADER.unpack_from(frame, 7)[2]
        else:
            remaining = (self._losing[channel] or 0) - size
        self._losing[channel] = remaining
        if remaining <= 0:
            del self._losing[channel]
        return True


async def _swallow(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(CHUNK):
            pass
    except OSError:
        return


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
