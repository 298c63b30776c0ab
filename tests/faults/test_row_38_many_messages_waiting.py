"""Row 38: 100,000 messages wait. They wait at the broker: the service's memory grows < 50 MB."""

from __future__ import annotations

import asyncio
import json

import pytest

from nuropb_rmq import Message, Transport
from nuropb_rmq.amqp import frames
from nuropb_rmq.protocol.constants import MessageType
from nuropb_rmq.protocol.writer import pack_properties, publish_method
from nuropb_rmq.testing import RabbitMQNode

from ..support import Transports, command, eventually
from .console import depth
from .processes import ServiceProcess
from .test_row_05_channel_closed import ports_of

SERVICE_QUEUE = "nuropb-orders-sq"
BOUND = 50 * 1024  # KiB
BATCH = 500
HANDLED_WITHIN = 600.0


async def fill(client: Transport, count: int, size: int) -> None:
    """Put so many commands, of `size` bytes each, into the service queue, as fast as it takes them.

    They are packed once, and written past the publisher: who fills is not what is measured.
    """
    port = ports_of(client)[-1]
    ids = {"correlation_id": "same", "context": {}, "trace_id": "same"}
    body = json.dumps({**command(text="x" * size), **ids}).encode()
    properties = pack_properties(MessageType.COMMAND, "same", trace_id="same", persistent=True)
    method = publish_method("nuropb-rpc-exchange", "orders", False)
    message = frames.pack_content(port.number, method, properties + b"\x01m", body, port.frame_max)
    for _ in range(count // BATCH):
        await eventually(lambda: port.writable, within=30)
        port.write(message * BATCH)


@pytest.mark.parametrize(
    ("count", "size"),
    [
        pytest.param(100_000, 1_000, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
        (6_000, 16_000),
    ],
)
async def test_row_38_they_wait_at_the_broker(
    mesh: Transports, rabbitmq_node: RabbitMQNode, count: int, size: int
) -> None:
    """All of them would be 100 MB; they are waited for, and then handled."""
    async with ServiceProcess(mesh.url, quiet=True) as service:
        before = await service.memory()
        client = await mesh.client()
        await fill(client, count, size)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 60
        while await asyncio.to_thread(depth, rabbitmq_node, mesh.url, SERVICE_QUEUE) < count:
            assert loop.time() < deadline, "the queue does not fill"
        waiting = await service.memory()
        assert waiting["handled"] == 0
        service.tell("go")
        deadline = loop.time() + HANDLED_WITHIN
        while (after := await service.memory())["handled"] < count:
            assert loop.time() < deadline, f"slow: {after}"
            await asyncio.sleep(0.1)
    grown = {
        "while they wait": waiting["highest"] - before["now"],
        "while they are handled": after["highest"] - before["now"],
        "in the end": after["now"] - before["now"],
    }
    print({name: f"{grown[name] / 1024:.1f} MB" for name in grown})
    assert max(grown.values()) < BOUND, grown


async def test_row_38_no_more_than_prefetch_count_is_taken(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    begun: list[Message] = []
    release = asyncio.Event()

    async def stuck(message: Message) -> None:
        begun.append(message)
        await release.wait()

    await mesh.service(stuck, prefetch_count=7)
    client = await mesh.client()
    await asyncio.gather(*(client.send(command(n=n)) for n in range(100)))
    await eventually(lambda: len(begun) == 7)
    vhost = mesh.url.rsplit("/", 1)[1]
    columns = ("name", "messages_ready", "messages_unacknowledged")
    listing = await asyncio.to_thread(
        rabbitmq_node.rabbitmqctl, "list_queues", "-p", vhost, *columns, "--silent"
    )
    rows = {name: counts for name, *counts in (line.split() for line in listing.splitlines())}
    assert rows[SERVICE_QUEUE] == ["93", "7"]
    assert len(begun) == 7
    release.set()
    await eventually(lambda: len(begun) == 100)
