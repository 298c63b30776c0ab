"""Run a program of the demo: it logs to stderr, reports to stdout, and ends on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from nuropb_rmq import NuropbException, State, Transport

__all__ = ["report", "run", "until_stopped"]


def report(about: str, **facts: Any) -> None:
    """Say what happened, as one line of JSON on stdout."""
    print(json.dumps({"about": about, **facts}), flush=True)


def run(program: Coroutine[Any, Any, None]) -> None:
    """Run a program to its end; exit 1, with one line on stderr, when the library gives up."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    try:
        asyncio.run(program)
    except NuropbException as e:
        sys.exit(f"{type(e).__name__}: {e}")
    except KeyboardInterrupt:
        sys.exit(130)  # before or between what handles SIGINT itself


async def until_stopped(transport: Transport) -> None:
    """Wait for SIGTERM or SIGINT. Raises the error of a transport that fails for good."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A lost connection mends itself; after FAILED nobody would serve, so a supervisor should know.
    forget = transport.on_state_change(lambda state, _: stop.set() if state.over else None)
    try:
        if not transport.state.over:
            await stop.wait()
    finally:
        forget()
    if transport.state is State.FAILED and transport.error is not None:
        raise transport.error
