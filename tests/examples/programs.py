"""Programs as processes of their own: what they print, and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from ..support import eventually

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 30.0  # seconds; the machine may be busy
ENDS_WITHIN = 20.0


class Program:
    """`python -m MODULE ARGUMENTS...` under way; its output goes to files."""

    def __init__(self, folder: Path, url: str, *arguments: str, **environment: str) -> None:
        name = f"{len(list(folder.iterdir()))}-{arguments[0]}"
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env={**os.environ, "AMQP_URL": url, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        """The text that it has printed."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """The text that it has written to stderr, its log."""
        return self._err.read_text()

    async def says(self, text: str, times: int = 1, *, within: float = STARTS_WITHIN) -> Self:
        """Wait until it has printed or logged a text so often."""
        await eventually(
            lambda: (self.out + self.err).count(text) >= times or self.process.poll() is not None,
            within=within,
            describe=lambda: f"{text!r} not {times} times in\n{self.out}{self.err}",
        )
        assert (self.out + self.err).count(text) >= times, f"it has ended: {self.out}{self.err}"
        return self

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, within: float = ENDS_WITHIN) -> int:
        """Wait for its end; its exit status."""
        await eventually(
            lambda: self.process.poll() is not None,
            within=within,
            describe=lambda: f"it has not ended: {self.out}{self.err}",
        )
        return int(self.process.returncode)

    def close(self) -> None:
        """End it, if it has not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Programs:
    """All programs of a test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Program] = []

    def start(self, url: str, *arguments: str, **environment: str) -> Program:
        """Run a module with this broker; ended with the others."""
        made = Program(self._folder, url, *arguments, **environment)
        self._started.append(made)
        return made

    def close(self) -> None:
        """End what still runs."""
        for each in reversed(self._started):
            each.close()
