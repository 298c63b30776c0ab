"""Listen to events beside the services that they are for: a queue of one's own, for a while.

The queue is exclusive and auto-delete, so the broker deletes it with its connection, also when the
process is killed. It takes copies: every other queue gets its own as before.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from ..amqp import frames
from ..amqp.channel import ChannelPort
from ..amqp.frames import Content
from ..broker.backoff import pause
from ..broker.connecting import Connection, open_connection
from ..broker.control_channel import ControlChannel
from ..broker.error_translation import located, translated
from ..broker.quiet import quietly
from ..broker.topology import QUEUE_TYPE, Binding, Queue
from ..config.address import AmqpUrl, typed
from ..config.settings import CLASSIC, TransportConfig
from ..exceptions import (
    BrokerUnreachableError,
    ConnectionLostError,
    MalformedMessageError,
    NuropbConfigurationError,
    NuropbTransportError,
    TransportClosedError,
)
from ..protocol import serialization
from ..protocol.constants import MessageType, new_id
from ..protocol.reader import Head, whole_body
from ..waiting import Changes, time_limit

logger = logging.getLogger("nuropb_rmq.transport")

PREFETCH: Final = 256
"""Events in hand; further ones wait on the broker."""
MOST_WAITING: Final = 100_000
"""Events that wait on the broker; beyond, it drops the oldest. A listener that is suspended would
fill the broker's memory."""
MOST_BYTES_WAITING: Final = 64 * 2**20
_SHORTSTR: Final = 255

Interrupted = Callable[[NuropbTransportError | None], None]
"""Called with the reason when the connection is lost, and with None when it is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent:
    """An event as it came. All of it is a peer's: do not believe it, do not show it unescaped."""

    topic: str
    """The routing key, by which the broker chose its queues."""
    event: Any = field(default=None, repr=False)
    target: Any = field(default=None, repr=False)
    context: Any = field(default=None, repr=False)
    correlation_id: str = ""
    trace_id: str | None = None
    body_size: int = 0
    """Bytes of the body."""
    problem: str | None = None
    """The problem of a message that is no event, and has no `event`; None: there is none."""


class EventListener:
    """Events of some topics, as they are published. An async context manager and iterator.

    ::

        async with EventListener("amqp://localhost/", "orders.*") as listener:
            async for event in listener:
                print(event.topic, event.event)

    amqp_url: the broker's address, or a TransportConfig with further settings (events_exchange).
    topics: patterns, with * and # as in AMQP; all events without one.
    on_interrupted: called with the error when the connection is lost, and with None when it is
        back. Events that are published in between are missed.

    It takes nothing from anybody, and leaves nothing behind. At most MOST_WAITING events and
    MOST_BYTES_WAITING bytes wait for whoever iterates; then the oldest are dropped. Entering raises
    a NuropbTransportError; the iteration goes on over lost connections, and raises one when trying
    again makes no sense. The next event may be cancelled, and loses none.

    The user needs to configure, write and read `nuropb-listen-.*`, and to read the exchange of
    events.
    """

    def __init__(
        self,
        amqp_url: AmqpUrl | TransportConfig,
        *topics: str,
        on_interrupted: Interrupted | None = None,
    ) -> None:
        self._config = (
            amqp_url
            if isinstance(amqp_url, TransportConfig)
            else TransportConfig(amqp_url=amqp_url, service_name="listen", client_only=True)
        )
        self._topics = tuple(map(_topic, topics)) or ("#",)
        self._tell = on_interrupted or (lambda _: None)
        self._connection: Connection | None = None
        self._channel: ControlChannel | None = None
        self._arrived: deque[_Arrival] = deque()
        self._changes = Changes()
        self._consumer = _Consumer(self._arrived, self._changes)
        # True from a loss until it was recovered from.
        self._away = False

    async def __aenter__(self) -> Self:
        config = self._config
        try:
            async with time_limit(config.connect_timeout):
                self._connection = await open_connection(config, "listening to events")
                await self._begin(self._connection)
        except TimeoutError as e:
            await self._shut()
            raise BrokerUnreachableError(
                f"{config.broker}: no connection within {config.connect_timeout:g} s "
                "(connect_timeout)"
            ) from e
        except BaseException as e:
            await self._shut()
            if isinstance(e, NuropbTransportError):
                located(config.broker, e)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._shut()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedEvent:
        """Wait for the next event. Raises TransportClosedError outside of `async with`."""
        while not self._arrived:
            if self._connection is None:
                raise TransportClosedError("EventListener is not open: use it within `async with`")
            if self._consumer.lost is not None:
                await self._recover(self._connection, self._consumer.lost)
            await self._changes.until(self._has_news)
        consumer, content = self._arrived.popleft()
        consumer.ack(content)
        return _read(content, self._config.max_json_depth)

    def _has_news(self) -> bool:
        lost = self._connection is None or self._consumer.lost is not None
        return bool(self._arrived) or lost

    # -- the connection ---------------------------------------------------------------------

    @quietly
    async def _begin(self, connection: Connection) -> None:
        """Declare a queue, bind and consume it."""
        # A new name each time: a connection that is not known to be lost may hold the last one.
        queue = Queue(
            f"nuropb-listen-{new_id()}",
            durable=False,
            exclusive=True,
            auto_delete=True,
            arguments={
                QUEUE_TYPE: CLASSIC,
                "x-max-length": MOST_WAITING,
                "x-max-length-bytes": MOST_BYTES_WAITING,
            },
        )
        exchange, max_body = self._config.events_exchange, self._config.max_body_bytes
        consumer = _Consumer(self._arrived, self._changes)
        channel = self._channel = connection.new_channel()
        with translated(f"queue {queue.name!r}"):
            await channel.open()
            consumer.port = connection.router.register(channel.number, consumer, max_body=max_body)
            await channel.declare_queue(queue)
            with translated(f"exchange {exchange!r}"):
                await channel.bind([Binding(queue.name, exchange, key) for key in self._topics])
            await channel.consume(queue.name, queue.name, no_ack=False, prefetch=PREFETCH)
        self._consumer = consumer
        connection.settled()

    async def _recover(self, connection: Connection, lost: NuropbTransportError) -> None:
        """Begin again, until it works. Raises what makes trying again useless."""
        if not self._away:
            logger.warning("%s: events are missed until it is back: %s", self._config.broker, lost)
            self._away = True
            self._tell(lost)
        failures = 0
        while self._connection is connection:
            await self._close_channel()
            try:
                await connection.usable()
                async with time_limit(self._config.connect_timeout):
                    await self._begin(connection)
                break
            except TimeoutError:
                _abort(connection, "a queue for events was not made in time")
            except asyncio.CancelledError:
                _abort(connection, "a queue for events was half made")
                raise
            except NuropbTransportError as e:
                if connection.should_give_up(e):
                    raise located(self._config.broker, e) from None
            await asyncio.sleep(pause(failures, self._config.reconnect_cap))
            failures += 1
        else:
            return  # it was closed meanwhile
        logger.warning("%s: back", self._config.broker)
        self._away = False
        self._tell(None)

    async def _close_channel(self) -> None:
        """Close the channel, whose connection may live on."""
        channel, self._channel = self._channel, None
        if channel is not None and self._consumer.leave():
            with suppress(NuropbTransportError, TimeoutError), translated("closing"):
                async with time_limit(self._config.connect_timeout):
                    await channel.close()

    async def _shut(self) -> None:
        connection, self._connection = self._connection, None
        self._arrived.clear()
        self._consumer.leave()
        self._changes.wake()
        if connection is not None:
            await connection.shut()


