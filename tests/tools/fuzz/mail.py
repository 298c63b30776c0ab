"""The publisher of the messages of a fuzz run, and the collector of what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType
from typing import Self

from pamqp import commands

from nuropb_rmq.amqp import frames

from .line import Line, Refused
from .messages import Message

WINDOW = 100
"""Messages that may be unconfirmed."""
SETTLED_WITHIN = 10.0


class Fate(Enum):
    """The broker's decision about a message."""

    ACCEPTED = auto()
    REFUSED = auto()
    UNKNOWN = auto()
    """The connection was closed because of another one, before this was confirmed."""


class Mailer:
    """Publishes with confirms, and connects again whenever the broker closes the connection.

    `route` is the payload of the Basic.Publish of a message; `on_fate` gets it with its fate.
    """

    def __init__(
        self,
        url: str,
        route: Callable[[Message], bytes],
        on_fate: Callable[[Message, Fate], None],
    ) -> None:
        self._url = url
        self._route = route
        self._on_fate = on_fate
        self._unconfirmed: dict[int, Message] = {}
        self._tag = 0
        self._changed = asyncio.Event()
        self._line: Line | None = None
        self._listening: asyncio.Task[None] | None = None
        self.refusals: dict[str, int] = {}
        """Reply code → how often the broker closed the connection or channel with it."""

    async def post(self, message: Message, *, careful: bool) -> None:
        """Publish it; alone, when it may cost the connection: then its fate is known."""
        await self._until(0 if careful else WINDOW - 1)
        if self._listening is None or self._listening.done():
            await self._connect()
        assert self._line is not None
        self._tag += 1
        self._unconfirmed[self._tag] = message
        self._line.write(message.pack(self._route(message)))
        await self._line.drain()
        if careful:
            await self._until(0)

    async def settled(self) -> None:
        """Wait until the fate of everything is known."""
        await self._until(0)

    async def _until(self, most: int) -> None:
        async with asyncio.timeout(SETTLED_WITHIN):
            while len(self._unconfirmed) > most:
                self._changed.clear()
                await self._changed.wait()

    async def _connect(self) -> None:
        await self._hang_up()
        self._line = Line(self._url)
        await self._line.__aenter__()
        await self._line.call(commands.Confirm.Select())
        self._tag = 0
        self._listening = asyncio.create_task(self._listen(self._line), name="mailer")

    async def _listen(self, line: Line) -> None:
        try:
            await line.listen(self._confirmed, lambda _, __: None)
        except (Refused, ConnectionError, asyncio.IncompleteReadError) as e:
            code = str(e.code) if isinstance(e, Refused) else "without a word"
            self.refusals[code] = self.refusals.get(code, 0) + 1
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        fate = Fate.REFUSED if len(unconfirmed) == 1 else Fate.UNKNOWN
        for message in unconfirmed.values():
            self._on_fate(message, fate)
        self._changed.set()

    def _confirmed(self, tag: int, multiple: bool) -> None:
        for each in [each for each in self._unconfirmed if each <= tag] if multiple else [tag]:
            self._on_fate(self._unconfirmed.pop(each), Fate.ACCEPTED)
        self._changed.set()

    async def _hang_up(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
            self._listening = None
        if self._line is not None:
            await self._line.__aexit__(None, None, None)
            self._line = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._hang_up()


class Collector:
    """Declares a queue, if need be, and takes everything out of it: (properties, body)."""

    def __init__(
        self, url: str, queue: str, on_message: Callable[[frames.Properties, bytes], None]
    ) -> None:
        self._line = Line(url)
        self._queue = queue
        self._on_message = on_message
        self._listening: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        await self._line.__aenter__()
        await self._line.call(commands.Queue.Declare(queue=self._queue, durable=True))
        await self._line.call(commands.Basic.Consume(queue=self._queue, no_ack=True))
        listening = self._line.listen(lambda _, __: None, self._take)
        self._listening = asyncio.create_task(listening, name=f"collector of {self._queue}")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ended = self._listening.done()
        self._listening.cancel()
        await asyncio.wait([self._listening])
        await self._line.__aexit__(None, None, None)
        if ended:
            self._listening.result()

    def _take(self, raw_properties: bytes, body: bytes) -> None:
        self._on_message(frames.decode_properties(raw_properties), body)
