"""Our Mesh with the default settings: an async method, parameters checked."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from benchmarks.sides.loop import PARAMS, serve_runs
from nuropb_rmq import Mesh, TransportConfig


class Service:
    """The service."""

    _service_name = "bench"

    async def echo(self, order_id: str, text: str, lines: list[int]) -> Any:
        """Answer with the parameters."""
        return {"order_id": order_id, "text": text, "lines": lines}


async def main(url: str) -> None:
    """Serve runs until stdin is closed."""
    config = TransportConfig(amqp_url=url, service_name="bench", prefetch_count=100)
    async with Mesh(config, service=Service()), Mesh(url) as client:

        async def call() -> None:
            result = await client.request("bench", "echo", PARAMS)
            assert result == PARAMS

        await serve_runs(call)


asyncio.run(main(sys.argv[1]))
