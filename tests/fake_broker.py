"""A server on loopback that speaks as much AMQP as a login and a channel need.

For what a real broker cannot be brought to do: drop a login half-way, stay silent, answer late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import pamqp.frame
from pamqp import commands

from .support import eventually

Answer = Callable[[Any], object]
"""A frame that arrived → the frame to answer with, bytes as they are, or None for silence."""

_CAPABILITIES = {"publisher_confirms": True, "basic.nack": True, "consumer_cancel_notify": True}


def polite(frame: Any) -> object:
    """The answers of a broker that is well."""
    answers = {
        "Connection.StartOk": commands.Connection.Tune(2047, 131_072, 60),
        "Connection.Open": commands.Connection.OpenOk(),
        "Connection.Close": commands.Connection.CloseOk(),
        "Channel.Open": commands.Channel.OpenOk(),
        "Channel.Close": commands.Channel.CloseOk(),
        "Confirm.Select": commands.Confirm.SelectOk(),
        "Exchange.Declare": commands.Exchange.DeclareOk(),
        "Queue.Declare": commands.Queue.DeclareOk("q", 0, 0),
        "Basic.Qos": commands.Basic.QosOk(),
    }
    if frame.name == "Basic.Consume":
        return commands.Basic.ConsumeOk(frame.consumer_tag)
    return answers.get(frame.name)


def silent_on(*names: str) -> Answer:
    """Polite, but for these methods, which are never answered."""
    return lambda frame: None if frame.name in names else polite(frame)


def saying(name: str, data: bytes) -> Answer:
    """Polite, but for this method, which is answered with these bytes."""
    return lambda frame: data if frame.name == name else polite(frame)


class FakeBroker:
    """Use it with `async with`; `answer` and `refusing` may be changed while it runs."""

    def __init__(self, answer: Answer = polite) -> None:
        self.answer = answer
        self.refusing = False
        self.attempts = 0
        self.received: list[tuple[int, Any]] = []
        """(channel, frame), of all connections."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def url(self) -> str:
        """The URL that it listens at."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def frames(self, name: str) -> list[Any]:
        """The frames of this name that arrived."""
        return [frame for _, frame in self.received if frame.name == name]

    async def until(self, name: str) -> Any:
        """Wait for a frame of this name; the last one."""
        await eventually(lambda: self.frames(name))
        return self.frames(name)[-1]

    def send(self, *data: bytes) -> None:
        """Send to every connection."""
        for writer in self._writers:
            writer.write(b"".join(data))

    def drop(self) -> None:
        """Reset every connection."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if not self.refusing:
                await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the peer has gone, or drop() was called
        finally:
            writer.close()
            with suppress(ConnectionError):  # else it is logged as an error that nobody has taken
                await writer.wait_closed()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        properties: Any = {"capabilities": _CAPABILITIES}
        start = commands.Connection.Start(0, 9, properties, "PLAIN", "en_US")
        writer.write(pamqp.frame.marshal(start, 0))
        while True:
            head = await reader.readexactly(7)
            rest = await reader.readexactly(int.from_bytes(head[3:]) + 1)
            _, number, frame = pamqp.frame.unmarshal(head + rest)
            self.received.append((number, frame))
            answer: Any = self.answer(frame)
            if isinstance(answer, bytes):
                writer.write(answer)
            elif answer is not None:
                writer.write(pamqp.frame.marshal(answer, number))
