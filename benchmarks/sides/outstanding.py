"""What a request costs while it waits for its response: bytes of resident memory, tasks included.

python -m benchmarks.sides.outstanding task|transport|mesh URL

tells the bytes of each in one line; `task` is a task that only waits for a future. Each has a
process of its own: what one leaves to the allocator would serve the next.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable

from benchmarks.sides.loop import PARAMS
from nuropb_rmq import Mesh

COUNT = 10_000
PAGE = os.sysconf("SC_PAGE_SIZE")


class Service:
    """A service that is described, and then away: its queue keeps the requests."""

    _service_name = "bench"

    async def echo(self) -> None:
        """Nothing."""


def resident() -> int:
    """Bytes."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE


async def cost(call: Callable[[], Awaitable[object]], begun: Callable[[], int]) -> float:
    """Bytes for each of so many calls under way; they are cancelled then."""
    before = resident()
    tasks = [asyncio.ensure_future(call()) for _ in range(COUNT)]
    while begun() < COUNT:  # noqa: ASYNC110 - nobody tells when
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)  # until the broker has confirmed them
    each = (resident() - before) / COUNT
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return each


async def main(kind: str, url: str) -> None:
    """Measure one kind."""
    loop = asyncio.get_running_loop()
    service = Mesh(url, service=Service())
    await service.start()
    async with Mesh(url) as mesh:
        await mesh.request("bench", "echo")
        await service.stop()
        transport = mesh.transport
        waiting = 0

        async def wait() -> None:
            nonlocal waiting
            waiting += 1
            await loop.create_future()

        payload = {"tag": "request", "service": "bench", "method": "echo", "params": {}}
        match kind:
            case "task":
                each = await cost(wait, lambda: waiting)
            case "transport":
                each = await cost(
                    lambda: transport.request({**payload, "params": dict(PARAMS)}, timeout=600),
                    lambda: transport.pending,
                )
            case _:
                each = await cost(
                    lambda: mesh.request("bench", "echo", dict(PARAMS), timeout=600),
                    lambda: transport.pending,
                )
        print(each, flush=True)


asyncio.run(main(*sys.argv[1:]))
