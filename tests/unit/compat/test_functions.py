"""The helpers of nuropb_api and rmq_lib: same results, and TLS verified."""

from __future__ import annotations

import asyncio
from typing import Any

import certifi
import pytest

import nuropb_rmq
from nuropb_rmq import (
    RMQAPI,
    BrokerUnreachableError,
    NuropbConfigurationError,
    NuropbTransportError,
    build_amqp_url,
    build_rmq_api_url,
    configure_nuropb_rmq,
    create_client,
    create_service,
    create_virtual_host,
    default_connection_properties,
    describe_service,
    error_dict_from_exception,
    method_requires_nuropb_context,
    nuropb_context,
    obfuscate_credentials,
    rmq_api_url_from_amqp_url,
)
from nuropb_rmq.compat import functions
from nuropb_rmq.config.address import Broker


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
