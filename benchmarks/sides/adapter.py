"""Our RMQTransport: a callback that completes at once, and a client with futures of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from .loop import PREFETCH, Params, Side, main

sys.modules["orjson"] = None  # type: ignore[assignment]

from nuropb_rmq import RMQTransport, TransportConfig, configure  # noqa: E402


def echo(message: Any, complete: Any, metadata: Any) -> None:
    """The service."""
    payload = message["nuropb_payload"]
    response = {
        "tag": "response",
        "result": payload["params"],
        "error": None,
        "correlation_id": message["correlation_id"],
        "trace_id": message["trace_id"],
        "context": {},
        "warning": None,
        "reply_to": "",
    }
    complete(
        [
            {
                "nuropb_protocol": "0.1.1",
                "nuropb_type": "response",
                "nuropb_payload": response,
                "correlation_id": message["correlation_id"],
                "trace_id": message["trace_id"],
                "ttl": None,
            }
        ],
        "ack",
    )


class AdapterSide(Side):
    """RMQTransport; it only calls."""

    distribution = "nuropb-rmq-aio"
    client: RMQTransport

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service."""
        await configure(TransportConfig(amqp_url=self.url, service_name="bench"))
        on_message = self.callback(echo)
        service = RMQTransport("bench", "one", self.url, on_message, prefetch_count=PREFETCH)
        await service.start()
        return service.stop

    async def start_client(self) -> None:
        """A client."""
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self._numbers = iter(range(10**9))

        def on_response(message: Any, complete: Any, metadata: Any) -> None:
            future = self._waiting.pop(message["correlation_id"])
            future.set_result(message["nuropb_payload"]["result"])

        self.client = RMQTransport("client", "one", self.url, on_response, client_only=True)
        await self.client.start()

    async def call(self, given: Params) -> Any:
        """A request."""
        correlation_id = f"{next(self._numbers):032x}"
        future = self._waiting[correlation_id] = self._loop.create_future()
        self.client.send_message(
            {
                "tag": "request",
                "service": "bench",
                "method": "echo",
                "params": given,
                "correlation_id": correlation_id,
                "trace_id": correlation_id,
                "context": {},
            },
            expiry=30_000,
        )
        return await future


if __name__ == "__main__":
    main(AdapterSide)