class _Consumer:
    """The listener of one channel: keeps what arrives, and why the channel has ended."""

    def __init__(self, arrived: deque[_Arrival], changes: Changes) -> None:
        self.port: ChannelPort | None = None
        self.lost: ConnectionLostError | None = None
        self._arrived = arrived
        self._changes = changes

    def ack(self, content: Content) -> None:
        """Acknowledge an event; one of a channel that has ended is gone from the broker anyway."""
        if self.port is not None and self.port.open:
            self.port.write(frames.pack_ack(self.port.number, content.tag))

    def leave(self) -> bool:
        """End the registration; return whether the channel is open."""
        if self.port is None or not self.port.open:
            return False
        self.port.unregister("listening has ended")
        return True

    def on_content(self, content: Content) -> None:
        """Keep an event for whoever iterates."""
        self._arrived.append((self, content))
        self._changes.wake()

    def on_cancelled(self, by_broker: bool) -> None:
        """Note that the queue is gone."""
        self.on_closed(ConnectionLostError("the queue for events was deleted"))

    def on_closed(self, reason: ConnectionLostError) -> None:
        """Note the channel's end. What has arrived is still handed over."""
        self.lost = reason
        self._changes.wake()

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Do nothing: it publishes nothing."""

    def on_writable(self) -> None:
        """Do nothing: acks are small."""

    def on_unsent(self, count: int) -> None:
        """Do nothing: it publishes nothing."""


_Arrival = tuple[_Consumer, Content]


def _abort(connection: Connection, reason: str) -> None:
    """End what is open of a connection; it comes back by itself."""
    with suppress(ConnectionLostError):
        connection.router.abort(reason)


def _topic(topic: str) -> str:
    wanted = "a topic, a string of 1 to 255 bytes"
    if not 0 < len(typed("topics", topic, str, wanted).encode("utf-8", "replace")) <= _SHORTSTR:
        raise NuropbConfigurationError("topics", f"must be {wanted}")
    return topic


def _read(content: Content, max_depth: int) -> ReceivedEvent:
    """Read a message of the exchange of events. Never raises."""
    head = Head(content)
    problem = head.problem
    body: Any = {}
    try:
        body = serialization.decode(whole_body(content), max_depth=max_depth)
    except MalformedMessageError as e:
        problem = problem or e
    told = body if isinstance(body, dict) else {}
    reason = str(problem) if problem is not None else None
    if reason is None and head.kind is not MessageType.EVENT:
        reason = f"its nuropb_type says that it is a {head.kind}"
    if reason is None and "event" not in told:
        reason = "the body is no object with an event"
    return ReceivedEvent(
        topic=content.routing_key,
        event=told.get("event") if reason is None else None,
        target=told.get("target"),
        context=told.get("context"),
        correlation_id=head.correlation_id,
        trace_id=head.trace_id,
        body_size=content.body_size,
        problem=reason,
    )
