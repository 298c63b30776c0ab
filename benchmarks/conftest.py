"""One node for all sides, and each side as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq.testing import RabbitMQNode

ROOT = Path(__file__).parents[1]
PEER_PYTHON = ROOT / ".venv-peer" / "bin" / "python"


class Side:
    """A side's process, asked for one run at a time."""

    def __init__(self, name: str, python: str, url: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.sides.{name}", url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"side {self.name} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, calls: int, concurrency: int) -> tuple[float, float]:
        """So many calls; returns wall seconds and CPU seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"calls": calls, "concurrency": concurrency}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return answer["seconds"], answer["cpu"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture(scope="session")
def node() -> Iterator[RabbitMQNode]:
    """The node that all sides share."""
    with RabbitMQNode() as started:
        yield started


def _vhost(node: RabbitMQNode, name: str) -> str:
    node.api("PUT", f"/api/vhosts/{name}")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    node.api("PUT", f"/api/permissions/{name}/guest", everything)
    return f"{node.amqp_url}{name}"


@pytest.fixture(scope="session")
def ours(node: RabbitMQNode) -> Iterator[Side]:
    """This library."""
    side = Side("ours", sys.executable, _vhost(node, "ours"))
    yield side
    side.close()


@pytest.fixture(scope="session")
def adapter(node: RabbitMQNode) -> Iterator[Side]:
    """This library's RMQTransport."""
    side = Side("adapter", sys.executable, _vhost(node, "adapter"))
    yield side
    side.close()


@pytest.fixture(scope="session")
def mesh(node: RabbitMQNode) -> Iterator[Side]:
    """This library's Mesh."""
    side = Side("mesh", sys.executable, _vhost(node, "mesh"))
    yield side
    side.close()


@pytest.fixture(scope="session")
def nuropb(node: RabbitMQNode) -> Iterator[Side]:
    """nuropb 0.1.8, in a virtual host with its exchanges."""
    if not PEER_PYTHON.exists():
        pytest.fail("nuropb 0.1.8 is not installed: run scripts/setup --peer")
    url = _vhost(node, "nuropb")
    for name, kind in (("rpc", "direct"), ("events", "topic"), ("dl", "fanout")):
        exchange = {"type": kind, "durable": True}
        node.api("PUT", f"/api/exchanges/nuropb/nuropb-{name}-exchange", exchange)
    side = Side("nuropb_0_1_8", str(PEER_PYTHON), url)
    yield side
    side.close()
