"""aio-pika 10: patterns.JsonRPC for calls; for events an exchange, as its documentation shows.

With the option `recorded` it is instrumented by opentelemetry-instrumentation-aio-pika.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractRobustConnection
from aio_pika.patterns import JsonRPC

from .loop import LIVE, PREFETCH, Params, Side, main

if "recorded" in sys.argv:
    from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor

    from .otel import providers

    # It names versions of aio-pika before the current one.
    instrumentor = AioPikaInstrumentor()
    instrumentor.instrument(skip_dep_check=True, **providers(frozenset({"recorded"})))


async def echo(**given: Any) -> Any:
    """The service."""
    return given


class AioPika(Side):
    """Channels confirm by default; messages are transient by default."""

    distribution = "aio-pika"

    async def _channel(self) -> tuple[AbstractRobustConnection, AbstractChannel]:
        connection = await aio_pika.connect_robust(self.url)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        return connection, channel

    async def start_client(self) -> None:
        """A client, on a connection of its own."""
        _, channel = await self._channel()
        self._client = await JsonRPC.create(channel)

    def call(self, given: Params) -> Awaitable[Any]:
        """A call."""
        return self._client.call("echo", kwargs=given)

    async def start_publisher(self) -> None:
        """A channel of its own."""
        _, channel = await self._channel()
        self._exchange = await channel.declare_exchange(self.exchange, "topic", durable=True)
        self._subscribers: list[AbstractRobustConnection] = []

    async def publish(self, topic: str, event: Params) -> None:
        """Until the broker has confirmed it."""
        message = aio_pika.Message(json.dumps(event).encode(), content_type="application/json")
        await self._exchange.publish(message, topic, mandatory=False)

    async def subscribe(self, number: int) -> None:
        """A queue with a callback."""
        connection, channel = await self._channel()
        queue = await channel.declare_queue(f"listener{number}", durable=True)
        await queue.bind(self.exchange, LIVE)

        async def listen(message: AbstractIncomingMessage) -> None:
            async with message.process():
                json.loads(message.body)
                self.handled()

        await queue.consume(listen)
        self._subscribers.append(connection)

    async def unsubscribe(self) -> None:
        """Close their connections."""
        for connection in self._subscribers:
            await connection.close()
        self._subscribers.clear()

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service."""
        connection, channel = await self._channel()
        service = await JsonRPC.create(channel)
        await service.register("echo", self.handler(echo))
        return connection.close


if __name__ == "__main__":
    main(AioPika)
