"""FastStream's RabbitBroker: request() and publish(), as its documentation shows.

With the option `recorded` it has its own middleware for OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from .loop import LIVE, PREFETCH, Params, Side, main

EVENTS = RabbitExchange(Side.exchange, type=ExchangeType.TOPIC, durable=True)


async def echo(given: dict[str, Any]) -> dict[str, Any]:
    """The service."""
    return given


class FastStream(Side):
    """Channels confirm by default; messages are transient by default; one request at a time."""

    distribution = "faststream"

    def _broker(self) -> RabbitBroker:
        middlewares = []
        if "recorded" in self.options:
            from faststream.rabbit.opentelemetry import (  # noqa: PLC0415 - an extra
                RabbitTelemetryMiddleware,
            )

            from .otel import providers  # noqa: PLC0415

            middlewares = [RabbitTelemetryMiddleware(**providers(self.options))]
        return RabbitBroker(
            self.url,
            default_channel=Channel(prefetch_count=PREFETCH),
            logger=None,
            middlewares=middlewares,
        )

    async def start_client(self) -> None:
        """A client, on a connection of its own."""
        self._client = self._broker()
        await self._client.start()

    async def call(self, given: Params) -> Any:
        """A request; the time limit is that of a call, not the half second of the default."""
        response = await self._client.request(given, "echo", timeout=30)
        return await response.decode()

    async def start_publisher(self) -> None:
        """A broker of its own."""
        self._client = self._broker()
        self._subscribers: list[RabbitBroker] = []
        await self._client.start()
        await self._client.declare_exchange(EVENTS)

    async def publish(self, topic: str, event: Params) -> None:
        """Until the broker has confirmed it."""
        await self._client.publish(event, routing_key=topic, exchange=EVENTS, mandatory=False)

    async def subscribe(self, number: int) -> None:
        """A subscriber."""
        broker = self._broker()
        queue = RabbitQueue(f"listener{number}", durable=True, routing_key=LIVE)

        @broker.subscriber(queue, EVENTS)  # type: ignore[untyped-decorator, unused-ignore]
        async def listen(event: dict[str, Any]) -> None:
            self.handled()

        await broker.start()
        self._subscribers.append(broker)

    async def unsubscribe(self) -> None:
        """Stop them."""
        for broker in self._subscribers:
            await broker.stop()
        self._subscribers.clear()

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service."""
        broker = self._broker()

        broker.subscriber("echo")(self.handler(echo))
        await broker.start()
        stop: Callable[[], Awaitable[object]] = broker.stop
        return stop


if __name__ == "__main__":
    main(FastStream)
