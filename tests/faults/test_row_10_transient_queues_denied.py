"""Row 10: the broker denies transient queues that are not exclusive. Everything works.

RabbitMQ 4.x does so when deprecated_features.permit.transient_nonexcl_queues is false, as it is on
every node that these tests start; 3.x cannot. nuropb's own queues of answers and of dead letters
are such queues.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
from aiormq.exceptions import AMQPError

from nuropb_rmq import Mesh as NuropbMesh
from nuropb_rmq import Message, NuropbHandlingError
from nuropb_rmq.testing import RabbitMQNode

from ..support import Mesh, Recorder, command, event, eventually, request, result_of
from .console import queues, until_depths

DENIES_SINCE = 4


async def is_denied(url: str) -> bool:
    """Whether such a queue cannot be declared: the broker closes the connection with 541."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        try:
            await channel.declare_queue("transient", durable=False)
        except AMQPError as e:
            return "transient_nonexcl_queues" in str(e)
    return False


async def test_row_10_everything_works(mesh: Mesh, rabbitmq_node: RabbitMQNode) -> None:
    """A request, a command, an event and a dead letter; all queues are durable or exclusive."""
    recorder = Recorder()

    async def handle(message: Message) -> Any:
        if message.payload.get("method") == "fail":
            raise NuropbHandlingError("no")
        return await recorder(message)

    await mesh.service(handle, event_bindings=["orders.#"])
    client = await mesh.client()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    await client.send(command(n=2))
    await client.send(event("orders.made", {"id": 3}))
    failed = await client.request(request("fail"))
    assert failed["error"] is not None
    await eventually(lambda: len(recorder.seen) == 3)
    async with NuropbMesh(mesh.url, service_name="bare", service=Bare()) as bare:
        assert await bare.request("bare", "answer", {}) == 42
        await until_depths(rabbitmq_node, mesh.url, {"nuropb-orders-dlq": 1, "nuropb-orders-sq": 0})
        found = await asyncio.to_thread(queues, rabbitmq_node, mesh.url, "durable", "exclusive")
    assert len(found) == 7, found
    assert all("true" in kept for kept in found.values()), found
    major = int(rabbitmq_node.version.partition(".")[0])
    assert await is_denied(mesh.url) == (major >= DENIES_SINCE)


class Bare:
    """What a Mesh serves."""

    def answer(self) -> int:
        """The answer."""
        return 42
