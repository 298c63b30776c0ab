"""A process that replays all own dead letters again and again, until it is killed.

python -m tests.dead_letters.replayer URL KIND
"""

from __future__ import annotations

import asyncio
import sys

from nuropb_rmq import DeadLetters, TransportConfig


async def main(url: str, kind: str) -> None:
    """Say when a replay begins, and what came of it."""
    config = TransportConfig(amqp_url=url, service_name="orders", queue_type=kind)
    async with DeadLetters(config, allow_delivery_limit=True) as dead:
        while True:
            print("begins", flush=True)
            result = await dead.replay()
            print("done", result.done, result.looked_at, result.waiting, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
