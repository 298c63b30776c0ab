"""Follow a page of the documentation from top to bottom: write its files, type its commands.

A block whose first line is `# NAME` is a file. A block of `console` has commands behind `$ `, each
followed by what it prints; "…" stands for anything. Blocks of `sh` are for the reader alone.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .support import WITHIN, blocks, environment, type_in, typed

URL: Final = "amqp://guest:guest@localhost/"
PORT: Final = "localhost:8000"
_READY: Final = {"nuropb-rmq serve ": "serving", "uvicorn ": "Application startup complete"}
"""Commands that go on, and what they print when they are ready."""


class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    def __init__(self, folder: Path, url: str, port: int) -> None:
        self._folder = folder
        self._here = {URL: url, PORT: f"localhost:{port}"}
        self._env = environment(UVICORN_PORT=str(port))
        del self._env["NUROPB_RMQ_URL"]  # pages that need it set it
        self._running: list[subprocess.Popen[bytes]] = []

    def read(self, page: str) -> int:
        """Follow a page; return the number of commands."""
        commands = 0
        for written, own in self._here.items():
            page = page.replace(written, own)
        for block in blocks(page):
            if block.file is not None:
                path = self._folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            elif block.language == "console":
                for command, printed in typed(block):
                    self._type(command, printed)
                    commands += 1
        return commands

    def stop(self) -> None:
        """End what goes on."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(WITHIN)

    def _type(self, command: str, printed: str) -> None:
        ready = next((said for words, said in _READY.items() if command.startswith(words)), None)
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self._env[name] = value
        elif ready is not None:
            self._start(shlex.split(command), ready)
        else:
            type_in(command, printed, self._folder, self._env)

    def _start(self, arguments: list[str], ready: str) -> None:
        log = self._folder / f"{len(self._running)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                arguments,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._running.append(process)
        deadline = time.monotonic() + WITHIN
        while ready not in log.read_text(encoding="utf-8"):
            said = log.read_text(encoding="utf-8")
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)


@contextmanager
def reader(folder: Path, url: str) -> Iterator[Reader]:
    """Return a reader; what they start is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = Reader(folder, url, port)
    try:
        yield one
    finally:
        one.stop()
