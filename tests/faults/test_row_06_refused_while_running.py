"""Row 6: 403 for a permission, 404 for an exchange, while running; and what is refused for now."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from nuropb_rmq import (
    BrokerAuthenticationError,
    NuropbException,
    NuropbOutcomeUnknownError,
    NuropbTransportError,
    ServiceNotConfigured,
    State,
    Transport,
    TransportClosedError,
    configure,
)
from nuropb_rmq.broker.session import Run
from nuropb_rmq.testing import RabbitMQNode
from nuropb_rmq.transport.hooks import Hooks

from ..seams import connections_of, publisher_of
from ..support import Recorder, Transports, Watch, command, event, eventually, request
from . import console
from .common import no_queues, within, works
from .ear import with_credentials
from .proxy import Proxy, Wire

FAILS_WITHIN = 5.0
"""Seconds: the connection is up, and asks once."""
PASSWORD = "hush-hush"


async def never(_: object) -> None:
    """A handler that does not end by itself."""
    await asyncio.Event().wait()


class Told:
    """The last state and error that on_state_change() passed on."""

    def __init__(self, transport: Transport) -> None:
        self.last: tuple[State, NuropbTransportError | None]
        transport.on_state_change(self._tell)

    def _tell(self, state: State, error: NuropbTransportError | None) -> None:
        self.last = (state, error)


async def ended(work: Coroutine[Any, Any, Any]) -> BaseException:
    """The error that it ends with."""
    try:
        await work
    except NuropbException as e:
        return e
    raise AssertionError("it did not fail")


@dataclass
class User:
    """A user of the broker, with permissions and limits of its own."""

    node: RabbitMQNode
    url: str
    name: str

    async def permit(self, **permissions: str) -> None:
        await asyncio.to_thread(console.permit, self.node, self.url, self.name, **permissions)


async def user_of(node: RabbitMQNode, mesh: Transports, proxy_url: str = "") -> tuple[User, str]:
    """A new user, and the URL that he connects to."""
    name = f"user-{console.vhost_of(mesh.url)}"
    await asyncio.to_thread(console.add_user, node, mesh.url, name, PASSWORD)
    return User(node, mesh.url, name), with_credentials(proxy_url or mesh.url, name, PASSWORD)


async def test_row_06_a_permission_is_taken_away(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """A publish that is refused with 403 is the end: all who wait get an error at once."""
    user, url = await user_of(rabbitmq_node, mesh)
    await mesh.service(never)
    client = await mesh.client(amqp_url=url)
    told = Told(client)
    call = asyncio.create_task(ended(client.request(request(), timeout=60)))
    waiting = asyncio.create_task(ended(client.wait_for(State.DRAINING)))
    await eventually(lambda: publisher_of(client).unconfirmed == 0 and client.pending)
    await user.permit(write="nothing")
    with within(FAILS_WITHIN):
        # The broker remembers for a while what it has permitted; this exchange it is asked first.
        unknown = await ended(client.send(event("orders.created", 1)))
        failed = await call
        closed = await waiting
    assert isinstance(unknown, NuropbOutcomeUnknownError)
    assert "403" in str(unknown)
    assert isinstance(failed, BrokerAuthenticationError)
    assert "nuropb-events-exchange" in str(failed)
    assert isinstance(closed, TransportClosedError)
    assert client.state is State.FAILED
    assert told.last == (State.FAILED, failed) == (client.state, client.error)
    assert isinstance(await ended(client.send(command())), TransportClosedError)
    await user.permit()
    await client.start()
    await client.send(event("orders.created", 1))


async def test_row_06_a_permission_is_gone_when_it_comes_back(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy
) -> None:
    """Its response queue cannot be declared again."""
    user, url = await user_of(rabbitmq_node, mesh, proxy.url)
    client = await mesh.client(amqp_url=url)
    await user.permit(configure="nothing")
    proxy.reset()
    with within(FAILS_WITHIN):
        assert isinstance(await ended(client.wait_for(State.DRAINING)), TransportClosedError)
    assert client.state is State.FAILED
    assert isinstance(client.error, BrokerAuthenticationError)
    assert "permission refused" in str(client.error)


async def test_row_06_an_exchange_is_deleted(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    """A publish to it ends the channel; the next session misses it, so all who wait get an error.

    After missing_timeout: row 59.
    """
    await mesh.service(never)
    client = await mesh.client(missing_timeout=0)
    told, watch = Told(client), Watch(client)
    calls = [asyncio.create_task(ended(client.request(request(), timeout=60)))]
    await eventually(lambda: publisher_of(client).unconfirmed == 0 and client.pending)
    name = client.config.rpc_exchange
    await asyncio.to_thread(console.delete_exchange, rabbitmq_node, mesh.url, name)
    with within(FAILS_WITHIN):
        unknown = await ended(client.send(command()))
        await watch.left()
        calls.append(asyncio.create_task(ended(client.request(request(), timeout=60))))
        calls.append(asyncio.create_task(ended(client.send(command()))))
        failed = [await each for each in calls]
    assert isinstance(unknown, NuropbOutcomeUnknownError)
    assert "404" in str(unknown)
    for each in failed:
        assert isinstance(each, ServiceNotConfigured)
        assert name in str(each)
    assert client.state is State.FAILED
    assert told.last == (State.FAILED, client.error)
    await configure(client.config)
    await client.start()


class Deleting:
    """Deletes the service queue right behind its declaration, once."""

    def __init__(self, node: RabbitMQNode, url: str) -> None:
        self._delete = node, url, "nuropb-orders-sq"
        self.armed = False

    async def __call__(self, name: str, run: Run) -> None:
        await run()
        if name == "declare_service_queue" and self.armed:
            self.armed = False
            await asyncio.to_thread(console.delete_queue, *self._delete)


async def test_row_06_a_queue_that_is_deleted_while_it_is_set_up(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy
) -> None:
    """404 for a queue that was just declared: it is declared once more."""
    deleting = Deleting(rabbitmq_node, mesh.url)
    config = mesh.config("orders", amqp_url=proxy.url)
    async with Transport(config, Recorder(), hooks=Hooks(steps=deleting)) as service:
        watch = Watch(service)
        deleting.armed = True
        proxy.reset()
        await watch.recovered()
        assert not deleting.armed
        await works(await mesh.client(), 5)


@dataclass
class Limited:
    """A client that a limit of the broker keeps away, while it is set."""

    proxy: Proxy
    client: Transport
    limit: str
    value: int

    async def lost(self, node: RabbitMQNode) -> None:
        """Set the limit, cut the connection, and see that it is tried several times."""
        await asyncio.to_thread(node.api, "PUT", self.limit, {"value": self.value})
        tries = self._tries
        self.proxy.reset()
        await eventually(lambda: self._tries >= tries + 4)
        assert self.client.state is State.RECOVERING

    @property
    def _tries(self) -> int:
        """Connections, and sessions: a queue is refused on a connection that stays."""
        return self.proxy.accepted + connections_of(self.client)[0].tries

    async def back(self, node: RabbitMQNode) -> None:
        """Lift the limit, and see that it comes back."""
        await asyncio.to_thread(node.api, "DELETE", self.limit)
        await self.client.wait_for(State.READY, timeout=10)


async def test_row_06_limits_are_waited_for(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    """530, and 406 for queues: somebody lifts the limit, or closes what is too much."""
    vhost = console.vhost_of(mesh.url)
    user, _ = await user_of(rabbitmq_node, mesh)
    limits = {
        f"/api/vhost-limits/{vhost}/max-connections": 0,
        f"/api/vhost-limits/{vhost}/max-queues": 0,
        f"/api/user-limits/{user.name}/max-connections": 0,
        f"/api/user-limits/{user.name}/max-channels": 1,
    }
    await mesh.service(Recorder())
    async with AsyncExitStack() as stack:
        for limit, value in limits.items():
            proxy = await stack.enter_async_context(Proxy(mesh.url))
            url = with_credentials(proxy.url, user.name, PASSWORD)
            limited = Limited(
                proxy, await mesh.client(amqp_url=url, reconnect_cap=0.5), limit, value
            )
            await limited.lost(rabbitmq_node)
            await limited.back(rabbitmq_node)
            await works(limited.client, 5)


async def test_row_06_a_virtual_host_that_is_down_is_waited_for(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy
) -> None:
    """541: its message store has stopped, and an operator starts it again."""
    client = await mesh.client(amqp_url=proxy.url, reconnect_cap=0.5)
    watch = Watch(client)
    proxy.set(Wire.REFUSE)
    proxy.reset()
    await watch.left()
    vhost = console.vhost_of(mesh.url)
    # The response queue goes with its connection; a broker that is down would keep it locked.
    await no_queues(rabbitmq_node, mesh.url, "nuropb-client-")
    stop = f'rabbit_vhost_sup_sup:stop_and_delete_vhost(<<"{vhost}">>).'
    await asyncio.to_thread(rabbitmq_node.rabbitmqctl, "eval", stop)
    proxy.set(Wire.PASS)
    tried = proxy.accepted
    await eventually(lambda: proxy.accepted >= tried + 2, within=15)
    assert client.state is State.RECOVERING
    await asyncio.to_thread(rabbitmq_node.rabbitmqctl, "restart_vhost", "-p", vhost)
    await client.wait_for(State.READY, timeout=10)


async def test_row_06_a_virtual_host_that_is_deleted(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """320 for the connection, and 530 for the next: it does not exist."""
    client = await mesh.client(missing_timeout=0)
    path = f"/api/vhosts/{console.vhost_of(mesh.url)}"
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", path)
    with within(FAILS_WITHIN):
        assert isinstance(await ended(client.wait_for(State.DRAINING)), TransportClosedError)
    assert isinstance(client.error, ServiceNotConfigured)
    await asyncio.to_thread(rabbitmq_node.api, "PUT", path)
