"""Row 71: processes and brokers die while messages come back, and their queues go."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq import Message, RetryLater, State, TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode

from ..support import Transports, command, eventually
from .console import delete_queue, depth, metadata_is_written, queues, until_depths

ROOT = Path(__file__).parents[2]
COUNT = 100
DELAYS = (0.05, 0.1)
DLQ = "nuropb-orders-dlq"


class Done:
    """Hears of each command that is done."""

    def __init__(self) -> None:
        self.numbers: Counter[int] = Counter()

    async def __call__(self, message: Message) -> None:
        self.numbers[message.payload["event"]] += 1


async def started(settings: dict[str, Any]) -> subprocess.Popen[str]:
    """A service in a process of its own, once it serves."""
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-m", "tests.faults.retrier", json.dumps(settings)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
    return process


async def ended(process: subprocess.Popen[str]) -> None:
    """Kill it."""
    process.kill()
    await asyncio.to_thread(process.wait)
    assert process.stdout is not None
    process.stdout.close()


async def kills(mesh: Transports, queue_type: str, count: int) -> Done:
    """Send commands, and kill their service again and again; return what was heard."""
    done = Done()
    settings: dict[str, Any] = {
        "amqp_url": mesh.url,
        "service_name": "orders",
        "queue_type": queue_type,
        "retry_delays": DELAYS,
    }
    await mesh.service(done, "listener", event_bindings=["done.*"])
    client, process = await mesh.client(), await started(settings)
    for n in range(COUNT):
        await client.send(command(n=n))
    for _ in range(count):
        await asyncio.sleep(random.uniform(0, 0.2))
        await ended(process)
        process = await started(settings)
    await eventually(lambda: len(done.numbers) == COUNT, within=30)
    await ended(process)
    return done


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_row_71_the_process_is_killed(
    mesh: Transports, rabbitmq_node: RabbitMQNode, queue_type: str
) -> None:
    await asyncio.to_thread(delete_queue, rabbitmq_node, mesh.url, DLQ)
    await configure(
        TransportConfig(amqp_url=mesh.url, service_name="orders", queue_type=queue_type)
    )
    done = await kills(mesh, queue_type, 5)
    assert sorted(done.numbers) == list(range(COUNT))
    assert await asyncio.to_thread(depth, rabbitmq_node, mesh.url, DLQ) == 0


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_row_71_the_process_is_killed_100_times(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    await asyncio.to_thread(delete_queue, rabbitmq_node, mesh.url, DLQ)
    await configure(TransportConfig(amqp_url=mesh.url, service_name="orders", queue_type="quorum"))
    done = await kills(mesh, "quorum", 100)
    assert sorted(done.numbers) == list(range(COUNT))


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_row_71_the_broker_is_killed(
    mortal_mesh: Transports, mortal_node: RabbitMQNode
) -> None:
    """Messages that are due while the broker comes back are passed on three minutes later."""
    seen: Counter[int] = Counter()

    async def handle(message: Message) -> None:
        seen[message.payload["params"]["n"]] += message.attempts >= 3
        if message.attempts < 3:
            raise RetryLater("not yet", after=0.5)

    settings: dict[str, Any] = {
        "queue_type": "quorum",
        "retry_delays": (0.5,),
    }
    await asyncio.to_thread(delete_queue, mortal_node, mortal_mesh.url, DLQ)
    service = await mortal_mesh.service(handle, reconnect_cap=0.5, **settings)
    client = await mortal_mesh.client(reconnect_cap=0.5)
    # A broker that is killed within a second of making a queue may forget what was in it.
    await asyncio.to_thread(metadata_is_written, mortal_node)
    for n in range(COUNT):
        await client.send(command(n=n))
    await asyncio.to_thread(mortal_node.kill)
    await asyncio.to_thread(mortal_node.start)
    await eventually(
        lambda: all(seen[n] for n in range(COUNT)),
        within=400,
        describe=lambda: (
            f"{service.state}, missing {[n for n in range(COUNT) if not seen[n]]}, "
            f"{service.stats()}, {queues(mortal_node, mortal_mesh.url, 'messages')}"
        ),
    )


async def test_row_71_the_service_queue_is_deleted_while_they_wait(
    quorum: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """On a quorum queue they wait for the service queue to be back; stop() may come at once."""
    handled: Counter[int] = Counter()

    async def handle(message: Message) -> None:
        if message.attempts == 1:
            raise RetryLater("not yet", after=5)
        handled[message.payload["params"]["n"]] += 1

    settings: dict[str, Any] = {"queue_type": "quorum", "retry_delays": (5.0,)}
    service = await quorum.service(handle, reconnect_cap=0.3, **settings)
    client = await quorum.client()
    for n in range(5):
        await client.send(command(n=n))
    await until_depths(rabbitmq_node, quorum.url, {"nuropb-orders-retry-5000-quorum": 5})
    await asyncio.to_thread(delete_queue, rabbitmq_node, quorum.url, "nuropb-orders-sq")
    await eventually(lambda: sorted(handled) == list(range(5)), within=60)
    await asyncio.to_thread(delete_queue, rabbitmq_node, quorum.url, "nuropb-orders-sq")
    await service.wait_for(State.RECOVERING)
    await service.stop()
