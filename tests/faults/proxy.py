"""A TCP proxy between a client and the broker, to break what lies between."""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import Enum, auto
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Wire(Enum):
    """How the wire behaves."""

    PASS = auto()
    HOLE = auto()
    """Accepted, kept open, and nothing is passed on, in either direction."""
    REFUSE = auto()
    """New connections are reset at once."""


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
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self.mode = Wire.PASS
        self.accepted = 0

    @property
    def url(self) -> str:
        """The URL with the proxy in the broker's place."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        userinfo, _, _ = self._parts.netloc.rpartition("@")
        return self._parts._replace(netloc=f"{userinfo}@127.0.0.1:{port}").geturl()

    def set(self, mode: Wire) -> None:
        """Change how the wire behaves from now on."""
        self.mode = mode
        if mode is Wire.HOLE:
            self._passing.clear()
        else:
            self._passing.set()

    def reset(self) -> None:
        """Reset (RST) every connection that there is."""
        for writer in tuple(self._writers):
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.mode is Wire.REFUSE:
            _reset(writer)
            return
        try:
            away, back = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(away, writer))
        self._writers -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            _reset(writer)
        finally:
            writer.close()

    async def __aenter__(self) -> Self:
        self._passing.set()
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
        self._passing.set()
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
