"""How a program of the mesh is run: where its broker is, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

from nuropb_rmq import Mesh, NuropbException, State

__all__ = ["broker", "run", "until_stopped"]


def broker() -> str:
    """The broker's URL."""
    return os.environ.get("AMQP_URL", "amqp://guest:guest@localhost/")


def run(program: Coroutine[Any, Any, None]) -> str | None:
    """Run a program; what sys.exit() takes: None, or the one line that says why it has failed."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(program)
    except NuropbException as e:
        return f"{type(e).__name__}: {e}"
    return None


async def until_stopped(mesh: Mesh) -> None:
    """Wait for SIGTERM or SIGINT. Raises the error of a mesh that has failed for good.

    A lost connection is no such error: the mesh mends that by itself.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    mesh.on_state_change(lambda state, _: stop.set() if state is State.FAILED else None)
    await stop.wait()
    if mesh.state is State.FAILED and mesh.error is not None:
        raise mesh.error
