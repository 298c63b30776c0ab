"""Processes of a node: they end with the program that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nuropb_rmq.testing._process import Processes, session_members

# Dies by SIGKILL, with a program of its own running: nobody is left to call stop().
DOOMED = """
import os, signal, sys
from pathlib import Path
from nuropb_rmq.testing._process import Processes
folder = Path(sys.argv[1])
with open(folder / "out", "wb") as out:
    child = Processes(folder).spawn(["sleep", "600"], {"PATH": os.environ["PATH"]}, out)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_runs_dies_with_the_program_that_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", DOOMED, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    until(lambda: session_members(int(done.stdout)) == [] and not folder.exists())


def test_processes_can_be_closed_twice(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    with open(tmp_path / "out", "wb") as out:
        child = processes.spawn(["sleep", "600"], {"PATH": os.environ["PATH"]}, out)
    processes.close()
    processes.close()
    assert child.returncode == -signal.SIGKILL
    assert tmp_path.exists()


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()
