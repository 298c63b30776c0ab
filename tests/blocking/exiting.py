"""Programs that end without stop().

`python -m tests.blocking.exiting URL HOW`
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from nuropb_rmq import Message, Observer, blocking

from .support import say


class Jobs:
    """Work that is not done when the program ends."""

    _service_name = "jobs"

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)

    async def wait(self) -> None:
        """Wait for what does not come."""
        self.begun.release()
        await asyncio.sleep(600)

    def hold(self) -> None:
        """Hold a thread until the test writes a line: the interpreter waits for it."""
        self.begun.release()
        sys.stdin.readline()

    def note(self) -> None:
        """Nothing; in a thread."""


class Received(Observer):
    """Prints a line for each message that comes in."""

    def received(self, message: Message) -> None:
        """Print it."""
        say(f"received {message.payload['method']}")


kept: list[blocking.Mesh] = []
"""Meshes that are not garbage collected."""


def started(url: str, **options: Any) -> blocking.Mesh:
    """A mesh that nobody stops."""
    kept.append(blocking.Mesh(url, **options))
    kept[-1].start()
    return kept[-1]


def call_forever(mesh: blocking.Mesh, called: threading.Event) -> None:
    """In a daemon thread: no exception is handled."""
    while True:
        mesh.command("jobs", "note", encrypted=False)
        called.set()


def main(url: str, how: str) -> None:
    """End in one of these ways."""
    mesh = started(url)
    match how:
        case "nothing":
            pass
        case "commands":
            for _ in range(50):
                mesh.command("jobs", "note", encrypted=False)
        case "error":
            raise LookupError("of the program")
        case "daemons":
            called = threading.Event()
            for _ in range(10):
                threading.Thread(target=call_forever, args=(mesh, called), daemon=True).start()
            called.wait(10)
        case "in hand" | "threads":
            jobs = Jobs()
            service = started(url, service=jobs)
            service.observe(Received())
            method, count = ("wait", 3) if how == "in hand" else ("hold", 1)
            for _ in range(count):
                mesh.command("jobs", method, encrypted=False)
            for _ in range(count):
                jobs.begun.acquire(timeout=10)
    say("over")


if __name__ == "__main__":
    main(*sys.argv[1:])
