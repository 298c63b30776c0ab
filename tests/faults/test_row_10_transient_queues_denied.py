"""Row 10: the broker denies transient queues that are not exclusive. None of ours is one.

The nodes of the tests deny them from 4.0 on, as a careful operator does there; on 3.x a broker
cannot, and what is declared says all.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
from aiormq.exceptions import AMQPError

from nuropb_rmq import RMQTransport
from nuropb_rmq.testing import RabbitMQNode

from ..encrypting import DL_QUEUE, tapping
from ..support import Recorder, Transports, command, event, eventually, request, result_of
from .console import vhost_of


async def denied(url: str) -> bool:
    """Return whether the broker refuses such a queue: it ends the connection then."""
    connection = await aio_pika.connect(url)
    try:
        channel = await connection.channel()
        await channel.declare_queue("transient", durable=False)
        await channel.queue_delete("transient")
    except (AMQPError, asyncio.CancelledError):  # aiormq ends its waiters so
        return True
    finally:
        await connection.close()
    return False


async def test_row_10_all_works(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    assert await denied(mesh.url) == (int(rabbitmq_node.version.partition(".")[0]) >= 4)
    recorder = Recorder()
    await mesh.service(recorder, event_bindings=["orders.*"])
    client = await mesh.client()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    await client.send(command(n=2))
    await client.send(event("orders.made", {"n": 3}))
    await eventually(lambda: len(recorder.seen) == 3)
    old = RMQTransport("old", "one", mesh.url, lambda *_: None, rpc_bindings=["old"])
    await old.start()

    path = f"/api/queues/{vhost_of(mesh.url)}"
    queues: list[dict[str, Any]] = await asyncio.to_thread(rabbitmq_node.api, "GET", path)
    assert len(queues) == 6  # two services' two, the client's, and the dead letters'
    assert [each["name"] for each in queues if not each["durable"] and not each["exclusive"]] == []
    await old.stop()


async def test_row_10_dead_letters_are_kept(mesh: Transports) -> None:
    async def fail(_: object) -> object:
        raise LookupError("no such order")

    await mesh.service(fail, dead_letter_requests=True)
    client = await mesh.client()
    response = await client.request(request(n=1))
    assert response["error"] is not None
    async with tapping(mesh) as tap:
        assert len(await asyncio.to_thread(tap.take, DL_QUEUE)) == 1
