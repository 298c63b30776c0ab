"""Row 62: the virtual host's default_queue_type is set to quorum, or a queue is there as one."""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
import pytest

from nuropb_rmq import ServiceNotConfigured, TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, Watch
from .common import works
from .console import queues, vhost_of
from .proxy import Proxy

SERVICE_QUEUE = "nuropb-orders-sq"
DEAD_LETTERS = {"x-dead-letter-exchange": "nuropb-dl-exchange"}


async def declared(mesh: Transports, **arguments: Any) -> None:
    """The service queue is there, as somebody else declares it."""
    if arguments.get("x-queue-type") != "stream":  # which knows no dead letters
        arguments |= DEAD_LETTERS
    async with await aio_pika.connect(mesh.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(SERVICE_QUEUE, durable=True, arguments=arguments)


async def default_to_quorum(node: RabbitMQNode, mesh: Transports) -> None:
    """From now on a queue without a type is a quorum queue; RabbitMQ 3.10 knows no such setting."""
    path, body = f"/api/vhosts/{vhost_of(mesh.url)}", {"default_queue_type": "quorum"}
    await asyncio.to_thread(node.api, "PUT", path, body)


@pytest.mark.parametrize("whose", ["ours", "nuropb's"])
async def test_row_62_running_services_come_back(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy, whose: str
) -> None:
    """Their queues are classic, and stay so, whoever declared them, with a type or without."""
    if whose == "nuropb's":
        await declared(mesh)
    service = await mesh.service(Recorder(), amqp_url=proxy.url)
    client = await mesh.client(amqp_url=proxy.url)
    watches = Watch(service), Watch(client)
    await default_to_quorum(rabbitmq_node, mesh)
    proxy.reset()
    for watch in watches:
        await watch.recovered()
    await works(client, 5)
    await mesh.service(Recorder())
    await configure(mesh.config("stock"))
    await mesh.service(Recorder(), "stock")
    kinds = await asyncio.to_thread(queues, rabbitmq_node, mesh.url, "type")
    assert not [name for name, (kind,) in kinds.items() if "quorum" in kind]


async def test_row_62_a_service_queue_that_is_a_quorum_queue_is_used_as_it_is(
    mesh: Transports, caplog: pytest.LogCaptureFixture
) -> None:
    """It does all that a classic one does; all else has to be alike."""
    await declared(mesh, **{"x-queue-type": "quorum"})
    await mesh.service(Recorder())
    await works(await mesh.client(), 5)
    assert f"used as it is, of type quorum: queue '{SERVICE_QUEUE}' exists" in caplog.text
    other = mesh.transport("orders", Recorder(), dl_exchange="nuropb-events-exchange2")
    await configure(other.config)
    with pytest.raises(ServiceNotConfigured, match="x-dead-letter-exchange"):
        await other.start()


@pytest.mark.parametrize(("there", "wanted"), [("classic", "quorum"), ("stream", "classic")])
async def test_row_62_other_types_are_refused(mesh: Transports, there: str, wanted: str) -> None:
    """A quorum queue that is asked for has reasons, and a stream gives nothing back."""
    await declared(mesh, **{"x-queue-type": there})
    config = TransportConfig(amqp_url=mesh.url, service_name="orders", queue_type=wanted)
    with pytest.raises(ServiceNotConfigured, match="default_queue_type") as caught:
        await mesh.service(Recorder(), queue_type=config.queue_type)
    assert f"received '{wanted}' but current is '{there}'" in str(caught.value)
