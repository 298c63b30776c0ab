"""The cost of a program before its first message, and while it waits for an answer."""

from __future__ import annotations

import json
import subprocess

from .conftest import Scenario, Sides
from .peers import (
    ADAPTER,
    AIO_PIKA,
    AIORMQ,
    FLOOR,
    MESH,
    NUROPB,
    NUROPB_RMQ,
    OTHERS,
    ROOT,
    TRANSPORT,
)
from .process import Figures

IMPORTS = {
    "nuropb_rmq.mesh": TRANSPORT,
    "nuropb.rmq_api": NUROPB,
    "nuropb_rmq 1.0.0": NUROPB_RMQ,
    "aio_pika": AIO_PIKA,
    "aiormq": AIORMQ,
    "faststream.rabbit": OTHERS[3],
}
OUTSTANDING = 10_000

PROGRAM = """
import json, sys, time
before = set(sys.modules)
wall, cpu = time.perf_counter(), time.process_time()
__import__(sys.argv[1])
seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
new = {name.partition(".")[0] for name in set(sys.modules) - before}
foreign = sorted(name for name in new if name not in sys.stdlib_module_names)
print(json.dumps([{"seconds": seconds, "cpu": cpu, "operations": 1, "broker": 0}, foreign]))
"""


def test_import(scenario: Scenario) -> None:
    """CPU of the import in a new process, and which packages came with it."""
    packages: dict[str, list[str]] = {}

    def import_all() -> None:
        for _ in range(scenario.pace.starts):
            print(".", end="", flush=True)
            for name, peer in IMPORTS.items():
                if peer.python.exists():
                    figures, packages[name] = _import(name, peer.python.as_posix(), peer.ours)
                    scenario.keep(name, figures)

    scenario.once(import_all)
    scenario.note(packages=packages)


def _import(name: str, python: str, ours: bool) -> tuple[Figures, list[str]]:
    done = subprocess.run(
        [python, "-c", PROGRAM, name.partition(" ")[0]],
        cwd=ROOT if ours else ROOT / "benchmarks",
        env={"PYTHONPATH": str(ROOT) if ours else "", "PATH": ""},
        stdout=subprocess.PIPE,
        check=True,
    )
    figures, packages = json.loads(done.stdout)
    return figures, packages


def test_start(scenario: Scenario, sides: Sides) -> None:
    """A service from nothing to ready: connected, declared, consuming."""
    running = scenario.start(sides, (TRANSPORT, MESH, ADAPTER, *OTHERS, FLOOR), "start")
    for side in running:
        side.run("start")
    scenario.in_turn(
        running,
        lambda side, _: side.run("start"),
        counts={side.peer.label: 1 for side in running},
        rounds=scenario.pace.starts,
    )


def test_outstanding(scenario: Scenario, sides: Sides) -> None:
    """Memory of each of many calls that wait for their answer. (FastStream makes one at a time.)"""
    peers = (TRANSPORT, MESH, NUROPB, NUROPB_RMQ, AIO_PIKA, AIORMQ, FLOOR)
    running = scenario.start(sides, peers, "rpc")

    def measure() -> None:
        for side in running:
            print(".", end="", flush=True)
            scenario.keep(side.peer.label, side.run("outstanding", count=OUTSTANDING))

    scenario.once(measure)
