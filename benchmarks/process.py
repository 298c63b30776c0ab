"""A side's process, asked for one run at a time, and the broker's CPU beside it."""

from __future__ import annotations

import json
import os
import select
import subprocess
from itertools import count
from typing import Any

from nuropb_rmq.testing import RabbitMQNode

from .peers import ROOT, Peer
from .sides.loop import STORE, STORED

Figures = dict[str, float]
"""seconds, cpu and broker (CPU seconds of this process and of the broker), operations, and more."""

LIMIT = 240.0
"""Seconds that one run may take."""

_numbers = count(1)
_TICKS = os.sysconf("SC_CLK_TCK")


class NotStartedError(Exception):
    """A side that cannot run here; the text is the end of what it said."""


class Side:
    """A process, in a virtual host of its own."""

    def __init__(self, peer: Peer, role: str, node: RabbitMQNode) -> None:
        self.peer = peer
        self._node = node
        self._vhost = f"side-{next(_numbers)}"
        if not peer.python.exists():
            raise NotStartedError(f"{peer.python} is missing: run scripts/setup --bench")
        make_vhost(node, self._vhost)
        program = [str(peer.python), "-m", f"sides.{peer.module}"]
        self._process = subprocess.Popen(
            [*program, node.amqp_url + self._vhost, role, *peer.options],
            cwd=ROOT / "benchmarks",
            env={**os.environ, "PYTHONPATH": str(peer.root) if peer.ours else ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = self._read()
        self.version = str(ready["version"])
        # Of what carries its messages; None: nothing but itself.
        self._carrier: int | None = ready.get("carrier", node.pid)
        if role == "publish":
            self._bind_store(ready["exchange"])

    def _bind_store(self, exchange: str) -> None:
        vhost = self._vhost
        self._node.api("PUT", f"/api/queues/{vhost}/{STORE}", {"durable": True})
        path = f"/api/bindings/{vhost}/e/{exchange}/q/{STORE}"
        self._node.api("POST", path, {"routing_key": STORED})

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], LIMIT)
        if not readable:
            raise TimeoutError(f"{self.peer.label}: no answer within {LIMIT:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate(timeout=10)
            raise NotStartedError(said.strip().rpartition("\n")[2] or "no error was told")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, run: str, **arguments: object) -> Figures:
        """One run; see sides/loop.py."""
        assert self._process.stdin is not None
        before = cpu_of(self._carrier)
        self._process.stdin.write(json.dumps({"run": run, **arguments}) + "\n")
        self._process.stdin.flush()
        figures = self._read()
        figures["broker"] = cpu_of(self._carrier) - before
        if run == "publish":
            self._node.api("DELETE", f"/api/queues/{self._vhost}/{STORE}/contents")
        return figures

    def close(self) -> None:
        """End it, and what it left on the broker."""
        self._process.kill()
        self._process.communicate()
        self._node.api("DELETE", f"/api/vhosts/{self._vhost}")


def make_vhost(node: RabbitMQNode, name: str) -> None:
    """A virtual host of guest's, with the exchanges that nuropb 0.1.8 expects to find."""
    node.api("PUT", f"/api/vhosts/{name}")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    node.api("PUT", f"/api/permissions/{name}/guest", everything)
    for purpose, kind in (("rpc", "direct"), ("events", "topic"), ("dl", "fanout")):
        exchange = {"type": kind, "durable": True}
        node.api("PUT", f"/api/exchanges/{name}/nuropb-{purpose}-exchange", exchange)


def cpu_of(process: int | None) -> float:
    """CPU seconds of a process so far (proc(5): the 14th and 15th field of stat)."""
    if process is None:
        return 0.0
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
