"""Our side: two Transports with the default settings; confirms and reply-before-ack are on."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from benchmarks.sides.loop import PARAMS, serve_runs
from nuropb_rmq import Message, Transport, TransportConfig, configure


async def echo(message: Message) -> Any:
    """The service."""
    return message.payload["params"]


async def main(url: str) -> None:
    """Serve runs until stdin is closed."""
    config = TransportConfig(amqp_url=url, service_name="bench", prefetch_count=100)
    await configure(config)
    client = Transport(TransportConfig(amqp_url=url, service_name="client", client_only=True))
    async with Transport(config, echo), client:

        async def call() -> None:
            response = await client.request(
                {"tag": "request", "service": "bench", "method": "echo", "params": PARAMS}
            )
            assert response["result"] == PARAMS

        await serve_runs(call)


asyncio.run(main(sys.argv[1]))
