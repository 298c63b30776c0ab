"""A service, waiting without an event loop, and programs in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nuropb_rmq import NuropbContextManager, blocking, nuropb_context

from ..encrypting import private_key

ROOT = Path(__file__).parents[2]
WITHIN = 20.0
"""Seconds; the machine may be busy."""


def until(condition: Callable[[], object], within: float = WITHIN) -> None:
    """Wait until the condition holds, looking often."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {condition}"
        time.sleep(0.01)


def say(line: str) -> None:
    """Print a line, whole: other threads print, too."""
    os.write(1, f"{line}\n".encode())


def loop_threads() -> list[threading.Thread]:
    """The threads in which meshes run."""
    return [each for each in threading.enumerate() if each.name.startswith("nuropb-blocking")]


class Orders:
    """A service; it may call the mesh that serves it."""

    _service_name = "orders"

    def __init__(self) -> None:
        self.mesh: blocking.Mesh
        self.begun = threading.Event()
        self.release = threading.Event()
        self.told: list[tuple[str, Any]] = []
        self._private_key = private_key("orders")

    async def echo(self, n: int) -> int:
        """Give it back."""
        return n

    def add(self, a: int, b: int) -> int:
        """Synchronous: runs in a thread."""
        return a + b

    def fail(self) -> None:
        """Fail."""
        raise LookupError("no order")

    def block(self) -> str:
        """Begin, and wait to be released."""
        self.begun.set()
        assert self.release.wait(WITHIN)
        return "done"

    @nuropb_context
    def nested(self, ctx: NuropbContextManager, n: int) -> list[Any]:
        """Call the mesh from the thread of a synchronous method."""
        return [ctx.trace_id, self.mesh.request("orders", "inner", {"n": n})]

    @nuropb_context
    async def inner(self, ctx: NuropbContextManager, n: int) -> list[Any]:
        """The trace id that arrives."""
        return [ctx.trace_id, n]

    async def misuse(self) -> str:
        """Call the mesh from its own event loop."""
        try:
            self.mesh.request("orders", "echo", {"n": 1})
        except Exception as e:  # noqa: BLE001 - the test looks at it
            return repr(e)
        return "no error"

    def _handle_event_(self, topic: str, event: Any, *_: Any) -> None:
        self.told.append((topic, event))


class Program:
    """`python -m tests.blocking.MODULE ARGUMENTS...`; its output is read line by line."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.blocking.{module}", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_heed_interrupts,  # noqa: PLW1509 - it takes no lock
        )
        self.lines: list[str] = []
        self._errors: list[str] = []
        self._threads = [
            threading.Thread(target=_read, args=pair)
            for pair in ((self.process.stdout, self.lines), (self.process.stderr, self._errors))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def errors(self) -> str:
        """All that it has written to stderr."""
        return "".join(self._errors)

    def says(self, line: str, times: int = 1) -> None:
        """Wait until it has printed a line so often."""
        said = f"{line}\n"
        try:
            until(lambda: self.lines.count(said) >= times or self.process.poll() is not None)
        finally:
            assert self.lines.count(said) >= times, f"{self.lines}\n{self.errors}"

    def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def ended(self) -> int:
        """Wait for its end; return its exit status."""
        status = self.process.wait(WITHIN)
        for thread in self._threads:
            thread.join(WITHIN)
        return status

    def close(self) -> None:
        """End it and what it has forked, if they have not ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.ended()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def _heed_interrupts() -> None:
    """Heed SIGINT in a new process: behind a shell's `&`, where tests may run, it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _read(pipe: Any, lines: list[str]) -> None:
    for line in pipe:
        lines.append(line)
