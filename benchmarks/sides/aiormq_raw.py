"""aiormq alone: publish, consume and ack with wait=False, no confirms, the JSON by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiormq
from aiormq.abc import AbstractConnection, DeliveredMessage
from aiormq.channel import Channel

from .loop import LIVE, PREFETCH, STORE, Params, Side, main


def _properties(
    correlation_id: str | None, reply_to: str | None = None
) -> aiormq.spec.Basic.Properties:
    return aiormq.spec.Basic.Properties(
        content_type="application/json", correlation_id=correlation_id, reply_to=reply_to
    )


class Aiormq(Side):
    """A program on aiormq alone, which does by itself what aio-pika would do for it."""

    distribution = "aiormq"

    async def _channel(self) -> tuple[AbstractConnection, Channel]:
        connection = await aiormq.connect(self.url)
        channel = cast(Channel, await connection.channel(publisher_confirms=False))
        await channel.basic_qos(prefetch_count=PREFETCH)
        return connection, channel

    async def start_client(self) -> None:
        """A client, on a connection of its own."""
        _, self._client = await self._channel()
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._numbers = iter(range(10**9))
        answers = await self._client.queue_declare(exclusive=True)
        self._answers = str(answers.queue)
        await self._client.basic_consume(self._answers, self._on_answer, no_ack=True)

    async def _on_answer(self, message: DeliveredMessage) -> None:
        future = self._waiting.pop(str(message.header.properties.correlation_id))
        future.set_result(json.loads(message.body)["result"])

    async def call(self, given: Params) -> Any:
        """A request."""
        correlation_id = f"{next(self._numbers):032x}"
        future = self._waiting[correlation_id] = self._loop.create_future()
        await self._client.basic_publish(
            json.dumps({"method": "echo", "params": given}).encode(),
            routing_key="bench",
            properties=_properties(correlation_id, self._answers),
            wait=False,
        )
        return await future

    async def start_publisher(self) -> None:
        """A channel."""
        _, self._client = await self._channel()
        self._subscribers: list[AbstractConnection] = []
        await self._client.exchange_declare(self.exchange, exchange_type="topic", durable=True)

    async def publish(self, topic: str, event: Params) -> None:
        """Until it is in the queue of what is to be written, which is bounded."""
        await self._client.basic_publish(
            json.dumps(event).encode(),
            exchange=self.exchange,
            routing_key=topic,
            properties=_properties(None),
            wait=False,
        )

    async def flush(self) -> None:
        """A round trip on the channel that it publishes on."""
        await self._client.queue_declare(STORE, passive=True)

    async def subscribe(self, number: int) -> None:
        """A queue with a callback."""
        connection, channel = await self._channel()
        queue = f"listener{number}"
        await channel.queue_declare(queue, durable=True)
        await channel.queue_bind(queue, self.exchange, LIVE)

        async def listen(message: DeliveredMessage) -> None:
            json.loads(message.body)
            self.handled()
            await channel.basic_ack(message.delivery_tag or 0, wait=False)

        await channel.basic_consume(queue, listen)
        self._subscribers.append(connection)

    async def unsubscribe(self) -> None:
        """Close their connections."""
        for connection in self._subscribers:
            await connection.close()
        self._subscribers.clear()

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service."""
        connection, channel = await self._channel()
        await channel.queue_declare("bench", durable=True)

        async def serve(message: DeliveredMessage) -> None:
            request = json.loads(message.body)
            properties = message.header.properties
            await channel.basic_publish(
                json.dumps({"result": request["params"]}).encode(),
                routing_key=str(properties.reply_to),
                properties=_properties(properties.correlation_id),
                wait=False,
            )
            await channel.basic_ack(message.delivery_tag or 0, wait=False)

        await channel.basic_consume("bench", self.handler(serve))
        return connection.close


if __name__ == "__main__":
    main(Aiormq)
