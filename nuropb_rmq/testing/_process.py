"""Start and end the processes of a node."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import subprocess
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

log = logging.getLogger("nuropb_rmq.testing.node")

# Outlives us by a moment. Each line names the processes that run now; if the pipe ends while there
# are some, this kills them and removes the folder.
KEEPER = """
pids=; while read -r line; do pids=$line; done
[ -z "$pids" ] || { kill -s KILL -- $pids; sleep 0.2; [ -z "$0" ] || rm -rf "$0"; } 2>/dev/null
"""

_alive: weakref.WeakSet[Processes] = weakref.WeakSet()


class Processes:
    """A node's broker and epmd, with a keeper that ends them when this process dies.

    The keeper is a shell at the other end of a pipe. PR_SET_PDEATHSIG is no alternative: it follows
    the thread that forked, and that of asyncio.to_thread may end long before the program.
    The keeper removes `folder` when this process dies; None: nothing to remove.
    """

    def __init__(self, folder: Path | None) -> None:
        self._owner = os.getpid()
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", KEEPER, "" if folder is None else str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        _alive.add(self)

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str], output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start `argv` in a new session, and tell the keeper."""
        process = subprocess.Popen(
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
        self._running.append(process)
        self._tell_keeper()
        return process

    def end(self, process: subprocess.Popen[bytes], *, grace: float = 0.0) -> None:
        """End `process` and its session, by SIGTERM first if `grace` is more than 0 seconds.

        On return it is dead and its process id is free.
        """
        if process.poll() is None and grace > 0:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                log.warning("process %d did not end within %.0f s of SIGTERM", process.pid, grace)
        process.kill()
        process.wait()
        _kill_session(process.pid)
        if process in self._running:
            self._running.remove(process)
        self._tell_keeper()

    def close(self) -> None:
        """Kill all remaining processes, and end the keeper; may be called again."""
        for process in list(self._running):
            self.end(process)
        pipe = self._keeper.stdin
        if pipe is not None and not pipe.closed:
            pipe.close()
        self._keeper.wait()
        _alive.discard(self)

    def close_at_exit(self) -> None:
        """Close, and remove the folder; do nothing in a fork of the owner."""
        if os.getpid() != self._owner:
            return
        self.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _tell_keeper(self) -> None:
        pipe = self._keeper.stdin
        if pipe is None or pipe.closed:
            return
        # A negative id means a process group: each process leads its own.
        line = " ".join(f"-{process.pid}" for process in self._running)
        try:
            pipe.write(f"{line}\n".encode())
            pipe.flush()
        except BrokenPipeError:
            log.warning("the keeper of the node's processes is gone")


def session_members(leader: int) -> list[int]:
    """Return the processes, except zombies, of the session that `leader` started."""
    members: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # proc(5): pid (comm) state ppid pgrp session …
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(session) == leader and state not in "ZX":
            members.append(int(stat.parent.name))
    return members


def _kill_session(leader: int) -> None:
    # The emulator's port programs (disk monitor, resolver) have their own groups in its session.
    # While one of them lives, the kernel does not reuse the leader's id.
    deadline = time.monotonic() + 5.0
    while (members := session_members(leader)) and time.monotonic() < deadline:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


@atexit.register
def _close_all() -> None:
    for processes in list(_alive):
        processes.close_at_exit()
