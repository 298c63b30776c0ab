"""The processes of a run: started, killed, suspended, and ended, each by its process id."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .wire import Proxy

ROOT = Path(__file__).resolve().parents[3]
HURRY = 1.0
"""Seconds from SIGTERM to SIGKILL, when all is over anyway."""


@dataclass(frozen=True, slots=True)
class Role:
    """The role of a place in the fleet: a client, or one instance of a service."""

    place: str
    module: str
    service: str = "caller"
    hosts: tuple[str, ...] = ("127.0.0.1",)
    """Of its wire, by different names: with several of them it connects as in a cluster."""
    queue_type: str = "classic"


SEVERAL = ("127.0.0.1", "localhost")
ROLES = (
    Role("client-1", "client"),
    Role("client-2", "client", hosts=SEVERAL),
    Role("client-3", "client"),
    Role("alpha-1", "service", "alpha"),
    Role("alpha-2", "service", "alpha", hosts=SEVERAL),
    Role("beta-1", "service", "beta", hosts=SEVERAL, queue_type="quorum"),
    Role("mayfly-1", "service", "mayfly"),
)
SUBSCRIBERS = ("alpha", "beta")
"""Every event must reach these; `mayfly`, whose queue is deleted now and then, gets it too."""
MORTAL = frozenset({"mayfly"})


@dataclass(eq=False)
class Program:
    """One process; when it was killed, another takes its place."""

    role: Role
    name: str
    process: Process
    log: Path
    """The file that it writes its stderr to."""
    told_to_end: bool = False
    ended: asyncio.Task[int] = field(init=False)

    def __post_init__(self) -> None:
        self.ended = asyncio.create_task(self.process.wait(), name=f"{self.name} ends")

    def signal(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended: its number may be somebody else's by now."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def last_words(self) -> str:
        """Return its exit status, if it has ended, and the last line of its log."""
        status = f"status {self.ended.result()}" if self.ended.done() else "it goes on"
        words = self.log.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(words) if line.strip()), "nothing in its log")
        return f"{status}, {last}"


class Fleet:
    """All places, the program in each, and the wire that it is on."""

    def __init__(self, folder: Path, vhost: str, seed: int, rate: float) -> None:
        self._folder = folder
        self._vhost = vhost
        self._seed = seed
        self._rate = rate
        self._count: dict[str, int] = {}
        self._all: list[Program] = []
        self.now: dict[str, Program] = {}
        """Place → the program that is there."""
        self.wires: dict[str, Proxy] = {}
        # Should this process be killed, they are too (prctl(2), PR_SET_PDEATHSIG): stopped ones
        # would hear nothing else.
        setpriv = shutil.which("setpriv")
        self._guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []

    async def start(self, role: Role) -> Program:
        """Begin a program in its place."""
        number = self._count[role.place] = self._count.get(role.place, 0) + 1
        name = f"{role.place}-{number}"
        port = self.wires[role.place].port
        urls = [f"amqp://guest:guest@{host}:{port}/{self._vhost}" for host in role.hosts]
        module = f"{__package__}.{role.module}"
        arguments = [str(self._folder), name, role.service, ",".join(urls), str(self._seed)]
        arguments += [str(self._rate), role.queue_type]
        path = self._folder / f"{name}.stderr"
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self._guard, sys.executable, "-m", module, *arguments,
                stdin=DEVNULL, stdout=DEVNULL, stderr=log, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        program = Program(role, name, process, path)
        self._all.append(program)
        self.now[role.place] = program
        return program

    async def kill(self, program: Program) -> None:
        """SIGKILL; returns when it is gone."""
        program.told_to_end = True
        program.signal(signal.SIGKILL)
        await program.ended

    async def stop(self, program: Program, within: float) -> bool:
        """SIGTERM; whether it ended well in so many seconds."""
        program.told_to_end = True
        program.signal(signal.SIGTERM)
        await asyncio.wait([program.ended], timeout=within)
        return program.ended.done() and program.ended.result() == 0

    def places(self, module: str) -> list[str]:
        """The places of clients, or of services."""
        return [place for place, program in self.now.items() if program.role.module == module]

    def names(self, module: str | None = None) -> list[str]:
        """The programs that are there now."""
        return [each.name for each in self.now.values() if module in (None, each.role.module)]

    def dead(self) -> list[Program]:
        """Those that ended without being told to."""
        return [each for each in self._all if each.ended.done() and not each.told_to_end]

    async def end_all(self) -> None:
        """End what still runs, suspended or not."""
        running = [each for each in self._all if not each.ended.done()]
        for program in running:
            program.told_to_end = True
            program.signal(signal.SIGTERM)
            program.signal(signal.SIGCONT)
        if running:
            await asyncio.wait([each.ended for each in running], timeout=HURRY)
        for program in running:
            program.signal(signal.SIGKILL)
            await program.ended
