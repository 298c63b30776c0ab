"""An AMQP connection of the tests' own: bytes go out as they are given, and come in as they are.

pamqp packs what logs in and opens channels; content is packed and read here, by hand, for pamqp
refuses to make what a hostile peer sends, and to read what a broker passes on of it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pamqp.frame
from pamqp import commands
from pamqp.base import Frame
from pamqp.header import ProtocolHeader

from nuropb_rmq.amqp import frames

FRAME_MAX = 131_072
NUMBER = 1
"""The one channel of each line."""
LOGGED_IN_WITHIN = 10.0


class Refused(Exception):  # noqa: N818 - what the broker does, not an error of ours
    """The broker has closed the channel or the connection."""

    def __init__(self, code: int, text: str, *, connection: bool) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.connection = connection


class Line:
    """A connection with one channel. Use it with `async with`; `listen` reads what comes."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(LOGGED_IN_WITHIN):
            self._reader, self._writer = await asyncio.open_connection(
                self._url.hostname, self._url.port
            )
            self.write(ProtocolHeader().marshal())
            await self._heard("Connection.Start")
            secret = f"\0{self._url.username}\0{self._url.password}"
            self._say(0, commands.Connection.StartOk({}, "PLAIN", secret, "en_US"))
            await self._heard("Connection.Tune")
            self._say(0, commands.Connection.TuneOk(NUMBER, FRAME_MAX, 0))
            self._say(0, commands.Connection.Open(unquote(self._url.path[1:]) or "/"))
            await self._heard("Connection.OpenOk")
            await self.open_channel()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0)

    async def open_channel(self) -> None:
        """Open the channel, for the first time or after the broker has closed it."""
        await self.call(commands.Channel.Open())

    async def call(self, frame: Frame) -> Any:
        """Say something on the channel, and wait for its answer. Raises Refused."""
        self._say(NUMBER, frame)
        return await self._heard(*frame.valid_responses)

    def write(self, data: bytes) -> None:
        """Put these bytes on the wire."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until there is room on the wire."""
        await self._writer.drain()

    def _say(self, number: int, frame: Frame) -> None:
        self.write(pamqp.frame.marshal(frame, number))

    async def _heard(self, *names: str) -> Any:
        while True:
            kind, number, payload = await self._frame()
            if kind == frames.FRAME_METHOD:
                self._heed(number, payload)
                frame = _unmarshal(number, payload)
                if frame.name in names:
                    return frame

    async def listen(
        self,
        on_confirm: Callable[[int, bool], object],
        on_message: Callable[[bytes, bytes], object],
    ) -> None:
        """Tell of confirms (tag, multiple) and deliveries (properties, body) until the end.

        Raises Refused, and ConnectionError and asyncio.IncompleteReadError when it just ends.
        """
        properties, body, due = b"", bytearray(), 0
        while True:
            kind, number, payload = await self._frame()
            if kind == frames.FRAME_METHOD:
                (method,) = frames.METHOD_ID.unpack_from(payload)
                if method in (frames.BASIC_ACK, frames.BASIC_NACK):
                    assert method == frames.BASIC_ACK, "the broker could not take a message"
                    on_confirm(frames.DELIVERY_TAG.unpack_from(payload, 4)[0], payload[12] & 1 == 1)
                else:
                    self._heed(number, payload)
                continue
            if kind == frames.FRAME_HEADER:
                due = frames.CONTENT_HEADER.unpack_from(payload)[2]
                properties, body = payload[12:], bytearray()
            elif kind == frames.FRAME_BODY:
                body += payload
            else:
                continue
            if len(body) == due:
                on_message(properties, bytes(body))

    async def _frame(self) -> tuple[int, int, bytes]:
        head = await self._reader.readexactly(7)
        kind, number, size = frames.FRAME_START.unpack(head)
        payload = await self._reader.readexactly(size + 1)
        assert payload[-1] == frames.FRAME_END
        return kind, number, payload[:-1]

    def _heed(self, number: int, payload: bytes) -> None:
        """Answer an end, and raise it."""
        (method,) = frames.METHOD_ID.unpack_from(payload)
        if method == frames.CHANNEL_CLOSE:
            self._say(number, commands.Channel.CloseOk())
        elif method == frames.CONNECTION_CLOSE:
            self._say(0, commands.Connection.CloseOk())
        else:
            return
        code, text = frames.read_close(payload)
        raise Refused(code, text, connection=number == 0)


def _unmarshal(number: int, payload: bytes) -> Any:
    start = frames.FRAME_START.pack(frames.FRAME_METHOD, number, len(payload))
    return pamqp.frame.unmarshal(start + payload + b"\xce")[2]


def pack_frame(kind: int, payload: bytes) -> bytes:
    """Any frame on the channel."""
    return struct.pack(">BHI", kind, NUMBER, len(payload)) + payload + b"\xce"
