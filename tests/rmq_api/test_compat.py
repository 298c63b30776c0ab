"""The helpers of nuropb_api and rmq_lib: same results, safe in a running loop, TLS verified."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import certifi
import pytest

import nuropb_rmq
from nuropb_rmq import (
    RMQAPI,
    BrokerUnreachableError,
    NuropbConfigurationError,
    NuropbTransportError,
    ServiceNotConfigured,
    build_amqp_url,
    build_rmq_api_url,
    configure_mesh,
    configure_nuropb_rmq,
    create_client,
    create_service,
    create_virtual_host,
    default_connection_properties,
    delete_virtual_host,
    describe_service,
    error_dict_from_exception,
    get_virtual_host_queues,
    get_virtual_hosts,
    method_requires_nuropb_context,
    nuropb_context,
    obfuscate_credentials,
    rmq_api_url_from_amqp_url,
)
from nuropb_rmq.compat import functions
from nuropb_rmq.config.address import Broker
from nuropb_rmq.testing import RabbitMQNode

from ..support import eventually


def test_urls() -> None:
    assert build_amqp_url("h", 5672, "u", "p", "v") == "amqp://u:p@h:5672/v"
    assert build_amqp_url("h", "5671", "u", "", "v", "amqps") == "amqps://u@h:5671/v"
    assert build_amqp_url("h", 5672, "", "", "v") == "amqp://h:5672/v"
    assert build_rmq_api_url("http", "h", 15672, "u", "p") == "http://u:p@h:15672/api"
    assert build_rmq_api_url("http", "h", 15672, None, None) == "http://h:15672/api"
    assert rmq_api_url_from_amqp_url("amqp://u:p@h/v") == "http://u:p@h:15672/api"
    assert rmq_api_url_from_amqp_url("amqps://u:p@h/v") == "https://u:p@h:15671/api"
    assert rmq_api_url_from_amqp_url("amqp://u:p@h:5673/v") == "http://u:p@h:15673/api"
    assert rmq_api_url_from_amqp_url("amqp://h/v", "amqps", 5) == "https://h:10005/api"
    assert rmq_api_url_from_amqp_url("amqp://[::1]:5672/v") == "http://[::1]:15672/api"


def test_urls_hold_any_character() -> None:
    url = build_amqp_url("h", 5672, "u@x", "p/#?é", "a/b")
    broker = Broker.parse(url)
    assert (broker.username, broker.password, broker.vhost) == ("u@x", "p/#?é", "a/b")
    assert build_amqp_url("h", 5672, "u%40x", "p", "%2F") == "amqp://u%40x:p@h:5672/%2F"
    assert Broker.parse(build_amqp_url("h", 5672, "u", "p", "/")).vhost == "/"


def test_defaults() -> None:
    client = create_client()
    broker = Broker.parse(client.transport.amqp_url)
    assert broker.hosts == (("localhost", 5672),)
    assert (broker.vhost, broker.username, broker.tls) == ("nuropb", "guest", None)
    assert client.client_only
    assert client.service_name == "nuropb-client"
    named = create_client("shop", "7", {"vhost": "v"}, {"prefetch_count": 3})
    assert (named.service_name, named.instance_id, named.client_only) == ("shop", "7", True)


def test_tls_is_verified_unless_it_is_told_otherwise() -> None:
    def tls(**properties: Any) -> Any:
        client = create_client(connection_properties={"ssl": True, **properties})
        return Broker.parse(client.transport.amqp_url)

    assert tls().tls.verify is True
    assert tls().hosts == (("localhost", 5671),)
    assert tls(verify=False).tls.verify is False


def test_properties_are_not_changed() -> None:
    properties = {"host": "h"}
    create_client(connection_properties=properties)
    assert properties == {"host": "h"}
    with pytest.raises(NuropbConfigurationError, match="connection_properties"):
        create_client(connection_properties=7)  # type: ignore[arg-type]


def test_another_class_of_api() -> None:
    class Own(RMQAPI):
        """Own."""

    assert type(create_client(transport=Own)) is Own
    assert type(create_service("orders", transport=Own)) is Own


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


def test_a_client_configures_nothing() -> None:
    nowhere = "amqp://guest:guest@127.0.0.1:1/"
    names = ("e", "r", "d", "q")
    assert configure_nuropb_rmq(nowhere, *names, client_only=True) is True
    with pytest.raises(BrokerUnreachableError):
        configure_nuropb_rmq(nowhere, *names)


async def test_a_management_api_that_is_not_there() -> None:
    with pytest.raises(NuropbTransportError):
        await asyncio.to_thread(create_virtual_host, "http://127.0.0.1:1/api", "amqp://h/v")
    with pytest.raises(NuropbConfigurationError, match="vhost_url"):
        create_virtual_host("http://127.0.0.1:1/api", "h")


def test_default_properties() -> None:
    plain = default_connection_properties({"vhost": "v"})
    assert plain == {
        "host": "localhost",
        "username": "guest",
        "password": "guest",
        "vhost": "v",
        "ssl": False,
        "verify": False,
        "port": 5672,
    }
    assert Broker.parse(plain).tls is None
    secure = default_connection_properties({"ssl": True, "host": "h"})
    assert (secure["verify"], secure["port"], secure["vhost"]) == (True, 5671, "nuropb")
    with_ca = default_connection_properties({"cafile": certifi.where()})
    assert Broker.parse(with_ca).tls is not None
    with pytest.raises(NuropbConfigurationError, match="connection_properties"):
        default_connection_properties("amqp://h/v")  # type: ignore[arg-type]


async def test_connect_is_a_client_of_the_local_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails as connect() does where there is none."""
    monkeypatch.setitem(functions._DEFAULTS, "host", "no-such-host.invalid")
    with pytest.raises(BrokerUnreachableError, match=r"no-such-host.invalid:5672/nuropb"):
        await nuropb_rmq.connect("one")


def test_virtual_hosts_and_queues(rabbitmq_node: RabbitMQNode, mesh_url: str) -> None:
    api_url = rabbitmq_node.management_url.replace("://", "://guest:guest@") + "/api"
    vhost = Broker.parse(mesh_url).vhost
    assert vhost in [each["name"] for each in get_virtual_hosts(api_url, mesh_url)]
    configure_mesh(connection_properties=mesh_url)
    queues = get_virtual_host_queues(api_url, mesh_url)
    assert [each["name"] for each in queues or ()] == ["nuropb-dl-queue"]
    assert get_virtual_host_queues(api_url, mesh_url + "-missing") is None


def test_what_a_method_and_a_service_say() -> None:
    class Orders:
        _service_name = "orders"

        @nuropb_context
        def with_context(self, ctx: Any, item: str) -> None: ...

        def without(self) -> None: ...

    assert method_requires_nuropb_context(Orders().with_context)
    assert not method_requires_nuropb_context(Orders.without)
    described = describe_service(Orders())
    assert (described["service_name"], set(described["methods"])) == (
        "orders",
        {"with_context", "without"},
    )
    error = error_dict_from_exception(LookupError("no"))
    assert error == {"error": "LookupError", "description": "no"}
    for url in ("amqp://u:secret@h/v", {"host": "h", "username": "u", "password": "secret"}):
        told = obfuscate_credentials(url)
        assert told.startswith("amqp://u:***@h:5672/")
