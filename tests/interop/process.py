"""An old peer's process, from the outside."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-peer" / "bin" / "python"
LONGEST_LINE = 2**26
TAIL = 4000  # characters of its log in a failure


def why_not_installed() -> str | None:
    """Return why there is no nuropb 0.1.8, or None: then there is, or scripts/setup can make it."""
    if not PYTHON.exists() and sys.version_info >= (3, 12):
        return f"no {PYTHON.parents[1].name}: nuropb 0.1.8 needs Python < 3.12"
    return None


class PeerError(Exception):
    """An error that a command raised in the peer."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(f"{error}: {text}")
        self.error = error
        self.text = text


def _opened(log: Path) -> IO[bytes]:
    return open(log, "wb")


class OldPeer:
    """A process that runs old_peer.py: `do` sends it a command."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read(), name=f"{name} reads")

    @classmethod
    async def start(cls, name: str, folder: Path, *, transport: str = "nuropb") -> OldPeer:
        """A new process, on nuropb's own transport or on `nuropb_rmq`'s."""
        assert PYTHON.exists(), f"{PYTHON.parents[1].name} is missing: run scripts/setup --peer"
        log = folder / f"{name}.log"
        with _opened(log) as stderr:
            process = await asyncio.create_subprocess_exec(
                *(PYTHON, "-m", "tests.interop.old_peer", transport),
                cwd=ROOT,
                stdin=PIPE,
                stdout=PIPE,
                stderr=stderr,
                limit=LONGEST_LINE,
            )
        return cls(name, process, log)

    def log(self) -> str:
        """The end of what it has said, for a failure."""
        return self._log.read_text(errors="replace")[-TAIL:]

    async def do(self, what: str, /, *, patience: float = 60.0, **arguments: Any) -> Any:
        """Tell it, and wait so many seconds for the answer. Raises PeerError for its error."""
        number = next(self._numbers)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        line = json.dumps({"id": number, "do": what, **arguments})
        try:
            if self._reading.done():
                raise AssertionError(self._ended())
            self._process.stdin.write(line.encode() + b"\n")
            async with asyncio.timeout(patience):
                return await answered
        except TimeoutError:
            problem = f"{self.name}: {what!r} not done in {patience:g} s; its log:\n{self.log()}"
            raise AssertionError(problem) from None
        finally:
            del self._waiting[number]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            waiting = self._waiting.get(answer["id"])
            if waiting is None or waiting.done():
                continue
            if "error" in answer:
                waiting.set_exception(PeerError(answer["error"], answer["text"]))
            else:
                waiting.set_result(answer["value"])
        await self._process.wait()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(AssertionError(self._ended()))

    def _ended(self) -> str:
        return f"{self.name} has ended with status {self._process.returncode}:\n{self.log()}"

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process.returncode is None:
            self._process.kill()
        await self._gone()

    async def stop(self, *, within: float = 15.0) -> int:
        """Let it leave and end; the exit status. It is killed, and that a failure, if it cannot."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(within):
                await self._gone()
        except TimeoutError:
            await self.kill()
            problem = f"{self.name} did not end in {within:g} s; its log:\n{self.log()}"
            raise AssertionError(problem) from None
        assert self._process.returncode is not None
        return self._process.returncode

    async def _gone(self) -> None:
        await asyncio.wait([self._reading])  # not cancelled with whoever waits
        self._reading.result()
