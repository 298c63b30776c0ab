"""Many letters, and many looks: long runs only."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nuropb_rmq.testing import RabbitMQNode

from .conftest import may_be_returned, yard_at

pytestmark = [pytest.mark.broker, pytest.mark.long]
ROOT = Path(__file__).parents[2]
MANY = 100_000
MOST_MEMORY = 30_000
"""KiB that looking at them may add."""

LOOK = """
import asyncio, json, resource, sys
from nuropb_rmq import DeadLetters, TransportConfig

async def main():
    config = TransportConfig(amqp_url=sys.argv[1], service_name="orders")
    async with DeadLetters(config, allow_delivery_limit=True) as dead:
        async for _ in dead.list(limit=100):
            pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        count = 0
        async for _ in dead.list():
            count += 1
        groups = await dead.groups()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps([count, sum(each.count for each in groups), after - before]))

asyncio.run(main())
"""


@pytest.mark.timeout(900)
async def test_a_queue_of_many_letters_takes_no_memory(
    rabbitmq_node: RabbitMQNode, mesh_url: str
) -> None:
    async with yard_at(mesh_url, rabbitmq_node.management_url) as yard:
        for number in range(MANY // 10_000):
            await yard.fill(10_000, start=number * 10_000)
        run = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", LOOK, mesh_url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        count, grouped, more = json.loads(run.stdout)
        print(f"{MANY} letters: {more} KiB more")
        assert (count, grouped) == (MANY, MANY)
        assert more < MOST_MEMORY


@pytest.mark.timeout(900)
async def test_a_thousand_looks_change_nothing(rabbitmq_node: RabbitMQNode, mesh_url: str) -> None:
    await asyncio.to_thread(may_be_returned, rabbitmq_node, mesh_url)
    async with yard_at(mesh_url, rabbitmq_node.management_url, queue_type="quorum") as yard:
        await yard.fill(60, 30)
        async with yard.dead_letters() as dead:
            bodies = [each.body async for each in dead.list()]
            assert len(bodies) == 90
            for number in range(1000):
                limit = None if number % 2 else 1 + number % 90
                found = [each.body async for each in dead.list(limit=limit)]
                assert found == bodies[:limit], number
            assert [each.body async for each in dead.list()] == bodies
