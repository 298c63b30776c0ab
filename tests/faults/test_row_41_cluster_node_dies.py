"""Row 41: a node of a cluster is killed with -9. Service and client go on with the next host.

Bound: 10 s. On a quorum queue no confirmed command is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import pytest

from nuropb_rmq import NuropbException, State, Transport, TransportConfig, configure
from nuropb_rmq.testing import RabbitMQCluster, RabbitMQNode

from ..support import Mesh, Recorder, Watch, command, eventually, request, result_of
from .common import within, works

FAILOVER = 10.0
QUORUM: dict[str, Any] = {"queue_type": "quorum"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[RabbitMQCluster]:
    """Three nodes; tests kill them, and start them again."""
    with RabbitMQCluster() as made:
        yield made


@pytest.fixture
async def orders(cluster: RabbitMQCluster) -> AsyncIterator[Mesh]:
    """The default virtual host of the cluster, configured for a service on a quorum queue."""
    urls = cluster.amqp_urls
    await configure(TransportConfig(amqp_url=urls, service_name="orders", **QUORUM))
    mesh = Mesh(urls[0])
    yield mesh
    await mesh.stop()


@asynccontextmanager
async def sending(client: Transport) -> AsyncIterator[list[int]]:
    """Commands are sent meanwhile, one after the other; the numbers of those that are confirmed."""
    confirmed: list[int] = []

    async def send() -> None:
        for n in count():
            with suppress(NuropbException):
                await client.send(command(n=n))
                confirmed.append(n)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(send())
    try:
        yield confirmed
    finally:
        task.cancel()
        await asyncio.wait([task])


def node_of(cluster: RabbitMQCluster, transport: Transport) -> RabbitMQNode:
    """The node that a transport is connected to."""
    session = transport._links[0]._session
    assert session is not None
    assert session._router._out_transport is not None
    port = session._router._out_transport.get_extra_info("peername")[1]
    return next(node for node in cluster.nodes if node.port == port)


async def fails_over(cluster: RabbitMQCluster, service: Transport, client: Transport) -> float:
    """Kill the node that serves the client; the seconds until calls work again."""
    node = node_of(cluster, client)
    watch = Watch(client)
    await asyncio.to_thread(node.kill)
    began = asyncio.get_running_loop().time()
    await watch.recovered(FAILOVER)
    await works(client, FAILOVER)
    took = asyncio.get_running_loop().time() - began
    await service.wait_for(State.READY, timeout=FAILOVER - took)
    print(f"failover in {took:.1f} s")
    await asyncio.to_thread(node.start)
    return took


async def test_row_41_cluster_node_dies(cluster: RabbitMQCluster, orders: Mesh) -> None:
    """Both are connected to the node that is killed, and the queue's leader is there."""
    recorder = Recorder()
    service = await orders.service(recorder, amqp_url=cluster.amqp_urls, **QUORUM)
    client = await orders.client(amqp_url=cluster.amqp_urls)
    async with sending(client) as confirmed:
        await eventually(lambda: len(confirmed) > 100)
        await fails_over(cluster, service, client)
        before = len(confirmed)
        await eventually(lambda: len(confirmed) > before + 100)

    def lost() -> set[int]:
        return set(confirmed) - {each.payload["params"]["n"] for each in recorder.seen}

    await eventually(lambda: not lost(), describe=lost)


async def test_row_41_home_node_of_a_classic_queue_dies(cluster: RabbitMQCluster) -> None:
    """The queue is gone until its node is back; until then the service tries again.

    404 "home node is down" is not final: it recovers, and serves within 10 s of the node's return.
    """
    first, second, third = cluster.nodes
    urls = [first.amqp_url, third.amqp_url]
    await configure(TransportConfig(amqp_url=urls, service_name="stock"))
    mesh = Mesh(first.amqp_url)
    at_home = await mesh.service(Recorder(), "stock", amqp_url=second.amqp_url)
    await at_home.stop()
    service = await mesh.service(Recorder(), "stock", amqp_url=urls)
    client = await mesh.client(amqp_url=urls)
    assert result_of(await client.request(request(service="stock", n=1))) == {"n": 1}
    watch = Watch(service)
    await asyncio.to_thread(second.kill)
    await watch.left()

    def home_is_down() -> bool:
        return service.error is not None and "home node" in str(service.error)

    await eventually(home_is_down)
    assert service.state is State.RECOVERING
    print(repr(service.error))
    try:
        print(await client.request(request(service="stock", n=1), timeout=5))
    except NuropbException as e:
        print(repr(e))
    await asyncio.to_thread(second.start)
    with within(FAILOVER):
        await service.wait_for(State.READY, timeout=FAILOVER)
        assert result_of(await client.request(request(service="stock", n=1))) == {"n": 1}
    await mesh.stop()
