"""A frame router without a network: what it is fed, and what comes out where."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pamqp.frame
from pamqp import commands
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.channel import ChannelPort
from nuropb_rmq.amqp.frames import Content
from nuropb_rmq.amqp.router import FRAME_MAX_CAP, FrameRouter
from nuropb_rmq.exceptions import ConnectionLostError

from ...support import LOG

Event = tuple[Any, ...]
"""A call that a listener got: ("content", …), ("confirm", tag, multiple, acked), and so on."""


class Listener:
    """A listener that writes down every call of a channel."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.reasons: list[ConnectionLostError] = []

    def on_content(self, content: Content) -> None:
        """Write it down, read."""
        self.events.append(
            (
                "content",
                content.tag,
                content.redelivered,
                content.exchange,
                content.routing_key,
                content.reply_code,
                content.reply_text,
                content.raw_properties,
                content.body_size,
                content.body,
            )
        )

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Write it down."""
        self.events.append(("confirm", tag, multiple, acked))

    def on_cancelled(self, by_broker: bool) -> None:
        """Write it down."""
        self.events.append(("cancelled", by_broker))

    def on_writable(self) -> None:
        """Write it down."""
        self.events.append(("writable",))

    def on_unsent(self, count: int) -> None:
        """Write it down."""
        self.events.append(("unsent", count))

    def on_closed(self, reason: ConnectionLostError) -> None:
        """Write it down."""
        self.events.append(("closed",))
        self.reasons.append(reason)


class Clock:
    """The running loop, with a clock that tests can put forward."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ahead = 0.0

    def time(self) -> float:
        """Seconds."""
        return self._loop.time() + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Reader(asyncio.StreamReader):
    """aiormq's end; notes what it is fed, in the log that it shares with the socket's end."""

    def __init__(self, log: list[tuple[str, bytes]]) -> None:
        super().__init__(limit=2**30, loop=asyncio.get_running_loop())
        self._log = log

    def feed_data(self, data: Any) -> None:
        """Note the data that the router passes on."""
        self._log.append(("feed", bytes(data)))
        super().feed_data(data)


class Transport(asyncio.Transport):
    """The socket's end; notes what is written, and ends the protocol when it is aborted."""

    def __init__(self, log: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self._log = log
        self.protocol: asyncio.BaseProtocol | None = None
        self.aborted = 0
        self.high_water: int | None = None

    def write(self, data: Any) -> None:
        """Note the data that would go to the broker."""
        self._log.append(("write", bytes(data)))

    def abort(self) -> None:
        """As asyncio's own: call connection_lost() in the next tick, once."""
        self.aborted += 1
        if self.protocol is not None:
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
            self.protocol = None

    def close(self) -> None:
        """The same here."""
        self.abort()

    def is_closing(self) -> bool:
        """Return whether it was aborted."""
        return self.protocol is None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Noted."""
        self.high_water = high

    def pause_reading(self) -> None:
        """Of no consequence."""


class Harness:
    """A router between a Reader and a Transport, with listeners on channels of these numbers."""

    def __init__(self, *numbers: int, max_body: int = FRAME_MAX_CAP) -> None:
        self.log: list[tuple[str, bytes]] = []
        self.blocked: list[str | None] = []
        self.lost: list[ConnectionLostError] = []
        self.clock = Clock()
        self.reader = Reader(self.log)
        self.router = FrameRouter(
            self.reader,
            cast(asyncio.AbstractEventLoop, self.clock),
            LOG,
            on_blocked=self.blocked.append,
            on_lost=self.lost.append,
            clock=self.clock.time,
        )
        self.transport = Transport(self.log)
        self.transport.protocol = self.router
        self.router.connection_made(self.transport)
        self.listeners: dict[int, Listener] = {}
        self.ports: dict[int, ChannelPort] = {}
        for number in numbers:
            self.register(number, max_body=max_body)

    def register(self, number: int, *, max_body: int = FRAME_MAX_CAP) -> ChannelPort:
        """A new listener on this channel."""
        listener = self.listeners[number] = Listener()
        port = self.ports[number] = self.router.register(number, listener, max_body=max_body)
        return port

    def feed(self, *chunks: bytes) -> None:
        """Pass data to the router, as if it came from the socket."""
        for chunk in chunks:
            self.router.data_received(chunk)

    @property
    def passed(self) -> bytes:
        """The bytes that aiormq got, in order."""
        return b"".join(data for what, data in self.log if what == "feed")

    @property
    def writes(self) -> list[bytes]:
        """Each write to the socket."""
        return [data for what, data in self.log if what == "write"]

    def events(self, number: int = 1) -> list[Event]:
        """Return the calls that the channel's listener got."""
        return self.listeners[number].events


@contextmanager
def naming(case: object) -> Iterator[None]:
    """A failure within says of which case it is."""
    try:
        yield
    except BaseException as e:
        e.add_note(f"case: {case}")
        raise


async def tick(times: int = 1) -> None:
    """Let the event loop run what is due."""
    for _ in range(times):
        await asyncio.sleep(0)


# -- what a broker sends ------------------------------------------------------------------------


def method(number: int, frame: Frame) -> bytes:
    """A method frame."""
    return pamqp.frame.marshal(frame, number)


def header(number: int, size: int, properties: commands.Basic.Properties | None = None) -> bytes:
    """A content header frame."""
    return pamqp.frame.marshal(ContentHeader(0, size, properties), number)


def body_frame(number: int, data: bytes) -> bytes:
    """A body frame."""
    return pamqp.frame.marshal(ContentBody(data), number)


def content(
    number: int,
    frame: Frame,
    body: bytes = b"",
    properties: commands.Basic.Properties | None = None,
    *,
    cuts: Sequence[int] = (),
) -> list[bytes]:
    """The frames of a message; `cuts` are the offsets at which the body is cut into frames."""
    edges = sorted({0, *(each for each in cuts if 0 < each < len(body)), len(body)})
    pieces = [body[a:b] for a, b in itertools.pairwise(edges)]
    return [
        method(number, frame),
        header(number, len(body), properties),
        *(body_frame(number, piece) for piece in pieces),
    ]


def deliver(
    number: int,
    tag: int,
    body: bytes = b"",
    *,
    properties: commands.Basic.Properties | None = None,
    exchange: str = "nuropb-rpc-exchange",
    routing_key: str = "orders",
    redelivered: bool = False,
    cuts: Sequence[int] = (),
) -> list[bytes]:
    """The frames of a delivery."""
    frame = commands.Basic.Deliver("ctag", tag, redelivered, exchange, routing_key)
    return content(number, frame, body, properties, cuts=cuts)


def told(frame: Frame, body: bytes, properties: commands.Basic.Properties | None = None) -> Event:
    """The event that a listener notes for this delivery or return."""
    raw = (properties or commands.Basic.Properties()).marshal()
    match frame:
        case commands.Basic.Deliver():
            head = (frame.delivery_tag, bool(frame.redelivered), frame.exchange, frame.routing_key)
            return ("content", *head, 0, "", raw, len(body), body)
        case commands.Basic.Return():
            tail = (frame.reply_code, frame.reply_text, raw, len(body), body)
            return ("content", 0, False, frame.exchange, frame.routing_key, *tail)
    raise AssertionError(frame)


HEARTBEAT = frames.HEARTBEAT_FRAME
