"""Several processes that serve the same, and one that watches them.

Each worker's standard input is a socket: the parent sends the broker's address, which may hold a
password, and the worker says when it is ready; when the parent is gone, the socket has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Final

from ..broker.backoff import pause
from ..waiting import Changes
from .conventions import INTERRUPTED, CommandError, Serve

logger = logging.getLogger("nuropb_rmq.cli")

LONGEST_PAUSE: Final = 30.0
"""Seconds before a worker that died is started again, at most."""
KILLED_AFTER: Final = 10.0
"""Seconds after --grace until a worker that has not ended is killed."""


def supervise(options: Serve) -> int:
    """Run the workers until a signal; return the exit status. Raises CommandError."""
    if options.workers > 1 and options.instance_id:
        raise CommandError("--instance-id names one instance: leave it out with several --workers")
    if options.workers > 1 and (options.url or "").startswith("memory://"):
        raise CommandError("a broker in memory has one process: leave out --workers")
    if options.reload and find_spec("watchfiles") is None:
        raise CommandError("--reload needs watchfiles: pip install 'nuropb-rmq-aio[reload]'")
    return asyncio.run(_Supervisor(options).run())


class _Worker:
    """One process, and the parent's end of its socket."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer
        self.reloads = False
        """True when it ends because a file has changed."""

    async def ready(self) -> bool:
        """Wait until it serves; return False if it ends before."""
        return bool(await self._reader.readline())

    async def ended(self) -> int:
        """Wait for its end; return its exit status."""
        status = await self.process.wait()
        self._writer.close()
        return status

    def end(self, grace: float) -> None:
        """End it; kill it if it has not within the grace period, and a while."""
        if self.process.returncode is None:
            self.process.terminate()
            asyncio.get_running_loop().call_later(grace + KILLED_AFTER, self._kill)

    def _kill(self) -> None:
        if self.process.returncode is None:
            logger.warning("worker %d has not ended: killed", self.process.pid)
            self.process.kill()


class _Supervisor:
    """The parent process: starts workers, starts those again that die, and ends them."""

    def __init__(self, options: Serve) -> None:
        self._options = options
        self._workers: set[_Worker] = set()
        # Wakes those that wait for the end, or for files to change.
        self._changes = Changes()
        self._stopping = asyncio.Event()
        # Number of times that files have changed.
        self._reloads = 0
        # Until one has been ready, a failure ends all: it would be the next one's, too.
        self._has_served = False
        self._status = 0

    async def run(self) -> int:
        """Run until a signal, or until the first workers cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            async with asyncio.TaskGroup() as group:
                for worker in range(self._options.workers):
                    group.create_task(self._keep(_arguments(self._options, worker)))
                if self._options.reload:
                    group.create_task(self._reload())
                await self._stopping.wait()
                self._end_all()
        finally:
            self._end_all()
        return self._status

    def _signalled(self, number: signal.Signals) -> None:
        if not self._stopping.is_set():
            logger.info("%s: ending the workers (Ctrl-C: at once)", number.name)
            self._stop()
        elif number is signal.SIGINT:
            self._status = INTERRUPTED
            for worker in self._workers:
                if worker.process.returncode is None:
                    worker.process.send_signal(signal.SIGINT)

    def _end_all(self) -> None:
        for worker in self._workers:
            worker.end(self._options.grace)

    async def _keep(self, arguments: list[str]) -> None:
        """Keep one worker running."""
        failures = 0
        while not self._stopping.is_set():
            worker = await self._start(arguments)
            if self._stopping.is_set():
                worker.end(self._options.grace)
            ready = await worker.ready()
            self._has_served |= ready
            failures = 0 if ready else failures + 1
            status = await worker.ended()
            self._workers.discard(worker)
            if self._stopping.is_set() or worker.reloads:
                continue
            if self._options.reload:
                logger.warning("waiting for a file to change")
                await self._next_change()
            elif not self._has_served:
                self._status = status if status > 0 else 1  # it has said why
                self._stop()
            else:
                logger.warning(
                    "worker %d ended with status %d: started again", worker.process.pid, status
                )
                await self._until(lambda: False, pause(failures, LONGEST_PAUSE, first=1.0))

    async def _start(self, arguments: list[str]) -> _Worker:
        command = sys.executable, "-m", "nuropb_rmq", *arguments
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(*command, stdin=theirs.fileno())
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(f"{self._options.url or ''}\n".encode())
        worker = _Worker(process, reader, writer)
        self._workers.add(worker)
        return worker

    def _stop(self) -> None:
        self._stopping.set()
        self._changes.wake()

    async def _next_change(self) -> None:
        seen = self._reloads
        await self._until(lambda: self._reloads > seen)

    async def _until(self, condition: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait for a condition or the end, for `timeout` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changes.until(lambda: self._stopping.is_set() or condition())

    async def _reload(self) -> None:
        """End the workers whenever a Python file of this folder changes."""
        from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - an extra

        async for changes in awatch(
            ".", watch_filter=PythonFilter(), stop_event=self._stopping, raise_interrupt=False
        ):
            path = os.path.basename(min(path for _, path in changes))
            logger.info("%s has changed: starting again", path)
            for worker in self._workers:
                worker.reloads = True
                worker.end(self._options.grace)
            self._reloads += 1
            self._changes.wake()


def _arguments(options: Serve, number: int) -> list[str]:
    """Return the arguments of a worker, but the URL: other users may see arguments.

    Each has a port for metrics of its own, by its number, so that it is the same when the worker
    is started again.
    """
    arguments = ["serve", options.target, "--worker", "--workers", str(options.workers)]
    arguments += ["--grace", str(options.grace), "--log-level", options.log_level]
    for name, value in (
        ("--name", options.name),
        ("--instance-id", options.instance_id),
        ("--start-timeout", options.start_timeout),
        ("--report", options.report),
        ("--log-config", options.log_config),
    ):
        if value is not None:
            arguments += [name, str(value)]
    if options.metrics is not None:
        host, port = options.metrics
        arguments += ["--metrics", f"{host}:{port + number if port else 0}"]
    if not options.configure:
        arguments.append("--no-configure")
    if options.health:
        arguments.append("--health")
    return arguments
