"""Row 28: start() fails with a typed error, in time, and leaves nothing open."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from nuropb_rmq import (
    BrokerAuthenticationError,
    BrokerUnreachableError,
    Mesh,
    NuropbTransportError,
    ServiceNotConfigured,
    State,
)
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports
from .common import within
from .proxy import Proxy, Way
from .test_row_27_start_interrupted import say_nothing

CONSUME_OK = 60 << 16 | 21


async def refused(
    mesh: Transports, error: type[NuropbTransportError], match: str, **settings: Any
) -> NuropbTransportError:
    service = mesh.transport("orders", Recorder(), **settings)
    with pytest.raises(error, match=match) as caught:
        async with asyncio.timeout(service.config.connect_timeout + 5):
            await service.start()
    assert service.state is State.STOPPED
    assert service.error is caught.value
    assert "://guest:***@" in str(caught.value), "it names user, host and virtual host"
    return caught.value


async def test_row_28_nothing_listens(mesh: Transports) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    await refused(
        mesh, BrokerUnreachableError, f"127.0.0.1:{port}", amqp_url=f"amqp://127.0.0.1:{port}/"
    )


async def test_row_28_host_does_not_resolve(mesh: Transports) -> None:
    url = "amqp://no-such-host.invalid/"
    await refused(mesh, BrokerUnreachableError, "no-such-host", amqp_url=url)


async def test_row_28_accepted_and_silent(mesh: Transports) -> None:
    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    url = f"amqp://127.0.0.1:{port}/"
    async with asyncio.timeout(5):
        await refused(mesh, BrokerUnreachableError, "no answer", amqp_url=url, connect_timeout=0.5)
    silent.close()
    await silent.wait_closed()


async def test_row_28_something_else_answers(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    port = rabbitmq_node.management_port
    url = f"amqp://127.0.0.1:{port}/"
    await refused(mesh, BrokerUnreachableError, str(port), amqp_url=url, connect_timeout=5)


async def test_row_28_wrong_password(mesh: Transports) -> None:
    url = mesh.url.replace("guest:guest", "guest:hush-hush")
    error = await refused(mesh, BrokerAuthenticationError, "refused user 'guest'", amqp_url=url)
    assert "hush-hush" not in f"{error!r} {error}"


async def test_row_28_missing_vhost(mesh: Transports) -> None:
    url = mesh.url.rsplit("/", 1)[0] + "/nowhere"
    await refused(mesh, ServiceNotConfigured, "virtual host 'nowhere'", amqp_url=url)


async def test_row_28_forbidden_vhost(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    vhost = urlsplit(mesh.url).path[1:]
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/permissions/{vhost}/guest")
    await refused(mesh, BrokerAuthenticationError, "refused")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    await asyncio.to_thread(rabbitmq_node.api, "PUT", f"/api/permissions/{vhost}/guest", everything)


@pytest.mark.parametrize("which", ["rpc_exchange", "events_exchange", "dl_exchange"])
async def test_row_28_missing_exchange(mesh: Transports, which: str) -> None:
    await refused(mesh, ServiceNotConfigured, r"exchange 'gone' does not exist", **{which: "gone"})


async def test_row_28_queue_with_other_properties(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    vhost = urlsplit(mesh.url).path[1:]
    await asyncio.to_thread(
        rabbitmq_node.api, "PUT", f"/api/queues/{vhost}/nuropb-orders-sq", {"durable": True}
    )
    await refused(mesh, ServiceNotConfigured, "nuropb-orders-sq.*x-dead-letter-exchange")


async def test_row_28_permission_to_declare_is_missing(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    vhost = urlsplit(mesh.url).path[1:]
    nothing = {"configure": "^$", "write": ".*", "read": ".*"}
    await asyncio.to_thread(rabbitmq_node.api, "PUT", f"/api/permissions/{vhost}/guest", nothing)
    await refused(mesh, BrokerAuthenticationError, "permission refused")


async def test_row_28_a_first_set_up_that_fails_is_not_tried_again(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """A recovery would try it again, for a limit may be raised; start() says at once what it is.

    If it tried until connect_timeout it would say that nothing was set up in time.
    """
    vhost = urlsplit(mesh.url).path[1:]
    await asyncio.to_thread(
        rabbitmq_node.rabbitmqctl, "set_vhost_limits", "-p", vhost, '{"max-queues": 0}'
    )
    await refused(mesh, NuropbTransportError, "queue limit .* is reached", connect_timeout=3)


class Orders:
    """A service."""

    _service_name = "orders"

    def get(self) -> None: ...


async def test_row_28_start_as_a_whole_has_connect_timeout(mesh: Transports, proxy: Proxy) -> None:
    """The configuration of the mesh and both connections of a service share it."""
    patience, closing = 3.0, 1.5
    proxy.delay(0.02)  # to configure takes half of it
    proxy.drop(Way.DOWN, CONSUME_OK)
    config = mesh.config("orders", amqp_url=proxy.url, connect_timeout=patience)
    serving = Mesh(config, service=Orders())
    with pytest.raises(NuropbTransportError), within(patience + closing):
        await serving.start()
    assert serving.state is State.STOPPED
