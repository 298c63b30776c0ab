"""The channels of one connection epoch, and the linear setup that makes them.

The same coroutine runs for the first connect and for every recovery. aio-pika's own restoring of
channels is not used: what fails there is only logged, and nothing tries it again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from typing import Any

from aio_pika import Channel
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from ..amqp.channel import ChannelListener, ChannelPort
from ..amqp.consumer import Consumer, Receiver
from ..amqp.publisher import Publisher
from ..config.settings import CLASSIC, QUORUM, TransportConfig
from ..exceptions import (
    BrokerAuthenticationError,
    ConnectionLostError,
    NuropbTransportError,
    ServiceNotConfigured,
)
from .bindings import bind
from .connection import BrokerConnection
from .error_translation import standing_type, translated
from .topology import QUEUE_TYPE, Exchange, Queue, Topology
from .watch import EXCHANGES, Configure, Watch, probe

logger = logging.getLogger("nuropb_rmq.broker")

CLOSE_WITHIN = 2.0
"""Seconds in which the broker must confirm that the channels are closed."""
COMPLETED_WITHIN = 2.0
"""Seconds for which a recovery waits for what it does not need for itself."""


Run = Callable[[], Awaitable[object]]
Steps = Callable[[str, Run], Awaitable[None]]
"""Takes each of the steps open_channel, declare_response_queue, declare_service_queue and
close_channel, and what it does; raises only a NuropbTransportError."""


class Role(Enum):
    """What a connection is for. A service has two, so that an alarm never stops its acks."""

    CLIENT = auto()
    """Responses, and publishing."""
    CONSUMING = auto()
    """Responses, and the service queue."""
    PUBLISHING = auto()


class Session:
    """Everything that lives on one connection, from its opening to its end.

    `ended` is resolved with the reason when the connection or any of the channels is gone.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        config: TransportConfig,
        topology: Topology,
        role: Role,
        *,
        publisher: Publisher,
        responses: Receiver,
        service: Receiver | None,
        steps: Steps | None = None,
        configure: Configure | None = None,
    ) -> None:
        self._connection = connection
        self._config = config
        self._topology = topology
        self._role = role
        self._publisher = publisher
        self._responses = responses
        self._service = service
        self._steps = steps
        self._configure = configure
        self._router = connection.router
        self._channels: list[Channel] = []
        self._ports: list[ChannelPort] = []
        self._consumers: list[Consumer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.may_configure = True
        """Whether exchanges that are missing may be made, where there is what makes them."""
        self.recovers = False
        """Whether it follows another session, on a connection of its own."""
        self.refused: set[str] = set()
        """What the broker does not let us look at: the link's, for it is logged once."""
        self.suspect_after = math.inf
        """Seconds after which a Basic.Nack costs the publishing channel; see PublisherChannel."""
        self._declaring = ""
        """The queue that was asked for last."""
        self._bound: int | None = None
        """How many bindings of the service queue are made; None: it is not there yet."""
        self.ended: asyncio.Future[ConnectionLostError] = asyncio.get_running_loop().create_future()

    async def stop_consuming(self) -> None:
        """Take nothing more from the service queue; returns when the broker sends nothing more.

        At any moment: also while this session is being set up.
        """
        self._service = None
        for consumer in self._consumers:
            if consumer.acks:
                await consumer.cancel()

    @property
    def progress(self) -> str:
        """How far setup() came, for the error of one that is late."""
        total = len(self._topology.bindings)
        if self._bound is not None and self._bound < total:
            return f"; {self._bound} of {total} bindings of {self._declaring!r} were made"
        if self._declaring:
            # RabbitMQ 4.x says nothing for a minute about a queue whose node is down.
            return f"; {self._declaring!r} was the last: is the node down that it lives on?"
        return ""

    async def setup(self) -> None:
        """Open, declare, bind, consume, in this order. The caller sets the deadline.

        Raises ServiceNotConfigured, InstanceInUseError, BrokerAuthenticationError or
        ConnectionLostError.
        """
        with translated("connection"):
            await self._find_exchanges()
            if self._role is not Role.PUBLISHING:
                await self._consume_responses()
            if self._role is not Role.CONSUMING:
                await self._open_publishing()
            if self._role is Role.CONSUMING and self._service is not None:
                await self._complete()
                await self._consume_service_queue()
        if self._role is not Role.PUBLISHING:  # which learns by itself what is missing
            self._watch()

    @property
    def declares_response_queue(self) -> bool:
        """Return whether the response queue was asked for last."""
        return self._declaring == self._topology.response_queue.name

    @property
    def _exchanges(self) -> list[Exchange]:
        topology = self._topology
        exchanges = [topology.rpc_exchange, topology.events_exchange]
        return [*exchanges, topology.dl_exchange] if self._role is Role.CONSUMING else exchanges

    async def _find_exchanges(self) -> None:
        """Exchanges must exist, or be made, where that is ours to do."""
        try:
            await self._probe_exchanges()
        except ServiceNotConfigured as missing:
            if self._configure is None or not self.may_configure:
                raise
            try:
                await self._configure(self._connection, self._config)
            except BrokerAuthenticationError as e:
                text = f"{missing}, and cannot be made: {e}"
                raise ServiceNotConfigured(text, None, missing.exception) from e
            logger.warning("%s: %s; it was made again", self._config.broker, missing)

    async def _complete(self) -> None:
        """Make what nobody but this service does, when the broker may have come back empty.

        That is its dead-letter queue. Nothing waits for it for long, for its node may be down.
        """
        if self.recovers and self._configure is not None:
            task = self._own(self._make_again(self._configure), "nuropb-configure")
            await asyncio.wait([task], timeout=COMPLETED_WITHIN)

    async def _make_again(self, configure: Configure) -> None:
        try:
            with translated("configuring again"):
                await configure(self._connection, self._config)
        except (NuropbTransportError, TimeoutError) as e:
            logger.warning("%s: %s", self._config.broker, e)

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _probe_exchanges(self) -> None:
        """Ask passively. A broker that does not answer that without a permission is not asked."""
        if EXCHANGES in self.refused:
            return
        channel = await self._open_channel()
        try:
            for exchange in self._exchanges:
                await probe(channel, exchange)
            await channel.close()
        except BrokerAuthenticationError as e:
            self.refused.add(EXCHANGES)
            logger.warning(
                "%s: exchanges are taken to exist, for the broker does not tell: %s; grant any "
                "permission for them, and on RabbitMQ 4.2.6 and 4.3.0 the permission to configure "
                "them, or update to 4.2.7 or 4.3.1",
                self._config.broker,
                e,
            )
        finally:
            self._channels.remove(channel)

    def _watch(self) -> None:
        config, topology = self._config, self._topology
        configured = config.instance_id is not None or config.response_queue is not None
        # A broker that deletes what a dead node had may take along a queue of the same name.
        doubtful = configured and len(config.broker.hosts) > 1
        watch = Watch(
            self._connection,
            config,
            exchanges=self._exchanges,
            queues=[topology.response_queue] if doubtful else [],
            bindings=topology.bindings if self._service is not None else (),
            configure=self._configure,
            refused=self.refused,
            channels=self._channels,
        )
        self._own(watch.run(self._end), "nuropb-watch")

    async def _consume_responses(self) -> None:
        channel = await self._open_channel()
        queue = await self._declare(
            "declare_response_queue", channel, self._topology.response_queue
        )
        await self._consume(channel, queue, self._responses, acks=False)

    async def _open_publishing(self) -> None:
        channel = await self._open_channel(confirms=True)
        listener = self._publisher.channel(
            self._end, connection=self._router, suspect_after=self.suspect_after
        )
        listener.port = self._register(channel, listener)
        self._publisher.attach(listener)

    async def _consume_service_queue(self) -> None:
        described = self._topology.service_queue
        assert described is not None  # noqa: S101 - a consuming role has one, by its topology
        channel, queue = await self._declare_service_queue(described)
        self._bound = 0
        async for made in bind(channel, self._topology.bindings, self._open_channel):
            self._bound = made
        await channel.set_qos(self._config.prefetch_count)
        if self._service is not None:
            await self._consume(channel, queue, self._service, acks=True)

    async def _declare_service_queue(self, queue: Queue) -> tuple[Channel, AbstractQueue]:
        """A quorum queue does all that a classic one does, and cannot be made classic."""
        step = "declare_service_queue"
        channel = await self._open_channel()
        try:
            return channel, await self._declare(step, channel, queue)
        except ServiceNotConfigured as e:
            found = standing_type(e)
            if self._config.queue_type != CLASSIC or found != QUORUM:
                raise
            logger.warning("%s: used as it is, of type %s: %s", self._config.broker, found, e)
        self._channels.remove(channel)
        as_found = replace(queue, arguments={**queue.arguments, QUEUE_TYPE: found})
        channel = await self._open_channel()
        return channel, await self._declare(step, channel, as_found)

    async def _open_channel(self, *, confirms: bool = False) -> Channel:
        channel = Channel(self._connection, publisher_confirms=confirms)
        await self._step("open_channel", channel.initialize)
        self._channels.append(channel)
        return channel

    async def _declare(self, step: str, channel: Channel, queue: Queue) -> AbstractQueue:
        self._declaring = queue.name
        await self._step(step, lambda: _declare(channel, queue))
        return await channel.get_queue(queue.name, ensure=False)

    async def _step(self, name: str, run: Run) -> None:
        if self._steps is None:
            await run()
        else:
            await self._steps(name, run)

    async def _consume(
        self, channel: Channel, queue: AbstractQueue, receiver: Receiver, *, acks: bool
    ) -> None:
        consumer = Consumer(queue.name, receiver, self._end, acks=acks)
        consumer.start(self._register(channel, consumer))
        self._consumers.append(consumer)
        with translated(f"queue {queue.name!r}"):
            await queue.consume(_bypassed, no_ack=not acks, consumer_tag=consumer.tag)
        consumer.consuming()

    def _register(self, channel: Channel, listener: ChannelListener) -> ChannelPort:
        number = channel.number
        assert number is not None  # noqa: S101 - the channel was opened
        port = self._router.register(number, listener, max_body=self._config.max_body_bytes)
        self._ports.append(port)
        return port

    def _end(self, reason: ConnectionLostError) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    async def close(self, reason: str, *, with_connection: bool) -> None:
        """End the data plane of every channel, then close the channels themselves.

        What is not settled goes back to the queue before that.

        With the connection about to be closed, its channels need not be closed one by one, unless
        that is a step which somebody takes.
        """
        self._end(ConnectionLostError(reason))
        try:
            if not with_connection:
                await self._stop_responses()
        finally:
            # In one turn of the loop: nothing is settled, or begun, behind what is given back.
            for consumer in self._consumers:
                consumer.give_back()
            for port in self._ports:
                port.unregister(reason)
            for consumer in self._consumers:
                if consumer.acks:
                    consumer.task.cancel()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_WITHIN)
        await asyncio.gather(*(each.task for each in self._consumers), return_exceptions=True)
        if self._router.lost is None and (self._steps is not None or not with_connection):
            await self._close_channels()

    async def _stop_responses(self) -> None:
        """Let no more responses come, and take those that are on their way.

        They are settled when they are sent, so with the channel they would be lost. What comes
        later waits in the queue, which lives as long as the connection.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                for consumer in self._consumers:
                    if not consumer.acks:
                        await consumer.cancel()

    async def _close_channels(self) -> None:
        try:
            with translated("closing"):
                async with asyncio.timeout(CLOSE_WITHIN):
                    await self._step("close_channel", self._close_each)
        except (NuropbTransportError, TimeoutError) as e:
            # A connection whose channels cannot be closed is not fit for another session.
            logger.debug("channels could not be closed: %r", e)
            self._router.abort("channels could not be closed")

    async def _close_each(self) -> None:
        for channel in self._channels:
            await channel.close()


async def _declare(channel: Channel, queue: Queue) -> None:
    with translated(f"queue {queue.name!r}"):
        await channel.declare_queue(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=dict(queue.arguments) or None,
        )


async def _bypassed(_: AbstractIncomingMessage) -> None:
    """Stands for the consumer towards aiormq; the router keeps deliveries from ever coming here."""
    logger.error("a delivery reached aiormq: the frame router has missed it")
