"""A program that knows nothing of OpenTelemetry: a service, and a call of it."""

from __future__ import annotations

import asyncio

from nuropb_rmq import Mesh


class Orders:
    """The service."""

    _service_name = "orders"

    async def total(self, number: int) -> int:
        """Answer."""
        return number


async def main() -> None:
    """Call it once."""
    async with Mesh("memory://program", service=Orders()), Mesh("memory://program") as client:
        assert await client.request("orders", "total", {"number": 7}, encrypted=False) == 7


if __name__ == "__main__":
    asyncio.run(main())
