"""The helpers of nuropb_api and rmq_lib on a broker; they are safe in a running loop."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from nuropb_rmq import (
    ServiceNotConfigured,
    build_amqp_url,
    configure_mesh,
    create_client,
    create_service,
    create_virtual_host,
    delete_virtual_host,
    get_virtual_host_queues,
    get_virtual_hosts,
)
from nuropb_rmq.config.address import Broker
from nuropb_rmq.testing import RabbitMQNode

from ..support import eventually


async def test_a_mesh_from_nothing(rabbitmq_node: RabbitMQNode, mesh_url: str) -> None:
    """A virtual host is made, configured, served, called, and deleted; in a running loop."""
    vhost = f"test-{secrets.token_hex(6)}"
    broker = Broker.parse(mesh_url)
    (host, port) = broker.hosts[0]
    properties = {"host": host, "port": port, "vhost": vhost}
    url = build_amqp_url(host, port, "guest", "guest", vhost)
    api_url = rabbitmq_node.management_url.replace("://", "://guest:guest@") + "/api"
    create_virtual_host(api_url, url)
    create_virtual_host(api_url, {"vhost": vhost, "host": host, "port": port})
    try:
        configure_mesh("ignored", properties, {"dl_queue": "dead"})
        configure_mesh(connection_properties=url)
        seen: list[Any] = []

        async def on_event(*event: Any) -> None:
            seen.append(event)

        service = create_service(
            "listener",
            connection_properties=properties,
            event_bindings=["t.#"],
            event_callback=on_event,
        )
        client = create_client(connection_properties=url)
        await service.connect()
        await client.connect()
        await client.publish_event("t.1", {"id": 1}, {"user": 1})
        await eventually(lambda: seen == [("t.1", {"id": 1}, None, {"user": 1}, None)])
        await client.disconnect()
        await service.disconnect()
    finally:
        delete_virtual_host(api_url, url)
        delete_virtual_host(api_url, url)
    with pytest.raises(ServiceNotConfigured):
        await create_client(connection_properties=url).connect()


async def test_a_service_with_methods(mesh_url: str) -> None:
    class Orders:
        def echo(self, a: int) -> int:
            return a

    configure_mesh(connection_properties=mesh_url)
    service = create_service("orders", "1", Orders(), mesh_url, event_bindings=["x"])
    client = create_client(connection_properties=mesh_url)
    await service.connect()
    await client.connect()
    assert await client.request("orders", "echo", {"a": 1}, {}) == 1
    assert service.transport.rmq_configuration["event_bindings"] == ["x"]
    await client.disconnect()
    await service.disconnect()


def test_virtual_hosts_and_queues(rabbitmq_node: RabbitMQNode, mesh_url: str) -> None:
    api_url = rabbitmq_node.management_url.replace("://", "://guest:guest@") + "/api"
    vhost = Broker.parse(mesh_url).vhost
    assert vhost in [each["name"] for each in get_virtual_hosts(api_url, mesh_url)]
    configure_mesh(connection_properties=mesh_url)
    queues = get_virtual_host_queues(api_url, mesh_url)
    assert [each["name"] for each in queues or ()] == ["nuropb-dl-queue"]
    assert get_virtual_host_queues(api_url, mesh_url + "-missing") is None
