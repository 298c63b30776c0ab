"""Our RMQTransport: a callback that completes at once, and a client with futures of its own."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from benchmarks.sides.loop import PARAMS, serve_runs
from nuropb_rmq import RMQTransport, TransportConfig, configure


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


async def main(url: str) -> None:
    """Serve runs until stdin is closed."""
    await configure(TransportConfig(amqp_url=url, service_name="bench"))
    waiting: dict[str, asyncio.Future[Any]] = {}
    loop = asyncio.get_running_loop()

    def on_response(message: Any, complete: Any, metadata: Any) -> None:
        waiting.pop(message["correlation_id"]).set_result(message["nuropb_payload"]["result"])

    service = RMQTransport("bench", "one", url, echo, prefetch_count=100)
    client = RMQTransport("client", "one", url, on_response, client_only=True)
    await service.start()
    await client.start()
    numbers = iter(range(10**9))

    async def call() -> None:
        correlation_id = f"{next(numbers):032x}"
        future = waiting[correlation_id] = loop.create_future()
        client.send_message(
            {
                "tag": "request",
                "service": "bench",
                "method": "echo",
                "params": PARAMS,
                "correlation_id": correlation_id,
                "trace_id": correlation_id,
                "context": {},
            },
            expiry=30_000,
        )
        assert await future == PARAMS

    await serve_runs(call)
    await client.stop()
    await service.stop()


asyncio.run(main(sys.argv[1]))
