"""Many Meshes in one process, which then do nothing: what one costs.

    python -m sides.fleet URL client|patient|service COUNT

tells once, as JSON, resident bytes and CPU seconds of each; it tells the CPU that idling took, in
seconds of all, when a line comes, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time

from nuropb_rmq import Mesh, TransportConfig

from .loop import resident

AT_ONCE = 10


class Service:
    """Something to serve."""

    async def echo(self) -> None:
        """Nothing."""


def _mesh(url: str, kind: str, number: int) -> Mesh:
    if kind == "client":
        return Mesh(url)
    if kind == "patient":  # what a program does that is one of very many
        config = TransportConfig(
            amqp_url=url, service_name="client", client_only=True, heartbeat=60
        )
        return Mesh(config, configure=False)
    return Mesh(url, service_name=f"service{number}", service=Service())


async def main(url: str, kind: str, count: int) -> None:
    """Start them, tell, wait."""
    first = _mesh(url, kind, 0)  # what all share is there then
    await first.start()
    gc.collect()
    memory, cpu = resident(), time.process_time()
    meshes = [_mesh(url, kind, number) for number in range(1, count + 1)]
    for at in range(0, count, AT_ONCE):
        await asyncio.gather(*(mesh.start() for mesh in meshes[at : at + AT_ONCE]))
    cpu = time.process_time() - cpu
    gc.collect()
    each = {"memory": (resident() - memory) / count, "cpu": cpu / count}
    print(json.dumps(each), flush=True)
    loop = asyncio.get_running_loop()
    idle = time.process_time()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"idle": time.process_time() - idle}), flush=True)
        idle = time.process_time()
    os._exit(0)  # a thousand orderly ends take long


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
