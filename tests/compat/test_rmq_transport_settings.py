"""configure_rabbitmq and verbose of RMQTransport."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from nuropb_rmq import (
    BrokerUnreachableError,
    NuropbConfigurationError,
    ServiceNotConfigured,
    verbose,
)
from nuropb_rmq.compat import callbacks
from nuropb_rmq.testing import RabbitMQNode

from ..support import command, eventually
from ..unit.compat.test_rmq_transport import make
from .programs import Callback, Programs, echo


@pytest.fixture
def fresh_url(rabbitmq_node: RabbitMQNode) -> Iterator[str]:
    """The URL of a virtual host that does not exist yet."""
    vhost = f"fresh-{secrets.token_hex(6)}"
    yield rabbitmq_node.amqp_url + vhost
    rabbitmq_node.api("DELETE", f"/api/vhosts/{vhost}")


def declared(url: str, queue: str) -> bool:
    """Return whether there is such a queue, and it is durable."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        try:
            connection.channel().queue_declare(queue, durable=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
        return bool(
            connection.channel().queue_declare(queue, passive=True).method.consumer_count == 0
        )


async def starts(url: str, **settings: Any) -> None:
    """A service of these settings can be started."""
    programs = Programs(url)
    service = Callback(echo)
    await programs.service(service, **settings)
    await (await programs.client(**settings)).send_message(command())
    await eventually(lambda: service.messages)
    await programs.stop()


def test_it_makes_the_virtual_host_and_all_else(
    fresh_url: str, rabbitmq_node: RabbitMQNode
) -> None:
    transport = make(amqp_url=fresh_url)
    for _ in range(2):  # again: nothing changes
        transport.configure_rabbitmq(rmq_api_url=rabbitmq_node.management_url)
    assert declared(fresh_url, "nuropb-orders-dlq")
    asyncio.run(starts(fresh_url))


async def test_in_a_running_loop(fresh_url: str, rabbitmq_node: RabbitMQNode) -> None:
    make(amqp_url=fresh_url).configure_rabbitmq(rmq_api_url=rabbitmq_node.management_url)
    await starts(fresh_url)


async def test_the_management_url_is_derived(mesh_url: str) -> None:
    """And not asked, where the virtual host is there."""
    make(amqp_url=mesh_url).configure_rabbitmq()
    await starts(mesh_url)


async def test_with_a_configuration_and_a_url_of_its_own(mesh_url: str) -> None:
    names: Any = {
        "rpc_exchange": "rpc",
        "events_exchange": "events",
        "dl_exchange": "dl",
        "dl_queue": "dead",
    }
    other = make(**names)
    make(client_only=True).configure_rabbitmq(other.rmq_configuration, mesh_url)
    assert await asyncio.to_thread(declared, mesh_url, "dead")
    await starts(mesh_url, **names)


async def test_a_configuration_may_be_partial(mesh_url: str) -> None:
    partial: Any = {"rpc_exchange": "rpc", "dl_queue": None}
    make(amqp_url=mesh_url).configure_rabbitmq(partial)
    await starts(mesh_url, rpc_exchange="rpc")


def test_what_goes_wrong_is_raised(mesh_url: str) -> None:
    transport = make(amqp_url="amqp://guest:guest@127.0.0.1:9/")
    with pytest.raises(BrokerUnreachableError):
        transport.configure_rabbitmq()
    with pytest.raises(NuropbConfigurationError, match="amqp_url"):
        transport.configure_rabbitmq(amqp_url="nonsense")
    wrong: Any = {"rpc_exchange": "nuropb-events-exchange"}
    with pytest.raises(NuropbConfigurationError, match="rpc_exchange"):
        transport.configure_rabbitmq(wrong)
    make(amqp_url=mesh_url).configure_rabbitmq()
    swapped: Any = {
        "rpc_exchange": "nuropb-events-exchange",
        "events_exchange": "nuropb-rpc-exchange",
    }
    with pytest.raises(ServiceNotConfigured, match="nuropb-"):
        make(amqp_url=mesh_url).configure_rabbitmq(swapped)


async def test_verbose_logs_ids_and_never_payloads(
    programs: Programs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "_verbose", False)
    caplog.set_level(logging.DEBUG, "nuropb_rmq")
    service = Callback(echo)
    await programs.service(service)
    client = await programs.client()
    assert verbose() is False
    await client.send_message({**command(secret="hush"), "correlation_id": "c-1"})
    await eventually(lambda: len(service.messages) == 1)
    assert "c-1" not in caplog.text
    assert verbose(True) is True
    await client.send_message({**command(secret="hush"), "correlation_id": "c-2"})
    await eventually(lambda: len(service.messages) == 2)
    assert "command c-2" in caplog.text
    assert "hush" not in caplog.text
