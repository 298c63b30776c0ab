"""A program that ends without stop(): what it left is logged once."""

from __future__ import annotations

import asyncio
import sys

from ..support import Transports

PROGRAM = """
import asyncio, logging, sys
from nuropb_rmq import Transport, TransportConfig

async def main():
    transport = Transport(TransportConfig(amqp_url=sys.argv[1], service_name="a", client_only=True))
    await transport.start()
    for n in range(50):
        transport.post({"tag": "command", "service": "orders", "method": "m", "params": {"n": n}})

logging.basicConfig(level=logging.ERROR)
asyncio.run(main())
"""


async def test_a_program_that_ends_without_stop_says_once_what_it_left(mesh: Transports) -> None:
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, mesh.url), stderr=asyncio.subprocess.PIPE
    )
    _, told = await program.communicate()
    ours = [line for line in told.decode().splitlines() if "nuropb_rmq" in line]
    assert len(ours) == 1
    assert "nobody waited for it: written, but the channel was lost" in ours[0]
    assert ours[0].endswith("(50 times)")
