"""A parent that forks while threads use its mesh, and children, which try all that they may not.

`python -m tests.blocking.forking URL HOW`
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
import warnings
from typing import Any

import pytest

from nuropb_rmq import State, TransportClosedError, blocking

from .support import Orders, loop_threads, say

FORKS = 5
ECHO = {"n": 1}


def child(mesh: blocking.Mesh, heard: list[State]) -> None:
    """The parent's mesh is stopped here; a start of one's own works."""
    assert mesh.state is State.STOPPED, mesh.state
    assert loop_threads() == []
    for call in (
        lambda: mesh.request("orders", "echo", ECHO),
        lambda: mesh.command("orders", "echo", ECHO),
        lambda: mesh.publish_event("orders.placed", {}),
        lambda: mesh.describe_service("orders"),
        lambda: mesh.wait_for(State.READY),
        lambda: mesh.client("orders").echo(n=1),
    ):
        with pytest.raises(TransportClosedError, match=r"forked.*: call start\(\) in the child"):
            call()
    mesh.stop()
    gc.collect()
    heard.clear()
    with mesh:
        assert mesh.request("orders", "echo", ECHO, timeout=10) == 1
        assert mesh.request("orders", "echo", ECHO, timeout=10, encrypted=True) == 1
    assert heard == [State.CONNECTING, State.READY, State.DRAINING, State.STOPPED], heard
    with pytest.raises(TransportClosedError, match=r"is stopped: call start\(\) again"):
        mesh.request("orders", "echo", ECHO)
    say("child: done")


def fork(how: str, mesh: blocking.Mesh, heard: list[State]) -> int:
    """Fork, and wait for the child; return its exit status."""
    if how == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=child, args=(mesh, heard))
        process.start()
        process.join(30)
        return 99 if process.exitcode is None else process.exitcode
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        child(mesh, heard)
        if how == "exit":
            sys.exit(0)  # with all that Python does at the end
        status = 0
    finally:
        if how == "_exit":
            os._exit(status)
    return status


def keep_calling(mesh: blocking.Mesh, over: threading.Event, failed: list[Exception]) -> None:
    """Use what a fork may copy half done."""
    try:
        while not over.is_set():
            for encrypted in (False, True):
                mesh.request("orders", "echo", ECHO, timeout=20, encrypted=encrypted)
    except Exception as e:  # noqa: BLE001 - told below
        failed.append(e)


def main(url: str, how: str) -> None:
    """Fork again and again, and go on."""
    over, failed = threading.Event(), list[Exception]()
    heard: list[State] = []
    service = blocking.Mesh(url, service=Orders())
    mesh = blocking.Mesh(url)
    mesh.on_state_change(lambda state, _: heard.append(state))
    with service, mesh:
        threads = [
            threading.Thread(target=keep_calling, args=(mesh, over, failed)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        before = list(heard)
        for _ in range(FORKS):
            assert fork(how, mesh, heard) == 0
            assert mesh.request("orders", "echo", ECHO, timeout=10) == 1
        over.set()
        for thread in threads:
            thread.join(20)
        assert heard == before, heard
        assert not failed, failed
    say("parent: done")


def prefork(url: str) -> None:
    """As gunicorn does: made when the application is loaded, started in each worker."""
    mesh: Any = blocking.Mesh(url)
    with blocking.Mesh(url, service=Orders()):
        workers = []
        for _ in range(3):
            pid = os.fork()
            if not pid:
                mesh.start()
                for n in range(20):
                    assert mesh.request("orders", "echo", {"n": n}, timeout=10) == n
                say("child: done")
                sys.exit(0)  # without stop()
            workers.append(pid)
        for pid in workers:
            assert os.waitpid(pid, 0)[1] == 0
    say("parent: done")


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
    if sys.argv[2] == "prefork":
        prefork(sys.argv[1])
    else:
        main(sys.argv[1], sys.argv[2])
