"""A process that replays is killed with -9, again and again: nothing is lost."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nuropb_rmq.testing import RabbitMQNode

from .conftest import may_be_returned, yard_at
from .support import Yard

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[2]
OWN, FOREIGN = 2000, 1000
WINDOW = 64


async def killed(yard: Yard, chance: random.Random, within: float) -> bool:
    """Replay in a process, and kill it within so many seconds; False: it was done before."""
    process = subprocess.Popen(  # noqa: ASYNC220 - a fork, and no shell
        [sys.executable, "-m", "tests.dead_letters.replayer", yard.url, yard.config.queue_type],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert await asyncio.to_thread(process.stdout.readline) == "begins\n"
        # The moment is the fault that is injected, and no wait for anything.
        await asyncio.sleep(chance.uniform(0, within))
    finally:
        process.kill()
        said = await asyncio.to_thread(process.stdout.read)
        await asyncio.to_thread(process.wait)
        process.stdout.close()
    return "done" not in said


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(20, id="20"),
        pytest.param(100, id="100", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
async def test_nothing_is_lost_and_little_comes_twice(
    rabbitmq_node: RabbitMQNode, mesh_url: str, kind: str, kills: int
) -> None:
    await asyncio.to_thread(may_be_returned, rabbitmq_node, mesh_url)
    chance = random.Random(kills)
    async with yard_at(mesh_url, rabbitmq_node.management_url, queue_type=kind) as yard:
        await yard.fill(OWN, FOREIGN)
        await yard.declare()
        interrupted = 0
        for number in range(kills):
            # The letters grow fewer: so does the time in which each kill comes.
            interrupted += await killed(yard, chance, 1.0 / (1 + 10 * number / kills))
        async with yard.dead_letters() as dead, asyncio.timeout(60):
            waiting = 0
            while waiting != FOREIGN:  # what the last one held comes back, and is replayed
                waiting = (await dead.replay()).waiting
        replayed = Counter(await yard.replayed())
        left = await yard.left()
        twice = sum(replayed.values()) - len(replayed)
        print(f"{kind}: {kills} kills, {interrupted} within a replay, {twice} twice")
        assert set(replayed) == set(range(OWN))
        assert sorted(left) == list(range(FOREIGN))
        assert twice <= WINDOW * kills
        assert interrupted
