"""A program that is interrupted by Ctrl-C.

`python -m tests.blocking.interrupted WHERE`
"""

from __future__ import annotations

import asyncio
import sys

from nuropb_rmq import State, blocking

from ..seams import blocking_calls
from .support import loop_threads, say, until

NOWHERE = "amqp://guest:guest@127.0.0.1:1/"


class Slow:
    """Takes its time."""

    _service_name = "slow"

    async def wait(self, says: str = "") -> None:
        """Say that it begins, and do not end."""
        if says:
            say(says)
        await asyncio.sleep(600)

    async def echo(self, n: int) -> int:
        """Give it back."""
        return n


def in_a_call() -> None:
    """The mesh is as it was."""
    with blocking.Mesh("memory://slow", service=Slow()) as service:
        with blocking.Mesh("memory://slow") as mesh:
            try:
                mesh.request("slow", "wait", {"says": "waiting"}, timeout=600)
            except KeyboardInterrupt:
                say("interrupted")
            until(lambda: blocking_calls(mesh) == 0)  # it is cancelled
            assert mesh.request("slow", "echo", {"n": 1}) == 1
        service.stop(grace=0)


def in_start() -> None:
    """Nothing is left."""
    mesh = blocking.Mesh(NOWHERE, start_timeout=600)
    mesh.on_state_change(lambda *_: say("waiting"))
    try:
        mesh.start()
    except KeyboardInterrupt:
        say("interrupted")
    until(lambda: not loop_threads())
    assert mesh.state is State.STOPPED


def in_stop() -> None:
    """It goes on, without grace."""
    mesh = blocking.Mesh("memory://slow", service=Slow())
    with mesh:
        mesh.command("slow", "wait")
        until(lambda: mesh.stats().handlers_active)
        mesh.on_state_change(lambda *_: say("waiting"))
        try:
            mesh.stop(grace=600)
        except KeyboardInterrupt:
            say("interrupted")
        until(lambda: not loop_threads())
        assert mesh.state is State.STOPPED


if __name__ == "__main__":
    {"call": in_a_call, "start": in_start, "stop": in_stop}[sys.argv[1]]()
