"""nuropb-rmq 1.0.0, another project, whose import name is ours too: RpcClient and RpcServer.

Its work queues are quorum queues and its requests persistent and confirmed by default; replies are
neither, and its server handles one request at a time, without a prefetch limit. Events are
transient and not confirmed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from nuropb_rmq import (  # type: ignore[attr-defined]
    ConnectionConfig,
    EventPublisher,
    EventSubscriber,
    RpcClient,
    RpcServer,
    Session,
)

from .loop import LIVE, STORE, Params, Side, main


async def echo(method: str, given: Any) -> Any:
    """The service."""
    return given


class NuropbRmq(Side):
    """The session's client is shared by all callers, as its correlation table allows."""

    distribution = "nuropb-rmq"
    exchange = "nr-bench-events"

    def _config(self) -> ConnectionConfig:
        url = urlsplit(self.url)
        return ConnectionConfig(
            host=str(url.hostname), port=url.port or 5672, virtual_host=url.path[1:]
        )

    async def start_client(self) -> None:
        """A client; the first call makes the channel confirm, alone."""
        session = Session(self._config())
        await session.start()
        self._client = RpcClient(session)
        await self.call({})

    def call(self, given: Params) -> Awaitable[Any]:
        """A request."""
        answer: Awaitable[Any] = self._client.request("bench", "bench.echo", given)
        return answer

    async def start_publisher(self) -> None:
        """A publisher."""
        self._publisher = EventPublisher(self._config(), exchange=self.exchange)
        self._subscribers: list[EventSubscriber] = []
        await self._publisher.start()

    async def publish(self, topic: str, event: Params) -> None:
        """Until it is written."""
        await self._publisher.publish(topic, "bench.event", event)

    async def flush(self) -> None:
        """A round trip on the channel that it publishes on."""
        publisher = self._publisher
        await publisher.conn.queue_declare(publisher.channel_id, STORE, durable=True)

    async def subscribe(self, number: int) -> None:
        """A subscriber whose queue outlives it."""

        async def listen(method: str, event: Any, message: Any) -> None:
            self.handled()

        subscriber = EventSubscriber(
            self._config(),
            exchange=self.exchange,
            handler=listen,
            binding_key=LIVE,
            queue=f"listener{number}",
            exclusive=False,
            auto_delete=False,
        )
        await subscriber.start()
        self._subscribers.append(subscriber)

    async def unsubscribe(self) -> None:
        """Close them."""
        for subscriber in self._subscribers:
            await subscriber.close()
        self._subscribers.clear()

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service."""
        service = RpcServer(self._config(), queue="bench", handler=self.handler(echo))
        await service.start()
        stop: Callable[[], Awaitable[object]] = service.close
        return stop


if __name__ == "__main__":
    main(NuropbRmq)
