"""Row 59: a recovery finds no exchanges, or no virtual host: the broker came back empty, say."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import (
    BrokerAuthenticationError,
    NuropbConfigurationError,
    ServiceNotConfigured,
    State,
    Transport,
    TransportConfig,
    configure,
)
from nuropb_rmq.testing import RabbitMQNode

from ..mesh.support import Meshes
from ..support import Recorder, Transports, Watch, eventually
from . import console
from .common import works
from .ear import with_credentials
from .proxy import Proxy

PASSWORD = "hush-hush"
EXCHANGES = ("nuropb-rpc-exchange", "nuropb-events-exchange", "nuropb-dl-exchange")


class Orders:
    _service_name = "orders"

    def double(self, n: int) -> int:
        return 2 * n

    def fail(self) -> None:
        raise ValueError


def emptied(node: RabbitMQNode) -> None:
    """The broker ends, and comes back as a container without its volume does."""
    for each in ("stop_app", "reset", "start_app"):
        node.rabbitmqctl(each)


async def misses_an_exchange(transport: Transport) -> None:
    """Wait until it says so, and goes on trying."""
    await eventually(lambda: isinstance(transport.error, ServiceNotConfigured))
    assert transport.state is State.RECOVERING
    assert "nuropb-rpc-exchange" in str(transport.error)


async def test_row_59_a_broker_that_comes_back_empty(mortal_node: RabbitMQNode) -> None:
    """Programs that may configure make exchanges, dead-letter queue and service queue again."""
    meshes = Meshes(mortal_node.amqp_url)
    try:
        service, client = await meshes.serve(Orders()), await meshes.client()
        watches = [Watch(each.transport) for each in (service, client)]
        await asyncio.to_thread(emptied, mortal_node)
        for each in watches:
            await each.recovered(30)
        assert await client.request("orders", "double", {"n": 4}) == 8
        await client.command("orders", "fail")
        assert [each["method"] for each in await meshes.taken("nuropb-orders-dlq")] == ["fail"]
    finally:
        await meshes.stop()


async def test_row_59_a_virtual_host_that_is_made_again(
    meshes: Meshes, rabbitmq_node: RabbitMQNode, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """First it is missing, then closed to its user, then empty: not ours to make, but to fill."""
    user, vhost = "user-row-59", f"/api/vhosts/{console.vhost_of(meshes.url)}"
    await asyncio.to_thread(console.add_user, rabbitmq_node, meshes.url, user, PASSWORD)
    url = with_credentials(proxy.url, user, PASSWORD)
    service = await meshes.serve(Orders(), amqp_url=meshes.quick(url, "orders"))
    client = await meshes.client(amqp_url=meshes.quick(url, "client"))
    watches = [Watch(each.transport) for each in (service, client)]
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", vhost)
    await eventually(lambda: "does not exist: create it" in caplog.text)
    await asyncio.to_thread(rabbitmq_node.api, "PUT", vhost)
    tried = proxy.accepted
    await eventually(lambda: proxy.accepted >= tried + 6)  # by three connections
    assert client.state is service.state is State.RECOVERING
    await asyncio.to_thread(console.permit, rabbitmq_node, meshes.url, user)
    for each in watches:
        await each.recovered()
    assert await client.request("orders", "double", {"n": 4}) == 8


async def test_row_59_a_dead_letter_queue_is_made_again(
    meshes: Meshes, rabbitmq_node: RabbitMQNode, proxy: Proxy
) -> None:
    """Though the exchanges are there: somebody else may have come back first, and made them."""
    service = await meshes.serve(Orders(), amqp_url=proxy.url)
    watch, url = Watch(service.transport), meshes.url
    await asyncio.to_thread(console.delete_queue, rabbitmq_node, url, "nuropb-orders-dlq")
    proxy.reset()
    await watch.recovered()
    assert "nuropb-orders-dlq" in await asyncio.to_thread(console.queue_names, rabbitmq_node, url)


async def test_row_59_who_may_not_configure_waits(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy
) -> None:
    """For exchanges that somebody else makes; start() does not wait."""
    service = await mesh.service(Recorder(), amqp_url=proxy.url, reconnect_cap=0.3)
    client = await mesh.client(amqp_url=proxy.url, reconnect_cap=0.3)
    for name in EXCHANGES:
        await asyncio.to_thread(console.delete_exchange, rabbitmq_node, mesh.url, name)
    proxy.reset()
    for each in (service, client):
        await misses_an_exchange(each)
    with pytest.raises(ServiceNotConfigured, match="nuropb-rpc-exchange"):
        await mesh.transport("late").start()
    await configure(service.config)
    for each in (service, client):
        await each.wait_for(State.READY, timeout=10)
    await works(client, 5)


async def test_row_59_a_mesh_whose_user_may_not_configure_waits_too(
    mesh: Transports, meshes: Meshes, rabbitmq_node: RabbitMQNode, proxy: Proxy
) -> None:
    """The error names what is missing, and why it cannot be made."""
    user = "user-row-59"
    await asyncio.to_thread(console.add_user, rabbitmq_node, mesh.url, user, PASSWORD)
    await asyncio.to_thread(console.permit, rabbitmq_node, mesh.url, user, "nuropb-client-.*")
    url = with_credentials(proxy.url, user, PASSWORD)
    client = await meshes.client(amqp_url=meshes.quick(url, "client"))
    await asyncio.to_thread(console.delete_exchange, rabbitmq_node, mesh.url, EXCHANGES[1])
    proxy.reset()
    await eventually(lambda: "cannot be made: exchange" in str(client.error))
    assert client.state is State.RECOVERING
    await configure(mesh.config("orders"))
    await client.wait_for(State.READY, timeout=10)


async def test_row_59_not_for_ever(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy
) -> None:
    """After missing_timeout it has failed, also when the virtual host stays closed to its user."""
    user = "user-row-59"
    await asyncio.to_thread(console.add_user, rabbitmq_node, mesh.url, user, PASSWORD)
    url = with_credentials(proxy.url, user, PASSWORD)
    closed = await mesh.client(amqp_url=url, missing_timeout=0.5, reconnect_cap=0.2)
    client = await mesh.client(amqp_url=proxy.url, missing_timeout=0.5, reconnect_cap=0.2)
    permission = f"/api/permissions/{console.vhost_of(mesh.url)}/{user}"
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", permission)
    await asyncio.to_thread(console.delete_exchange, rabbitmq_node, mesh.url, EXCHANGES[0])
    proxy.reset()
    await asyncio.gather(*(each.wait_for(State.FAILED, timeout=10) for each in (closed, client)))
    assert isinstance(client.error, ServiceNotConfigured)
    assert isinstance(closed.error, BrokerAuthenticationError)


@pytest.mark.parametrize("field", ["missing_timeout", "exchange_check", "binding_renewal"])
def test_row_59_wrong_settings(field: str) -> None:
    """Seconds, all of them; the two intervals can be turned off."""
    base = {"amqp_url": "amqp://h", "service_name": "orders"}
    for wrong in (-1, "30", float("inf"), True):
        with pytest.raises(NuropbConfigurationError, match=f"^{field}: must be"):
            TransportConfig(**base, **{field: wrong})  # type: ignore[arg-type]
