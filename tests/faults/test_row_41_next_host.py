"""Row 41, without a cluster: of several hosts one refuses, is silent, or dies; the next one serves.

Bound: 10 s, at start and at a recovery.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest

from nuropb_rmq import BrokerUnreachableError, PublishNackedError, State
from nuropb_rmq.broker.supervisor import SUSPECT_AFTER
from nuropb_rmq.testing import RabbitMQNode

from ..seams import publishing
from ..support import Recorder, Transports, Watch, command, request, result_of
from .common import within, works
from .console import policy
from .proxy import Proxy, Wire

FAILOVER = 10.0


@pytest.fixture
async def first(mesh: Transports) -> AsyncIterator[Proxy]:
    """The first host."""
    async with Proxy(mesh.url) as made:
        yield made


@pytest.fixture
async def second(mesh: Transports) -> AsyncIterator[Proxy]:
    """The second host; the third is the node itself."""
    async with Proxy(mesh.url) as made:
        yield made


@pytest.mark.parametrize("fault", [Wire.REFUSE, Wire.SILENT])
async def test_row_41_next_host(mesh: Transports, first: Proxy, second: Proxy, fault: Wire) -> None:
    """Hosts are down, or accept and stay silent: at start, and when the connections are lost."""
    hosts = [first.url, second.url, mesh.url]
    first.set(fault)
    with within(FAILOVER):
        service, client = await asyncio.gather(
            mesh.service(Recorder(), amqp_url=[first.url, second.url]),
            mesh.client(amqp_url=hosts),
        )
        await works(client, FAILOVER)
    assert first.accepted == 3
    watches = Watch(service), Watch(client)
    second.set(fault)
    first.set(Wire.PASS)
    with within(FAILOVER):
        second.reset()
        for watch in watches:
            await watch.recovered(FAILOVER)
        await works(client, FAILOVER)


async def test_row_41_none_answers(mesh: Transports, first: Proxy, second: Proxy) -> None:
    """The error names each host, and what is the matter with it, within connect_timeout."""
    first.set(Wire.REFUSE)
    second.set(Wire.SILENT)
    client = mesh.transport("client", amqp_url=[first.url, second.url], connect_timeout=3)
    with within(4), pytest.raises(BrokerUnreachableError) as caught:
        await client.start()
    told = str(caught.value).partition("none of the hosts answered: ")[2]
    assert f"127.0.0.1:{first.port}: " in told
    assert f"127.0.0.1:{second.port}: no answer in 1 s" in told
    assert client.state is State.STOPPED


@pytest.mark.parametrize("hosts", [1, 2])
async def test_row_41_name_of_the_response_queue_is_held(
    mesh: Transports, first: Proxy, second: Proxy, hosts: int
) -> None:
    """From 4.2 on a node that is down keeps exclusive queues locked: they get other names.

    So do the answers to requests that wait for the connection meanwhile.
    """
    await mesh.service(Recorder())
    proxies = [first, second][:hosts]
    client = await mesh.client(amqp_url=[proxy.url for proxy in proxies])
    watch = Watch(client)
    for proxy in proxies:
        proxy.set(Wire.REFUSE)
        proxy.reset()
    await watch.left()
    waiting = asyncio.create_task(client.request(request(n=1)))
    async with await aio_pika.connect(mesh.url) as holder:
        channel = await holder.channel()
        await channel.declare_queue(f"nuropb-client-{client.instance_id}-rq", exclusive=True)
        with within(FAILOVER):
            for proxy in proxies:
                proxy.set(Wire.PASS)
            await watch.recovered(FAILOVER)
            assert result_of(await waiting) == {"n": 1}
    await works(client, 5)


async def test_row_41_refused_messages_cost_the_channel_once(
    mesh: Transports, first: Proxy, rabbitmq_node: RabbitMQNode
) -> None:
    """RabbitMQ 3.10 may refuse all that is published by a channel opened when a leader has died.

    So after a move a channel that gets a Basic.Nack is followed by another one, when all that it
    has written is confirmed. A queue that is full has the same effect.
    """
    service = await mesh.service(Recorder())
    await service.stop()
    client = await mesh.client(amqp_url=[first.url, mesh.url])
    watch = Watch(client)
    first.reset()
    await watch.recovered(FAILOVER)
    before = publishing(client).channel
    full = {"max_length": 5, "overflow": "reject-publish"}
    with policy(rabbitmq_node, mesh.url, "orders-sq", **full):
        # Time in which a cluster finds another leader; twice, for our first session was short.
        await asyncio.sleep(2 * SUSPECT_AFTER)
        sends = [client.send(command(n=n)) for n in range(50)]
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        await watch.recovered(FAILOVER)
    refused = [each for each in outcomes if each is not None]
    assert 0 < len(refused) <= 45
    assert all(type(each) is PublishNackedError for each in refused), "each is known to be refused"
    assert publishing(client).channel is not before
    await client.send(command(n=0))
