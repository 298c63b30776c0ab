"""Row 61: an exchange or a binding is deleted, and the connection stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import (
    NuropbException,
    ServiceNotConfigured,
    State,
    Transport,
    configure,
    mesh_event,
)
from nuropb_rmq.testing import RabbitMQNode

from ..mesh.support import Meshes
from ..seams import connections_of, tasks_of
from ..support import Recorder, Transports, Watch, eventually, request
from . import console
from .common import works
from .ear import with_credentials
from .proxy import Proxy

RPC, EVENTS, DEAD = "nuropb-rpc-exchange", "nuropb-events-exchange", "nuropb-dl-exchange"
BY_QUEUE = "nuropb-dl-exchange-by-queue"
PASSWORD = "hush-hush"
OFTEN = 0.3
"""Seconds between two looks."""


class Orders:
    def __init__(self, name: str = "orders") -> None:
        self._service_name = name
        self.seen: list[Any] = []

    def double(self, n: int) -> int:
        return 2 * n

    def fail(self) -> None:
        raise ValueError

    @mesh_event("shop.*")
    def on_shop(self, event: Any) -> None:
        self.seen.append(event)


async def delete(node: RabbitMQNode, url: str, *exchanges: str) -> None:
    for each in exchanges:
        await asyncio.to_thread(console.delete_exchange, node, url, each)


def exchanges(node: RabbitMQNode, url: str) -> set[str]:
    """Those that there are."""
    return {each["name"] for each in node.api("GET", f"/api/exchanges/{console.vhost_of(url)}")}


async def there_again(node: RabbitMQNode, url: str) -> None:
    """Wait until all exchanges are there."""
    async with asyncio.timeout(10):
        while not {RPC, EVENTS, DEAD, BY_QUEUE} <= await asyncio.to_thread(exchanges, node, url):
            pass  # asking takes a while


async def test_row_61_exchanges_are_made_again_with_their_bindings(
    meshes: Meshes, rabbitmq_node: RabbitMQNode
) -> None:
    """Nobody publishes, so nothing but a look can tell. What is in hand is not disturbed."""
    orders = Orders()
    config = meshes.config(exchange_check=OFTEN)
    service = await meshes.serve(orders, amqp_url=config)
    watch = Watch(service.transport)
    await delete(rabbitmq_node, meshes.url, RPC, EVENTS, DEAD)
    await there_again(rabbitmq_node, meshes.url)
    client = await meshes.client()

    async def heard() -> None:
        while not orders.seen:
            await client.publish_event("shop.opened", 1)
            await asyncio.sleep(0.05)

    await asyncio.wait_for(heard(), 5)
    assert await client.request("orders", "double", {"n": 4}) == 8
    await client.command("orders", "fail")
    assert [each["method"] for each in await meshes.taken("nuropb-orders-dlq")] == ["fail"]
    assert watch.states == []


async def test_row_61_the_exchange_of_the_dead_letters_is_made_again(
    meshes: Meshes, rabbitmq_node: RabbitMQNode
) -> None:
    """By who makes it at start; others do not miss it, for nobody may have configured anew."""
    config = meshes.config(exchange_check=OFTEN)
    service = await meshes.serve(Orders(), amqp_url=config)
    await delete(rabbitmq_node, meshes.url, BY_QUEUE)
    await there_again(rabbitmq_node, meshes.url)
    client = await meshes.client()
    await client.command("orders", "fail")
    assert [each["method"] for each in await meshes.taken("nuropb-orders-dlq")] == ["fail"]
    await service.stop()
    await delete(rabbitmq_node, meshes.url, BY_QUEUE)
    other = await meshes.serve(Orders(), amqp_url=config, configure=False)
    assert await client.request("orders", "double", {"n": 4}) == 8
    assert BY_QUEUE not in await asyncio.to_thread(exchanges, rabbitmq_node, meshes.url)
    assert other.state is State.READY


async def test_row_61_whoever_publishes_first_does_not_leave_the_others_deaf(
    meshes: Meshes, rabbitmq_node: RabbitMQNode
) -> None:
    """Its exchange is made again when all had time to notice: they make their own bindings."""
    listening, publishing = Orders("listening"), Orders("publishing")
    await meshes.serve(listening, amqp_url=meshes.config("listening", exchange_check=OFTEN))
    mesh = await meshes.serve(
        publishing, amqp_url=meshes.config("publishing", exchange_check=OFTEN, reconnect_cap=0.2)
    )
    await delete(rabbitmq_node, meshes.url, EVENTS)
    with pytest.raises(NuropbException, match="404"):
        await mesh.publish_event("shop.opened", 1)
    await mesh.wait_for(State.READY, timeout=10)

    async def heard() -> None:
        while not (listening.seen and publishing.seen):
            await mesh.publish_event("shop.opened", 2)
            await asyncio.sleep(0.05)

    await asyncio.wait_for(heard(), 5)


async def answered(client: Transport) -> bool:
    """Return whether a request finds its service."""
    try:
        await client.request(request(n=1), timeout=5)
    except NuropbException:
        return False
    return True


async def test_row_61_bindings_are_made_again(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """The exchange is there, and nothing shows that a binding is missing."""
    service = await mesh.service(Recorder(), binding_renewal=OFTEN)
    client = await mesh.client()
    watch = Watch(service)
    vhost = console.vhost_of(mesh.url)
    binding = f"/api/bindings/{vhost}/e/{RPC}/q/nuropb-orders-sq/orders"
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", binding)
    async with asyncio.timeout(10):
        while not await answered(client):
            pass
    await works(client, 5)
    assert watch.states == []


async def test_row_61_who_does_not_configure_waits_for_it(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """It is not ready meanwhile, for it hears nothing."""
    service = await mesh.service(Recorder(), exchange_check=OFTEN, reconnect_cap=0.2)
    await delete(rabbitmq_node, mesh.url, EVENTS)
    await eventually(lambda: isinstance(service.error, ServiceNotConfigured))
    assert service.state is State.RECOVERING
    await configure(service.config)
    await service.wait_for(State.READY, timeout=10)
    await works(await mesh.client(), 5)


async def test_row_61_a_look_that_is_refused_is_the_last(
    mesh: Transports, rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and the service goes on.

    From 4.2.7 on a passive declaration needs some permission; a binding always did.
    """
    user = "user-row-61"
    await asyncio.to_thread(console.add_user, rabbitmq_node, mesh.url, user, PASSWORD)
    service = await mesh.service(
        Recorder(),
        amqp_url=with_credentials(mesh.url, user, PASSWORD),
        exchange_check=OFTEN / 3,
        binding_renewal=OFTEN / 3,
    )
    watch = Watch(service)
    own = "nuropb-orders-.*|amq.default"
    await asyncio.to_thread(console.permit, rabbitmq_node, mesh.url, user, own, own, own)
    session = connections_of(service)[-1].session
    await eventually(lambda: "bindings" in session.refused)
    asleep = asyncio.create_task(asyncio.sleep(OFTEN * 2))  # some more looks would have been
    await works(await mesh.client(), 5)
    await asleep
    told = [each for each in caplog.messages if "no longer checked" in each]
    assert len(told) == len(session.refused)
    assert watch.states == []


async def test_row_61_looks_can_be_turned_off(mesh: Transports) -> None:
    """Both of them; then nothing runs beside the session."""
    service = await mesh.service(Recorder(), exchange_check=None, binding_renewal=0)
    session = connections_of(service)[-1].session
    await eventually(lambda: not tasks_of(session))


async def test_row_61_exchanges_that_may_not_be_looked_at_are_taken_to_exist(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ 4.2.6 and 4.3.0 ask for the permission to configure, later ones for any."""
    user = "user-row-61"
    await asyncio.to_thread(console.add_user, rabbitmq_node, mesh.url, user, PASSWORD)
    own = "nuropb-client-.*"
    permissions = (own, f"{RPC}|{own}", own)
    await asyncio.to_thread(console.permit, rabbitmq_node, mesh.url, user, *permissions)
    await mesh.service(Recorder())
    client = await mesh.client(
        amqp_url=with_credentials(proxy.url, user, PASSWORD), exchange_check=OFTEN / 3
    )
    watch = Watch(client)
    await works(client, 5)
    proxy.reset()
    await watch.recovered()
    await works(client, 5)
    told = [each for each in caplog.messages if "exchanges are taken to exist" in each]
    session = connections_of(client)[0].session
    assert len(told) == len(session.refused)
