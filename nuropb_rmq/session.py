"""The channels of one connection epoch, and the linear setup that makes them.

The same coroutine runs for the first connect and for every recovery. aio-pika's own restoring of
channels is not used: what fails there is only logged, and nothing tries it again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from aio_pika import Channel
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from .config import TransportConfig
from .connection import BrokerConnection
from .consumer import Consumer, Receiver
from .exceptions import ConnectionLostError, NuropbTransportError
from .publisher import Publisher
from .refusals import translated
from .topology import Exchange, Queue, Topology
from .wire.port import ChannelListener, ChannelPort

logger = logging.getLogger(__name__)

CLOSE_WITHIN = 2.0
"""Seconds in which the broker must confirm that the channels are closed."""


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
    ) -> None:
        self._connection = connection
        self._config = config
        self._topology = topology
        self._role = role
        self._publisher = publisher
        self._responses = responses
        self._service = service
        self._steps = steps
        self._router = connection.router
        self._channels: list[Channel] = []
        self._ports: list[ChannelPort] = []
        self._consumers: list[Consumer] = []
        self.suspect_after = math.inf
        """Seconds after which a Basic.Nack costs the publishing channel; see PublisherChannel."""
        self.declaring = ""
        """The queue that was asked for last."""
        self.ended: asyncio.Future[ConnectionLostError] = asyncio.get_running_loop().create_future()

    async def stop_consuming(self) -> None:
        """Take nothing more from the service queue; returns when the broker sends nothing more.

        At any moment: also while this session is being set up.
        """
        self._service = None
        for consumer in self._consumers:
            if consumer.acks:
                await consumer.cancel()

    async def setup(self) -> None:
        """Open, declare, bind, consume, in this order. The caller sets the deadline.

        Raises ServiceNotConfigured, InstanceInUseError, BrokerAuthenticationError or
        ConnectionLostError.
        """
        with translated("connection"):
            await self._probe_exchanges()
            if self._role is not Role.PUBLISHING:
                await self._consume_responses()
            if self._role is not Role.CONSUMING:
                await self._open_publishing()
            if self._role is Role.CONSUMING and self._service is not None:
                await self._consume_service_queue()

    async def _probe_exchanges(self) -> None:
        """Exchanges must exist; asking passively needs no permission to configure them."""
        topology = self._topology
        exchanges = [topology.rpc_exchange, topology.events_exchange]
        if self._role is Role.CONSUMING:
            exchanges.append(topology.dl_exchange)
        channel = await self._open_channel()
        for exchange in exchanges:
            await _probe(channel, exchange)
        await channel.close()
        self._channels.remove(channel)

    async def _consume_responses(self) -> None:
        channel = await self._open_channel()
        queue = await self._declare(
            "declare_response_queue", channel, self._topology.response_queue
        )
        await self._consume(channel, queue, self._responses, acks=False)

    async def _open_publishing(self) -> None:
        channel = await self._open_channel(confirms=True)
        listener = self._publisher.channel(self._end, suspect_after=self.suspect_after)
        listener.port = self._register(channel, listener)
        self._publisher.attach(listener)

    async def _consume_service_queue(self) -> None:
        described = self._topology.service_queue
        assert described is not None  # noqa: S101 - a consuming role has one, by its topology
        channel = await self._open_channel()
        queue = await self._declare("declare_service_queue", channel, described)
        for binding in self._topology.bindings:
            with translated(f"binding {binding.routing_key!r} to exchange {binding.exchange!r}"):
                await queue.bind(binding.exchange, binding.routing_key)
        await channel.set_qos(self._config.prefetch_count)
        if self._service is not None:
            await self._consume(channel, queue, self._service, acks=True)

    async def _open_channel(self, *, confirms: bool = False) -> Channel:
        channel = Channel(self._connection, publisher_confirms=confirms)
        await self._step("open_channel", channel.initialize)
        self._channels.append(channel)
        return channel

    async def _declare(self, step: str, channel: Channel, queue: Queue) -> AbstractQueue:
        self.declaring = queue.name
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
        for consumer in self._consumers:
            consumer.give_back()
        for port in self._ports:
            port.unregister(reason)
        for consumer in self._consumers:
            if consumer.acks:
                consumer.task.cancel()
        await asyncio.gather(*(each.task for each in self._consumers), return_exceptions=True)
        if self._router.lost is None and (self._steps is not None or not with_connection):
            await self._close_channels()

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


async def _probe(channel: Channel, exchange: Exchange) -> None:
    with translated(f"exchange {exchange.name!r}"):
        await channel.declare_exchange(exchange.name, exchange.kind, passive=True)


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
