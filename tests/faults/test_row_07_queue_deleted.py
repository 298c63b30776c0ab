"""Row 7: the queue is deleted under its consumer (Basic.Cancel)."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, Watch, request, result_of
from .console import delete_queue


async def test_row_07_service_queue_deleted(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    service = await mesh.service(Recorder())
    client = await mesh.client()
    watch = Watch(service)
    for _ in range(3):
        await asyncio.to_thread(delete_queue, rabbitmq_node, mesh.url, "nuropb-orders-sq")
        await watch.recovered(10)
        assert result_of(await client.request(request(n=1))) == {"n": 1}


async def test_row_07_response_queue_deleted(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    await mesh.service(Recorder())
    client = await mesh.client(instance_id="i1")
    watch = Watch(client)
    # An exclusive queue is deleted only by its own connection; the broker's shell can.
    await asyncio.to_thread(
        rabbitmq_node.rabbitmqctl,
        "eval",
        f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{urlsplit(mesh.url).path[1:]}">>, '
        'queue, <<"nuropb-client-i1-rq">>)), rabbit_amqqueue:delete(Q, false, false, <<"test">>).',
    )
    await watch.recovered(10)
    assert result_of(await client.request(request(n=1), timeout=10)) == {"n": 1}
