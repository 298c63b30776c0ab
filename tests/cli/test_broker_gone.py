"""A broker that is killed while verbs wait for it: each ends in time, and says so on one line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from nuropb_rmq import Mesh
from nuropb_rmq.amqp.settlement import Settlement
from nuropb_rmq.testing import RabbitMQNode

from ..support import Transports, eventually
from .command import Command, running

WITHIN = ("--timeout", "15", "--log-level", "warning")


class Orders:
    """A service whose work does not end."""

    _service_name = "orders"

    def __init__(self) -> None:
        self.begun = False

    async def wait(self) -> None:
        self.begun = True
        await asyncio.Event().wait()

    async def fail(self) -> None:
        raise RuntimeError("the database is away")


@pytest.fixture
async def orders(mortal_mesh: Transports) -> AsyncIterator[Orders]:
    """The service, and three dead letters of it."""
    service = Orders()
    mesh = Mesh(mortal_mesh.url, service=service)
    await mesh.start()
    for _ in range(3):
        await mesh.command("orders", "fail")
    await eventually(lambda: mesh.stats().settled.get(Settlement.DEAD_LETTER) == 3)
    yield service
    await mesh.stop(grace=0)


async def test_each_ends(
    mortal_node: RabbitMQNode, mortal_mesh: Transports, orders: Orders, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:

        async def begun(*words: str) -> Command:
            return await stack.enter_async_context(running(tmp_path, *words, url=mortal_mesh.url))

        api = ("--management-url", mortal_node.management_url)
        listen = await begun("listen", "--for", "20")
        top = await begun("top", "--plain", "--count", "20", "--every", "1", *api)
        request = await begun("request", "orders", "wait", *WITHIN, *api)
        await listen.printed("listening to")
        await top.printed("service,")
        await eventually(lambda: orders.begun)
        # Who publishes now waits for the end of an alarm.
        await asyncio.to_thread(mortal_node.rabbitmqctl, "set_vm_memory_high_watermark", "0.0001")
        waiting = [
            await begun("command", "orders", "fail", "--plain", *WITHIN, *api),
            await begun("publish", "orders.new", "1", *WITHIN),
            await begun("dlq", "replay", "orders", "--yes", *api),
        ]
        for command in waiting[:2]:
            await command.printed("blocked by the broker")
        await asyncio.to_thread(mortal_node.kill)
        try:
            for command in (request, *waiting):
                assert await command.ended() in (1, 3), command.lines
                assert not any("Traceback" in line for line in command.lines)
            assert await listen.ended() == 1
            assert await top.ended() == 3
        finally:
            await mortal_node.astart()
    said = request.lines[-1]
    assert said.startswith("nuropb-rmq: orders.wait: no answer within 15 s (--timeout): ")
    assert said.endswith("it may have been done")
    assert "nuropb-rmq: the connection did not come back: " in listen.lines[-1]
    assert "reports are missed: " in " ".join(top.lines[-5:])
    for command in waiting[:2]:
        (said,) = [line for line in command.lines if line.startswith("nuropb-rmq: ")]
        assert said == command.lines[-1]
    (said,) = [line for line in waiting[2].lines if "lost" in line or "refused" in line]
