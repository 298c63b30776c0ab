"""Row 41: a node of a cluster is killed with -9. Service and client go on with the next host.

Bound: 10 s. On a quorum queue no confirmed command is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from statistics import median

import pytest

from nuropb_rmq import (
    InstanceInUseError,
    NuropbException,
    NuropbNotDeliveredError,
    PublishNackedError,
    State,
    Transport,
    TransportConfig,
    configure,
)
from nuropb_rmq.testing import RabbitMQCluster, RabbitMQNode

from ..seams import connections_of
from ..support import Recorder, Transports, Watch, command, eventually, request, result_of
from .common import within, works

FAILOVER, TYPICAL = 10.0, 5.0
KILLS = 10


@pytest.fixture(scope="module")
def cluster() -> Iterator[RabbitMQCluster]:
    """Three nodes; tests kill them, and start them again."""
    with RabbitMQCluster() as made:
        yield made


@pytest.fixture
async def mesh(cluster: RabbitMQCluster) -> AsyncIterator[Transports]:
    """The default virtual host of the cluster, configured for a service on a quorum queue."""
    await configure(
        TransportConfig(amqp_url=cluster.amqp_urls, service_name="orders", queue_type="quorum")
    )
    made = Transports(cluster.amqp_urls[0], hosts=cluster.amqp_urls)
    yield made
    await made.stop()


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
    port = connections_of(transport)[0].broker_port
    return next(node for node in cluster.nodes if node.port == port)


async def more(confirmed: list[int]) -> None:
    """Wait until a hundred more were confirmed."""
    before = len(confirmed)
    await eventually(lambda: len(confirmed) > before + 100)


async def handled(recorder: Recorder, confirmed: list[int]) -> None:
    """Wait until every command that was confirmed has been handled."""

    def lost() -> set[int]:
        return set(confirmed) - {each.payload["params"].get("n") for each in recorder.seen}

    await eventually(lambda: not lost(), describe=lost)


@asynccontextmanager
async def killed(node: RabbitMQNode) -> AsyncIterator[None]:
    """It is started again at the end, in any case: another test may kill another one."""
    await asyncio.to_thread(node.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(node.start)


async def fails_over(cluster: RabbitMQCluster, service: Transport, client: Transport) -> float:
    """Kill the node that the client is on; the seconds until calls work again, of both."""
    watches = Watch(client), Watch(service)
    loop = asyncio.get_running_loop()
    async with killed(node_of(cluster, client)):
        began = loop.time()
        await watches[0].recovered(FAILOVER)
        await watches[1].recovered(FAILOVER)
        await works(client, FAILOVER)
        took = loop.time() - began
        assert took < FAILOVER
    return took


async def test_row_41_cluster_node_dies(cluster: RabbitMQCluster, mesh: Transports) -> None:
    """Both are connected to the node that is killed, and the queue's leader is there."""
    recorder = Recorder()
    service = await mesh.service(recorder, queue_type="quorum")
    client = await mesh.client()
    async with sending(client) as confirmed:
        await more(confirmed)
        await fails_over(cluster, service, client)
        await more(confirmed)
    await works(client, FAILOVER)
    await handled(recorder, confirmed)


async def test_row_41_a_configured_instance_id_is_one_instance(
    cluster: RabbitMQCluster, mesh: Transports
) -> None:
    """While the node is down, and after: 4.2 and later keep the id locked for so long."""
    await mesh.service(Recorder(), queue_type="quorum")
    client = await mesh.client(instance_id="one", heartbeat=30)
    watch = Watch(client)

    def back() -> bool:
        return watch.states[-1:] == [State.READY] or isinstance(client.error, InstanceInUseError)

    async with killed(node_of(cluster, client)):
        await watch.left()
        await eventually(back, describe=lambda: client.error)
        with pytest.raises(InstanceInUseError):
            await mesh.client(instance_id="one", instance_retry=0)
    with within(FAILOVER):
        await client.wait_for(State.READY)
        await works(client, FAILOVER)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_row_41_one_node_after_the_other(cluster: RabbitMQCluster, mesh: Transports) -> None:
    """Ten times the node that the client is on is killed, and comes back: nothing is lost."""
    recorder = Recorder()
    service = await mesh.service(recorder, queue_type="quorum")
    client = await mesh.client()
    times = []
    async with sending(client) as confirmed:
        for _ in range(KILLS):
            times.append(await fails_over(cluster, service, client))
            await more(confirmed)
    print(f"failover: median {median(times):.1f} s, worst {max(times):.1f} s of {KILLS}")
    assert median(times) < TYPICAL
    await handled(recorder, confirmed)


async def test_row_41_home_node_of_a_classic_queue_dies(
    cluster: RabbitMQCluster, mesh: Transports
) -> None:
    """The queue is gone until its node is back; until then the service tries again.

    That is not final, whatever the broker says of it: 404 "home node is down" (3.x), or nothing
    for a minute (4.x). Calls are refused, and work within 10 s of the node's return.
    """
    first, second, third = cluster.nodes
    urls = [first.amqp_url, third.amqp_url]
    await configure(TransportConfig(amqp_url=urls, service_name="stock"))
    at_home = await mesh.service(Recorder(), "stock", amqp_url=second.amqp_url)
    await at_home.stop()
    service = await mesh.service(Recorder(), "stock", amqp_url=urls, connect_timeout=3)
    client = await mesh.client(amqp_url=urls)
    call = request(service="stock", n=1)
    assert result_of(await client.request(call)) == {"n": 1}

    def told() -> bool:
        text = str(service.error)
        return "home node" in text or "declare 'nuropb-stock-sq': is its node down" in text

    async with killed(second):
        await eventually(told, describe=lambda: service.error)
        assert service.state is State.RECOVERING
        with pytest.raises((NuropbNotDeliveredError, PublishNackedError)):
            await client.request(call)
    with within(FAILOVER):
        await service.wait_for(State.READY)
        assert result_of(await client.request(call)) == {"n": 1}
