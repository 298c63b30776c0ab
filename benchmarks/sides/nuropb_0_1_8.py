"""nuropb 0.1.8 with its own RMQAPI, as a NuroPb program uses it; runs in .venv-peer."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from nuropb.rmq_api import RMQAPI  # type: ignore[import-not-found,unused-ignore]

from benchmarks.sides.loop import PARAMS, serve_runs


class Service:
    """The service."""

    _service_name = "bench"

    def echo(self, **params: Any) -> Any:
        """Answer with the parameters."""
        return params


async def main(url: str) -> None:
    """Serve runs until stdin is closed."""
    service = RMQAPI(
        amqp_url=url,
        service_name="bench",
        instance_id="1",
        service_instance=Service(),
        transport_settings={"prefetch_count": 100},
    )
    await service.connect()
    client = RMQAPI(amqp_url=url, instance_id="2")
    await client.connect()

    async def call() -> None:
        result = await client.request("bench", "echo", PARAMS, context={})
        assert result == PARAMS

    await serve_runs(call)
    await client.disconnect()
    await service.disconnect()


logging.disable(logging.CRITICAL)
asyncio.run(main(sys.argv[1]))
