"""The control plane of one channel: declare, bind and consume.

The data plane of the same channel is amqp/channel.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, cast

import aiormq
from aio_pika import Channel
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aiormq.abc import ChannelFrame
from pamqp import commands

from .topology import Binding, Exchange, ExchangeBinding, Queue

logger = logging.getLogger("nuropb_rmq.broker")


class ControlChannel(Protocol):
    """One channel of a connection. The broker closes it when it refuses a request."""

    @property
    def number(self) -> int:
        """The channel's number, once it is open."""

    async def open(self) -> None:
        """Open the channel."""

    async def close(self) -> None:
        """Close the channel, and wait until the broker has."""

    async def declare_exchange(self, exchange: Exchange, *, passive: bool = False) -> None:
        """Make an exchange; with `passive`, ask whether there is one of this name."""

    async def declare_queue(self, queue: Queue, *, passive: bool = False) -> None:
        """Make a queue; with `passive`, ask whether there is one of this name."""

    async def ready(self, queue: str) -> int:
        """Return how many messages of a queue are ready: in nobody's hand."""

    async def bind(self, bindings: Sequence[Binding]) -> None:
        """Make bindings, all in one round trip."""

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        """Take bindings out; the broker does not tell whether they were there."""

    async def bind_exchange(self, binding: ExchangeBinding) -> None:
        """Bind an exchange to another."""

    async def consume(
        self, queue: str, consumer_tag: str, *, no_ack: bool, prefetch: int = 0
    ) -> None:
        """Begin to consume; deliveries go to the listener that the channel is registered with."""


class AmqpChannel:
    """A ControlChannel through aio-pika."""

    def __init__(self, connection: AbstractConnection, *, confirms: bool) -> None:
        self._channel = Channel(connection, publisher_confirms=confirms)

    @property
    def number(self) -> int:
        """The channel's number, once it is open."""
        number = self._channel.number
        assert number is not None  # noqa: S101 - the channel was opened
        return number

    async def open(self) -> None:
        """Open the channel."""
        await self._channel.initialize()

    async def close(self) -> None:
        """Close the channel, and wait until the broker has."""
        await self._channel.close()

    async def declare_exchange(self, exchange: Exchange, *, passive: bool = False) -> None:
        """Make an exchange; with `passive`, ask whether there is one of this name."""
        await self._channel.declare_exchange(
            exchange.name, exchange.kind, durable=exchange.durable, passive=passive
        )

    async def declare_queue(self, queue: Queue, *, passive: bool = False) -> None:
        """Make a queue; with `passive`, ask whether there is one of this name."""
        await self._channel.declare_queue(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=dict(queue.arguments) or None,
            passive=passive,
        )

    async def ready(self, queue: str) -> int:
        """Return how many messages of a queue are ready: in nobody's hand."""
        underlay = cast(aiormq.Channel, await self._channel.get_underlay_channel())
        return (await underlay.queue_declare(queue, passive=True)).message_count or 0

    async def bind(self, bindings: Sequence[Binding]) -> None:
        """Ask for all but the last in one write; the broker answers the last one only."""
        underlay = cast(aiormq.Channel, await self._channel.get_underlay_channel())
        *before, last = bindings
        asked = [
            commands.Queue.Bind(
                queue=binding.queue,
                exchange=binding.exchange,
                routing_key=binding.routing_key,
                arguments=dict(binding.arguments),
                nowait=True,
            )
            for binding in before
        ]
        if asked:
            frame = ChannelFrame.marshall(channel_number=underlay.number, frames=asked)
            await underlay.write_queue.put(frame)
        await underlay.queue_bind(
            last.queue, last.exchange, last.routing_key, arguments=dict(last.arguments)
        )

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        """Take bindings out; the broker does not tell whether they were there."""
        underlay = cast(aiormq.Channel, await self._channel.get_underlay_channel())
        for binding in bindings:
            await underlay.queue_unbind(
                binding.queue, binding.exchange, binding.routing_key, dict(binding.arguments)
            )

    async def bind_exchange(self, binding: ExchangeBinding) -> None:
        """Bind an exchange to another."""
        underlay = cast(aiormq.Channel, await self._channel.get_underlay_channel())
        await underlay.exchange_bind(binding.destination, binding.source)

    async def consume(
        self, queue: str, consumer_tag: str, *, no_ack: bool, prefetch: int = 0
    ) -> None:
        """Begin to consume; deliveries go to the listener that the channel is registered with."""
        if not no_ack:
            await self._channel.set_qos(prefetch)
        found = await self._channel.get_queue(queue, ensure=False)
        await found.consume(_bypassed, no_ack=no_ack, consumer_tag=consumer_tag)


async def _bypassed(_: AbstractIncomingMessage) -> None:
    """Stands for the consumer towards aiormq; the router keeps deliveries from ever coming here."""
    logger.error("a delivery reached aiormq: the frame router has missed it")
