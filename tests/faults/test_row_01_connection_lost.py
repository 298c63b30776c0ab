"""Row 1: broker restarted, killed with -9, TCP reset. Calls work again by themselves."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import State
from nuropb_rmq.testing import RabbitMQNode

from ..support import Mesh, Recorder, Watch, eventually
from .common import works
from .console import close_connection
from .proxy import Proxy, Wire

AFTER_PORT_OPENS = 10.0
AFTER_RESET = 5.0


@pytest.mark.parametrize("how", ["kill", "stop_app"])
async def test_row_01_broker_restarted(
    mortal_node: RabbitMQNode, mortal_mesh: Mesh, how: str
) -> None:
    service = await mortal_mesh.service(Recorder())
    client = await mortal_mesh.client()
    watch = Watch(service)
    await works(client, 5)
    if how == "kill":
        await asyncio.to_thread(mortal_node.kill)
        await asyncio.to_thread(mortal_node.restart)
    else:
        await asyncio.to_thread(mortal_node.rabbitmqctl, "stop_app")
        await asyncio.to_thread(mortal_node.rabbitmqctl, "start_app")
    await works(client, AFTER_PORT_OPENS)
    await watch.recovered(AFTER_PORT_OPENS)


async def test_row_01_tcp_reset_of_service_and_client(mesh: Mesh, proxy: Proxy) -> None:
    service = await mesh.service(Recorder(), amqp_url=proxy.url)
    client = await mesh.client(amqp_url=proxy.url)
    watches = Watch(service), Watch(client)
    for _ in range(5):
        await works(client, AFTER_RESET)
        proxy.reset()
        for watch in watches:
            await watch.recovered(AFTER_RESET)
        await works(client, AFTER_RESET)
    assert proxy.accepted >= 3 * 6


async def test_row_01_only_one_of_the_two_connections_is_closed(
    mesh: Mesh, rabbitmq_node: RabbitMQNode
) -> None:
    service = await mesh.service(Recorder(), instance_id="one")
    client = await mesh.client()
    watch = Watch(service)
    for purpose in ("publishing", "consuming"):
        await works(client, 5)
        closed = await asyncio.to_thread(close_connection, rabbitmq_node, f"orders/one {purpose}")
        assert closed == 1
        await watch.recovered(AFTER_RESET)
        await works(client, AFTER_RESET)


async def test_row_01_pauses_grow_and_are_jittered(mesh: Mesh, proxy: Proxy) -> None:
    client = await mesh.client(amqp_url=proxy.url, reconnect_cap=1.0)
    proxy.set(Wire.REFUSE)
    proxy.reset()
    before = proxy.accepted
    await eventually(lambda: proxy.accepted - before >= 4, within=10)
    assert client.state is State.RECOVERING
    proxy.set(Wire.PASS)
    await client.wait_for(State.READY, timeout=AFTER_RESET)
