"""Our Transport, with its default settings: confirms and reply-before-ack are on.

Options: `speed` (orjson and uvloop: without it orjson cannot be imported), `transient` (events are
not written to disk), `post` (events are posted, and the outstanding futures awaited together).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from .loop import LIVE, PREFETCH, Params, Side, main

if "speed" in sys.argv:
    sys.argv.append("uvloop")
else:
    sys.modules["orjson"] = None  # type: ignore[assignment]

from nuropb_rmq import Message, MessageType, Transport, TransportConfig, configure


async def echo(message: Message) -> Any:
    """The service."""
    return message.payload["params"]


class TransportSide(Side):
    """Transport."""

    distribution = "nuropb-rmq-aio"
    exchange = "nuropb-events-exchange"
    client: Transport
    subscribers: list[Transport]

    def config(self, **settings: Any) -> TransportConfig:
        """The defaults, and these."""
        if "transient" in self.options:
            settings["persistent"] = frozenset({MessageType.COMMAND})
        return TransportConfig(amqp_url=self.url, **settings)

    async def start_client(self) -> None:
        """A client."""
        await self.start_publisher()

    async def call(self, given: Params) -> Any:
        """A request."""
        return (await self.begin(given))["result"]

    def begin(self, given: Params) -> Awaitable[Any]:
        """The response, whole."""
        return self.client.request(
            {"tag": "request", "service": "bench", "method": "echo", "params": given}
        )

    async def start_publisher(self) -> None:
        """A client."""
        config = self.config(service_name="client", client_only=True)
        await configure(config)
        self.client = Transport(config)
        self.subscribers = []
        await self.client.start()

    async def publish(self, topic: str, event: Params) -> None:
        """Until the broker has confirmed it."""
        await self.client.send({"tag": "event", "topic": topic, "event": event})

    async def publish_many(self, topic: str, event: Params, count: int, outstanding: int) -> None:
        """With `post`, no task for each of the outstanding."""
        if "post" not in self.options:
            await super().publish_many(topic, event, count, outstanding)
            return
        for done in range(0, count, outstanding):
            batch = [
                self.client.post({"tag": "event", "topic": topic, "event": event})
                for _ in range(min(outstanding, count - done))
            ]
            for confirmation in batch:
                await confirmation

    async def subscribe(self, number: int) -> None:
        """A service that listens."""

        async def listen(message: Message) -> None:
            self.handled()

        config = self.config(
            service_name=f"listener{number}", event_bindings=[LIVE], prefetch_count=PREFETCH
        )
        await configure(config)
        transport = Transport(config, listen)
        await transport.start()
        self.subscribers.append(transport)

    async def unsubscribe(self) -> None:
        """Stop them."""
        await asyncio.gather(*(transport.stop() for transport in self.subscribers))
        self.subscribers.clear()

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service, its exchanges included."""
        config = self.config(service_name="bench", prefetch_count=PREFETCH)
        await configure(config)
        service = Transport(config, self.handler(echo))
        await service.start()
        return service.stop


if __name__ == "__main__":
    main(TransportSide)
