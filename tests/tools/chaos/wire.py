"""The proxy between one program and the broker; each connection through it breaks by itself.

Unlike the proxy of the fault tests it can lose the connections that there are, for ever, while new
ones pass, as a firewall does that forgets them; and it can say something in the program's name.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self

from nuropb_rmq.amqp import frames

from .plan import Ways

CHUNK: Final = 65_536
PROTOCOL_HEADER: Final = 8
"""Bytes that a client begins with (AMQP 0-9-1, 4.2.2); frames follow."""
NO_SUCH_TAG: Final = 2**40
"""A delivery tag that the broker has never given: to acknowledge it costs the channel (406)."""
_CONSUME: Final = 60 << 16 | 20
_SELECT_CONFIRMS: Final = 85 << 16 | 10
_STEPS: Final = 20
"""Of a slow wire, each second."""


class Use(Enum):
    """The use of a channel, where it is of interest to a fault."""

    CONSUMING = auto()
    PUBLISHING = auto()


class Stream:
    """The data that a program sends over one connection, cut into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head = PROTOCOL_HEADER
        self.content: dict[int, int | None] = {}
        """Channel → bytes of the body that are still to come; None: the header is, too."""
        self.uses: dict[int, Use] = {}

    def take(self, data: bytes) -> bytes:
        """All frames that are whole by now."""
        buffer = self._buffer
        buffer += data
        at, self._head = self._head, 0
        if len(buffer) < at:
            at, self._head = 0, at
        while len(buffer) - at >= 7 and not self._head:
            kind, number, size = frames.FRAME_START.unpack_from(buffer, at)
            end = at + size + frames.FRAME_OVERHEAD
            if end > len(buffer):
                break
            self._see(kind, number, bytes(buffer[at + 7 : end - 1]))
            at = end
        whole = bytes(buffer[:at])
        del buffer[:at]
        return whole

    def _see(self, kind: int, number: int, payload: bytes) -> None:
        if kind == frames.FRAME_METHOD:
            match frames.METHOD_ID.unpack_from(payload)[0]:
                case frames.BASIC_PUBLISH:
                    self.content[number] = None
                case found if found == _CONSUME:
                    self.uses[number] = Use.CONSUMING
                case found if found == _SELECT_CONFIRMS:
                    self.uses[number] = Use.PUBLISHING
                case frames.CHANNEL_CLOSE | frames.CHANNEL_CLOSE_OK:
                    self.uses.pop(number, None)
            return
        remaining = self.content.get(number)
        if kind == frames.FRAME_HEADER:
            remaining = frames.CONTENT_HEADER.unpack_from(payload)[2]
        elif kind == frames.FRAME_BODY:
            remaining = (remaining or 0) - len(payload)
        self.content[number] = remaining
        if not remaining:
            self.content.pop(number)

    def spoiling(self, use: Use) -> bytes:
        """Frames that make the broker close the channels of this use. Not within a message."""
        return b"".join(
            frames.pack_ack(number, NO_SUCH_TAG)
            for number, found in self.uses.items()
            if found is use and number not in self.content
        )


class Connection:
    """One connection: the program's socket, and the broker's."""

    def __init__(self, proxy: Proxy, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._near = near
        self._far = far
        self._stream = Stream()
        self._silent = {Ways.UP: False, Ways.DOWN: False}
        self._turns = {Ways.UP: asyncio.Lock(), Ways.DOWN: asyncio.Lock()}
        """Held while whole frames are written."""
        self._cutting = False
        self._ended = asyncio.Event()

    async def run(self, near: asyncio.StreamReader, far: asyncio.StreamReader) -> None:
        """Pass on, until both ends have ended."""
        try:
            await asyncio.gather(
                self._pump(near, self._far, Ways.UP), self._pump(far, self._near, Ways.DOWN)
            )
        finally:
            self._near.close()
            self._far.close()
            self._ended.set()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Ways
    ) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._proxy.passing.wait()
                async with self._turns[way]:
                    if way is Ways.UP:
                        data = self._stream.take(data)
                    if way is Ways.DOWN and self._cutting:
                        writer.write(data[: len(data) // 2])
                        self.reset()
                    elif not self._silent[way]:
                        await self._pass_on(writer, data)
        except OSError:
            if not self._silent[way]:
                reset(writer)
        else:
            if not self._silent[way]:
                writer.close()

    async def _pass_on(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        rate = self._proxy.rate
        if rate is None or not data:
            writer.write(data)
            await writer.drain()
            return
        step = max(1, int(rate / _STEPS))
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            await writer.drain()
            if self._proxy.rate is not None:
                await asyncio.sleep(1 / _STEPS)

    def silence(self, ways: Ways) -> None:
        """Swallow everything from now on, the end of the connection too."""
        for way in self._silent:
            if ways in (way, Ways.BOTH):
                self._silent[way] = True

    def reset(self) -> None:
        """RST, to both ends."""
        reset(self._near)
        reset(self._far)

    async def cut(self, within: float) -> bool:
        """Let the program have half of what the broker sends next, then reset; whether it came."""
        self._cutting = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._ended.wait()
        self._cutting = False
        return self._ended.is_set()

    def finish(self) -> None:
        """FIN, to both ends."""
        self._near.close()
        self._far.close()

    async def spoil(self, use: Use) -> bool:
        """Have the broker close the channels of this use; False when that cannot be done now."""
        async with self._turns[Ways.UP]:
            data = self._stream.spoiling(use)
            passing = self._proxy.passing.is_set() and not self._silent[Ways.UP]
            if not data or not passing or self._far.is_closing():
                return False
            self._far.write(data)
            return True


class Proxy:
    """Between one program and the broker on `port` of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self.passing = asyncio.Event()
        self.passing.set()
        self.rate: float | None = None
        """Bytes a second, in each direction; None: as fast as it goes."""

    @property
    def port(self) -> int:
        """The port that it listens on, at 127.0.0.1."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Those that there are."""
        return tuple(self._connections)

    def away(self, away: bool) -> None:
        """Hold everything back, of new connections too; or pass it on, what was held first."""
        if away:
            self.passing.clear()
        else:
            self.passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            reset(writer)
            return
        connection = Connection(self, writer, far)
        self._connections.add(connection)
        try:
            await connection.run(reader, far_reader)
        finally:
            self._connections.discard(connection)

    async def __aenter__(self) -> Self:
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
        self.away(False)
        self.rate = None
        while self._tasks:  # one may just be about to connect
            for connection in self.connections:
                connection.reset()
            await asyncio.wait(tuple(self._tasks), timeout=0.1)


def reset(writer: asyncio.StreamWriter) -> None:
    """Abort with an RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
