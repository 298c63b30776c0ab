"""Row 63: an instance_id that somebody configured is one instance, whatever was recovered."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from nuropb_rmq import RMQAPI, InstanceInUseError, State, Transport
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, Watch, request, result_of
from .console import close_connection
from .proxy import Proxy

NAME = "nuropb-orders-one-rq"


def answers_go_to(transport: Transport) -> str:
    """The name of its response queue now."""
    return transport.response_queue


async def test_row_63_with_several_hosts_it_is_one_after_each_recovery(
    mesh: Transports, proxy: Proxy, rabbitmq_node: RabbitMQNode
) -> None:
    """Each connection that follows is to another host, and the response queue keeps its name."""
    hosts = [proxy.url, mesh.url]
    first = await mesh.service(Recorder(), instance_id="one", amqp_url=hosts)
    watch = Watch(first)
    client = await mesh.client()
    for _ in range(2):
        await asyncio.to_thread(close_connection, rabbitmq_node, "one")
        await watch.recovered()
        assert answers_go_to(first) == NAME
        second = mesh.transport(
            "orders", Recorder(), instance_id="one", amqp_url=hosts, instance_retry=0
        )
        with pytest.raises(InstanceInUseError, match="same instance_id"):
            await second.start()
        assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert first.state is State.READY


async def test_row_63_a_response_queue_that_was_named_is_one_too(
    mesh: Transports, proxy: Proxy
) -> None:
    """Whatever gave it its name."""
    hosts, name = [proxy.url, mesh.url], "nuropb-shop-rq"
    first = await mesh.client(response_queue=name, amqp_url=hosts)
    watch = Watch(first)
    proxy.reset()
    await watch.recovered()
    assert answers_go_to(first) == name
    with pytest.raises(InstanceInUseError):
        await mesh.client(response_queue=name, amqp_url=hosts, instance_retry=0)


async def test_row_63_nuropbs_own_classes_lock_an_id_that_they_are_given(
    mesh: Transports, proxy: Proxy
) -> None:
    """Without one they make one: nobody else can have it, and the queue may get another name."""
    hosts = [proxy.url, mesh.url]
    for given in ("one", None):
        api = RMQAPI(hosts, instance_id=given)
        assert api.instance_id == api.transport.instance_id == (given or api.instance_id)
        await api.connect()
        watch, before = Watch(api.transport.core), answers_go_to(api.transport.core)
        proxy.reset()
        await watch.recovered()
        assert (answers_go_to(api.transport.core) == before) is (given is not None)
        await api.disconnect()


async def test_row_63_a_response_queue_that_is_gone_without_a_word_is_declared_again(
    mesh: Transports, proxy: Proxy, rabbitmq_node: RabbitMQNode
) -> None:
    """Until 4.1 a broker that deletes what a dead node had may take along a queue of the name."""
    await mesh.service(Recorder())
    hosts = [proxy.url, mesh.url]
    client = await mesh.client(instance_id="one", amqp_url=hosts, exchange_check=0.2)
    watch = Watch(client)
    vhost = urlsplit(mesh.url).path[1:]
    forget = (
        f'Name = rabbit_misc:r(<<"{vhost}">>, queue, <<"nuropb-client-one-rq">>), '
        "{ok, Q} = rabbit_amqqueue:lookup(Name), "
        "Gone = fun(Queue) -> rabbit_amqqueue:internal_delete(Queue, <<>>) end, "
        "try Gone(Name) catch _:_ -> Gone(Q) end."  # 3.10 wants the name, 4.3 the queue
    )
    await asyncio.to_thread(rabbitmq_node.rabbitmqctl, "eval", forget)
    await watch.recovered()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
