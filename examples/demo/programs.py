"""The programs of the demo as seen by who starts them: their reports, their logs, their end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nuropb_rmq.waiting import shielded

__all__ = ["ROOT", "DemoError", "Program", "Programs", "Report", "in_thread"]

Report = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
GRACE = 15.0  # seconds from SIGTERM to the end: more than stop() gives to what is in hand
HURRY = 3.0  # the same when the demo is over anyway
LONGEST_LINE = 2**20


class DemoError(Exception):
    """The demo cannot go on; the text is for whoever runs it."""


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """asyncio.to_thread, but when it is cancelled the thread has ended all the same."""
    thread = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        return await shielded(thread)
    except asyncio.CancelledError:
        await asyncio.wait([thread])
        raise


class Program:
    """One process, the leader of a process group of its own."""

    def __init__(self, name: str, process: Process) -> None:
        assert process.stdout is not None
        self.name = name
        self.pid = process.pid
        self.stdout = process.stdout
        self.process = process
        self.ended = asyncio.create_task(process.wait(), name=f"{name} ends")
        self.told_to_stop = False

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"

    def signal_group(self, number: int) -> bool:
        """Signal the group; False when there is nobody in it any more. 0 only asks."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True


class Programs:
    """All programs that were started. None of them may end without being told to."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._all: list[Program] = []
        # Should this process be killed, they get a SIGTERM (prctl(2), PR_SET_PDEATHSIG).
        setpriv = shutil.which("setpriv")
        self._guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []

    async def start(
        self, name: str, module: str, *arguments: str, python: str = sys.executable
    ) -> Program:
        """Run a module of the demo; its stderr goes to a log of its own."""
        command = [*self._guard, python, "-m", f"{__package__}.{module}", *arguments]
        with self._open_log(name) as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
                limit=LONGEST_LINE,
            )
        program = Program(name, process)
        self._all.append(program)
        return program

    async def hear(self, program: Program, about: str, *, within: float = 15.0) -> Report:
        """The next report of a program, which must be `about` this.

        Raises DemoError when it is another, when there is none within so many seconds, and when
        any program has ended meanwhile.
        """
        reading = asyncio.create_task(program.stdout.readline())
        ends = [each.ended for each in self._all if not each.told_to_stop]
        try:
            await asyncio.wait(
                [reading, *ends], timeout=within, return_when=asyncio.FIRST_COMPLETED
            )
            line = reading.result() if reading.done() else b""
        finally:
            reading.cancel()
        if line:
            report: Report = json.loads(line)
            if report["about"] != about:
                raise DemoError(f"{program} should report {about!r}, and reported {report}")
            return report
        if reading.done() and not program.told_to_stop:  # the end of its stdout comes first
            await asyncio.wait([program.ended], timeout=HURRY)
        for each in self._all:
            if each.ended.done() and not each.told_to_stop:
                raise DemoError(f"{each} has ended by itself: {self._how(each)}")
        raise DemoError(f"{program} has not reported {about!r} within {within:g} s")

    async def stop(self, program: Program) -> int:
        """SIGTERM, and the exit status. Raises DemoError when it goes on all the same."""
        self.tell_to_stop(program)
        await asyncio.wait([program.ended], timeout=GRACE)
        if not program.ended.done():
            raise DemoError(f"{program} has not ended {GRACE:g} s after SIGTERM")
        return program.ended.result()

    def tell_to_stop(self, program: Program) -> None:
        """SIGTERM."""
        program.told_to_stop = True
        with suppress(ProcessLookupError):
            program.process.send_signal(signal.SIGTERM)

    async def end_all(self) -> None:
        """End what still runs, kindly at first."""
        for program in self._all:
            self.tell_to_stop(program)
        running = [each.ended for each in self._all if not each.ended.done()]
        if running:
            await asyncio.wait(running, timeout=HURRY)
        for program in self._all:
            if not program.ended.done():  # else its number may be somebody else's by now
                program.signal_group(signal.SIGKILL)
            await program.ended

    def running(self) -> list[str]:
        """Those of which a process is left."""
        return [str(each) for each in self._all if each.signal_group(0)]

    def _open_log(self, name: str) -> IO[bytes]:
        return open(self._logs / f"{name}.log", "ab")

    def _how(self, ended: Program) -> str:
        status = ended.ended.result()
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        words = (self._logs / f"{ended.name}.log").read_text(errors="replace").split("\n")
        last = next((line for line in reversed(words) if line.strip()), "nothing in its log")
        return f"exit status {status}: {last}"
