"""The part that all sides share: runs on demand, timed. Nothing but the standard library."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

PARAMS = {"order_id": "A-1", "text": "x" * 500, "lines": [1, 2, 3]}


async def serve_runs(call: Callable[[], Awaitable[object]]) -> None:
    """Answer the runs that stdin asks for, until it is closed."""
    print(json.dumps({"ready": True}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        run = json.loads(line)
        print(json.dumps(await _timed(call, run["calls"], run["concurrency"])), flush=True)


async def _timed(
    call: Callable[[], Awaitable[object]], calls: int, concurrency: int
) -> dict[str, float]:
    async def worker(count: int) -> None:
        for _ in range(count):
            await call()

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker(calls // concurrency) for _ in range(concurrency)))
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
