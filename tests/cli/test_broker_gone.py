"""A broker that is killed while verbs wait for it: each ends in time, and says so on one line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from nuropb_rmq import Mesh
from nuropb_rmq.amqp.settlement import Settlement
from nuropb_rmq.testing import RabbitMQNode

from ..support import Transports, eventually
from .command import Command, running

Begin = Callable[..., Awaitable[Command]]

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


@pytest.fixture
async def begun(mortal_mesh: Transports, tmp_path: Path) -> AsyncIterator[Begin]:
    """Begins commands; they end with the test."""
    async with AsyncExitStack() as stack:

        async def begin(*words: str) -> Command:
            return await stack.enter_async_context(running(tmp_path, *words, url=mortal_mesh.url))

        yield begin


async def test_who_waits_for_the_broker(
    mortal_node: RabbitMQNode, orders: Orders, begun: Begin
) -> None:
    api = ("--management-url", mortal_node.management_url)
    request = await begun("request", "orders", "wait", *WITHIN, *api)
    top = await begun("top", "--plain", "--count", "15", "--every", "1", *api)
    listen = await begun("listen", "--for", "15")
    await eventually(lambda: orders.begun, within=30)
    await top.printed("service,")
    await listen.printed("listening to")
    await asyncio.to_thread(mortal_node.kill)
    try:
        assert await request.ended() == 1, request.lines
        assert await listen.ended() == 1, listen.lines
        assert await top.ended() == 3, top.lines
    finally:
        await mortal_node.astart()
    no_traceback(request, listen, top)
    said = request.lines[-1]
    assert said.startswith("nuropb-rmq: orders.wait: no answer within 15 s (--timeout): ")
    assert said.endswith("it may have been done")
    assert "nuropb-rmq: the connection did not come back: " in listen.lines[-1]
    assert "reports are missed: " in " ".join(top.lines[-5:])


@pytest.mark.usefixtures("orders")
async def test_who_publishes_while_an_alarm_is_on(
    mortal_node: RabbitMQNode, mortal_mesh: Transports, begun: Begin
) -> None:
    api = ("--management-url", mortal_node.management_url)
    # Who publishes now waits for the end of an alarm.
    await asyncio.to_thread(mortal_node.rabbitmqctl, "set_vm_memory_high_watermark", "0.0001")
    command = await begun("command", "orders", "fail", "--plain", *WITHIN, *api)
    publish = await begun("publish", "orders.new", "1", *WITHIN)
    replay = await begun("dlq", "replay", "orders", "--yes", *api)
    request = await begun("request", "orders", "wait", "--timeout", "3")
    assert await request.ended() == 1, request.lines
    assert request.lines[-1].endswith("; it was not sent"), request.lines
    await command.printed("blocked by the broker")
    await publish.printed("blocked by the broker")
    await eventually(lambda: taken(mortal_node, mortal_mesh))  # it replays
    await asyncio.to_thread(mortal_node.kill)
    try:
        for each in (command, publish, replay):
            assert await each.ended() in (1, 3), each.lines
    finally:
        await mortal_node.astart()
    no_traceback(command, publish, replay)
    for each in (command, publish):
        (said,) = [line for line in each.lines if line.startswith("nuropb-rmq: ")]
        assert said == each.lines[-1]
    (said,) = [line for line in replay.lines if "connection" in line.lower()]
    assert said == replay.lines[-1]
    assert said.startswith("looked at "), replay.lines


def taken(node: RabbitMQNode, mesh: Transports) -> int:
    """Return the number of dead letters that somebody has taken and not settled."""
    vhost = mesh.url.rpartition("/")[2]
    letters = node.api("GET", f"/api/queues/{vhost}/nuropb-orders-dlq")
    return int(letters.get("messages_unacknowledged", 0))


def no_traceback(*commands: Command) -> None:
    """Assert that no command printed one."""
    for command in commands:
        assert not any("Traceback" in line for line in command.lines), command.lines
