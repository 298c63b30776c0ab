"""Starting, stopping and cancelling, over and over, leaves nothing: no task, socket, file, thread.

In a process of its own (leaker.py), so that its memory says something.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest

from ..support import Transports
from .processes import ROOT

RSS_PER_CYCLE = 1.0
"""KiB that a cycle, or a cancellation, may leave."""
RSS_NOISE = 1536
"""KiB that may stay whatever is done: allocators round up, bounded caches fill."""
OBJECTS_PER_CYCLE = 0.5
"""Objects, of whatever library, that the garbage collector may see more of."""
OBJECTS_NOISE = 200
"""In bounded caches, of 3 per cycle until some 300 cycles are done."""
ONE_ARENA = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}
"""glibc gives each thread memory of its own, 7 MB at times, and keeps it: then nothing is flat."""
LOOP_THREADS = 32
"""asyncio's own pool has no more (min(32, processors + 4)); they end with the event loop."""


@pytest.mark.parametrize(
    ("warm_up", "cycles", "cancellations"),
    [
        pytest.param(300, 1000, 500, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
        (15, 15, 40),
    ],
)
async def test_starts_stops_and_cancellations_leave_nothing(
    mesh: Transports, warm_up: int, cycles: int, cancellations: int
) -> None:
    """A cycle starts a service and a client, calls, and stops them: Mesh, RMQAPI, Transport."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    settings = {
        "url": mesh.url,
        "seed": seed,
        "warm_up": warm_up,
        "cycles": cycles,
        "cancellations": cancellations,
    }
    found = await run(settings)
    end = found.pop("end")
    assert end["complaints"] == []
    assert (end["sockets"], end["threads"]) == (0, ["MainThread"])
    for settled in ("cycles", "warm again", "cancellations"):
        check_nothing_runs(found[settled])
    check_flat(found["warm"], found["cycles"], cycles)
    check_flat(found["warm again"], found["cancellations"], cancellations)
    ended = found["cancellations"]["ended"]
    assert sum(ended.values()) == cancellations + cancellations // 10
    in_time = sum(count for how, count in ended.items() if how.endswith(" cancelled"))
    assert in_time > cancellations / 5, f"most had ended before they were cancelled: {ended}"


async def run(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Run the leaker; return its reports by what it had done then, and print them as they come."""
    found = {}
    with subprocess.Popen(  # noqa: ASYNC220 - a fork, and no shell
        [sys.executable, "-W", "error", "-m", "tests.faults.leaker", json.dumps(settings)],
        cwd=ROOT,
        env=os.environ | ONE_ARENA,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            while line := await asyncio.to_thread(process.stdout.readline):
                told = json.loads(line)
                what = told.pop("what", "end")
                ours = told.pop("ours")
                print(f"{what}: {told}", flush=True)
                found[what] = {**told, "ours": ours}
            assert await asyncio.to_thread(process.wait) == 0
        finally:
            process.kill()
    return found


def check_nothing_runs(at: dict[str, Any]) -> None:
    """When all is stopped, nothing of it is there."""
    assert (at["tasks"], at["sockets"]) == (0, 0), at
    threads = [each for each in at["threads"] if not each.startswith("asyncio_")]
    assert threads == ["MainThread"]
    assert len(at["threads"]) <= LOOP_THREADS + 1


def check_flat(before: dict[str, Any], after: dict[str, Any], count: int) -> None:
    """So many cycles later there is no more than before."""
    assert after["files"] <= before["files"]
    more = {
        name: number - before["ours"].get(name, 0)
        for name, number in after["ours"].items()
        if name and number > before["ours"].get(name, 0)
    }
    assert not more, f"objects of ours: {more}"
    objects = after["objects"] - before["objects"]
    assert objects < OBJECTS_NOISE + OBJECTS_PER_CYCLE * count, f"{objects} objects more"
    grown = after["rss"] - before["rss"]
    assert grown < RSS_NOISE + RSS_PER_CYCLE * count, f"{grown} KiB more"
