"""Row 66: the event loop stood still for longer than the broker waits for heartbeats.

As a cell of a notebook does that computes, or a laptop that sleeps.
"""

from __future__ import annotations

import asyncio
import time

from ..support import Recorder, Transports, Watch, command, event, eventually, request, result_of

HEARTBEAT = 1
"""Seconds."""
STILL = 4.0
"""Seconds: RabbitMQ looks each heartbeat whether anything came, and ends what is silent twice."""


async def test_row_66_loop_stood_still(mesh: Transports) -> None:
    """Nothing is written to the dead connection: all is sent once it is back, and once."""
    seen = Recorder()
    await mesh.service(seen)
    client = await mesh.client(heartbeat=HEARTBEAT)
    watch = Watch(client)
    before = client.post(command(n=1))
    time.sleep(STILL)  # noqa: ASYNC251 - it is the fault
    behind = [client.post(command(n=n)) for n in (2, 3)]
    answer = asyncio.create_task(client.request(request(n=4)))
    happened = client.post(event("orders.created", 5))
    await asyncio.wait_for(asyncio.gather(before, *behind, happened), 10)
    assert result_of(await answer) == {"n": 4}
    await eventually(lambda: len(seen.seen) == 4)
    assert sorted(each.payload["params"]["n"] for each in seen.seen) == [1, 2, 3, 4]
    await watch.recovered()
