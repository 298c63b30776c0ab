"""The part that the clients' and the services' processes share."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nuropb_rmq import NuropbTransportError, State, Transport

from .journal import Journal, now

logger = logging.getLogger(__name__)

TOPIC = "chaos.tick"
METHOD = "work"
START_AGAIN = 0.5
"""Seconds between two tries to start."""
LOOK_EVERY = 0.05
"""Seconds between two looks at how far the event loop is behind."""


def digest(text: str) -> int:
    """A number that says whether a text came through as it was."""
    return zlib.crc32(text.encode())


class Program:
    """One process: its name, its logs, the broker's address, and the services' private key."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.name: str = given.name
        self.urls: list[str] = given.urls.split(",")
        self.queue_type: str = given.queue_type
        self.seed: int = given.seed
        self.service: str = given.service
        self.rate: float = given.rate
        self.journal = Journal(given.folder, given.name)
        self.stopping = asyncio.Event()
        self.was_ready = False
        self.longest_pause = self.stop_took = 0.0
        key = load_pem_private_key((given.folder / "services.pem").read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self.key = key

    @asynccontextmanager
    async def running(self, transport: Transport) -> AsyncIterator[None]:
        """Log the changes of its state, and start it; a SIGTERM, or its failure, ends the wait."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopping.set)
        transport.on_state_change(self._changed)
        watching = asyncio.create_task(self._watch())
        try:
            await self._start(transport)
            yield
        finally:
            began = now()
            await transport.stop()
            self.stop_took = now() - began
            watching.cancel()
            await asyncio.wait([watching])
        if transport.state is State.FAILED and transport.error is not None:
            raise transport.error

    async def _start(self, transport: Transport) -> None:
        """As whoever runs a process does: start again what could not start."""
        while not self.stopping.is_set():
            try:
                await transport.start()
            except NuropbTransportError as e:
                logger.warning("%s: %s", type(e).__name__, e)
                await asyncio.sleep(START_AGAIN)
            else:
                return

    def _changed(self, state: State, _: object) -> None:
        self.journal.write("state", state=state.name)
        if state is State.FAILED and self.was_ready:
            self.stopping.set()
        self.was_ready = self.was_ready or state is State.READY

    async def _watch(self) -> None:
        """Know how long the event loop was kept from running: by us, or by a busy machine."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(LOOK_EVERY)
            self.longest_pause = max(self.longest_pause, loop.time() - before - LOOK_EVERY)

    def end(self, *, pending: int, keys: int) -> None:
        """The last record: what should not be there any more."""
        tasks = len(asyncio.all_tasks()) - 1
        pause, stop = round(self.longest_pause, 3), round(self.stop_took, 3)
        self.journal.write("end", tasks=tasks, pending=pending, keys=keys, pause=pause, stop=stop)


def run(main: Callable[[Program], Awaitable[None]]) -> None:
    """Read the command line, and be that program until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("service")
    parser.add_argument("urls")
    parser.add_argument("seed", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("queue_type")
    given = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )

    async def be() -> None:
        await main(Program(given))

    asyncio.run(be())
