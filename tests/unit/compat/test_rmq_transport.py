"""RMQTransport: its arguments and properties, and decode_rmq_body."""

from __future__ import annotations

import logging
from typing import Any

import pika
import pytest

from nuropb_rmq import (
    Encryptor,
    MalformedMessageError,
    NuropbConfigurationError,
    RabbitMQConfiguration,
    RMQTransport,
    decode_rmq_body,
)

from ...compat.programs import echo

URL = "amqp://guest:guest@localhost:5672/mesh"


def make(**settings: Any) -> RMQTransport:
    """A transport that is not started."""
    settings = {"service_name": "orders", "instance_id": "one", "amqp_url": URL, **settings}
    return RMQTransport(message_callback=echo, **settings)


def test_what_it_tells_without_settings() -> None:
    transport = RMQTransport("orders", "one", URL, echo)
    assert transport.service_name == "orders"
    assert transport.instance_id == "one"
    assert transport.amqp_url == URL
    assert transport.is_leader is True
    assert transport.connected is False
    assert transport.rpc_exchange == "nuropb-rpc-exchange"
    assert transport.events_exchange == "nuropb-events-exchange"
    assert transport.response_queue == "nuropb-orders-one-rq"
    assert transport.rmq_configuration == {
        "rpc_exchange": "nuropb-rpc-exchange",
        "events_exchange": "nuropb-events-exchange",
        "dl_exchange": "nuropb-dl-exchange",
        "dl_queue": "nuropb-orders-dlq",
        "service_queue": "nuropb-orders-sq",
        "response_queue": "nuropb-orders-one-rq",
        "rpc_bindings": ["orders"],
        "event_bindings": [],
        "default_ttl": 12 * 60 * 60 * 1000,
        "client_only": False,
    }
    assert set(transport.rmq_configuration) == set(RabbitMQConfiguration.__annotations__)
    assert transport.core.config.prefetch_count == 1


def test_its_underscored_settings_can_be_read_and_not_set() -> None:
    """Programs of nuropb read them; what they would set has its place in the constructor."""
    encryptor = Encryptor("orders")
    transport = make(
        rpc_bindings=["b"],
        event_bindings=["a.#"],
        prefetch_count=5,
        default_ttl=1500,
        encryptor=encryptor,
    )
    settings = {
        "_service_name": "orders",
        "_instance_id": "one",
        "_amqp_url": URL,
        "_rpc_exchange": "nuropb-rpc-exchange",
        "_events_exchange": "nuropb-events-exchange",
        "_dl_exchange": "nuropb-dl-exchange",
        "_dl_queue": "nuropb-orders-dlq",
        "_service_queue": "nuropb-orders-sq",
        "_response_queue": "nuropb-orders-one-rq",
        "_rpc_bindings": {"orders", "b"},
        "_event_bindings": {"a.#"},
        "_prefetch_count": 5,
        "_default_ttl": 1500,
        "_client_only": False,
        "_message_callback": echo,
        "_encryptor": encryptor,
        "_is_leader": True,
    }
    assert {name: getattr(transport, name) for name in settings} == settings
    for name in settings.keys() - {"_amqp_url", "_is_leader"}:
        with pytest.raises(AttributeError, match=f"{name} cannot be set: give {name[1:]} to RMQT"):
            setattr(transport, name, "x")
    transport._is_leader = False
    assert transport.is_leader is False
    assert make()._is_leader is True
    client = make(client_only=True, rpc_bindings=["b"], event_bindings=["a.#"])
    assert (client._rpc_bindings, client._event_bindings) == ({"orders"}, set())


def test_what_it_tells_with_all_settings() -> None:
    settings: Any = {
        "rpc_exchange": "rpc",
        "events_exchange": "events",
        "dl_exchange": "dl",
        "dl_queue": "dlq",
        "service_queue": "sq",
        "response_queue": "rq",
        "rpc_bindings": ["orders", "old-orders"],
        "event_bindings": ["a.#", "b.*"],
        "default_ttl": 1500,
        "client_only": False,
    }
    transport = make(**settings, prefetch_count=7)
    assert transport.rmq_configuration == settings
    assert transport.core.config.prefetch_count == 7
    assert transport.response_queue == "rq"
    transport.is_leader = False
    assert transport.is_leader is False


def test_a_client_has_no_bindings() -> None:
    told = make(client_only=True, rpc_bindings=["a"], event_bindings=["b"]).rmq_configuration
    assert told["client_only"] is True
    assert told["rpc_bindings"] == ["orders"]
    assert told["event_bindings"] == []


def test_bindings_may_be_a_set_as_in_nuropb() -> None:
    transport = make(rpc_bindings={"b", "a"}, event_bindings={"d", "c"})
    assert transport.rmq_configuration["rpc_bindings"] == ["orders", "a", "b"]
    assert transport.rmq_configuration["event_bindings"] == ["c", "d"]


def test_none_stands_for_the_default() -> None:
    names = ("rpc_exchange", "events_exchange", "dl_exchange", "dl_queue", "service_queue")
    others = ("response_queue", "rpc_bindings", "event_bindings", "prefetch_count")
    nothing = dict.fromkeys((*names, *others, "default_ttl", "client_only", "encryptor"))
    assert make(**nothing).rmq_configuration == make().rmq_configuration


def test_the_client_of_nuropb_on_the_root_virtual_host() -> None:
    """RMQAPI calls it "%2F-client", a name that the AMQP library does not take for a queue."""
    transport = make(service_name="%2F-client", client_only=True)
    assert transport.service_name == "%2F-client"
    assert transport.response_queue == "nuropb-_2F-client-one-rq"


@pytest.mark.parametrize("hosts", ["host", "hostname"])
def test_an_amqp_url_may_be_a_dict(hosts: str) -> None:
    url = {hosts: "broker", "port": 5671, "vhost": "mesh", "username": "me", "password": "hush"}
    transport = make(amqp_url={**url, "ssl": True, "verify": False})
    assert transport.amqp_url["vhost"] == "mesh"  # type: ignore[call-overload]
    assert transport.core.config.broker.hosts == (("broker", 5671),)
    assert "hush" not in f"{transport!r} {transport.core.config!r}"


def test_stray_options_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    make(vhost="mesh", prefetch=3, rpc_exchange=None, password="hush")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "RMQTransport has no option password, prefetch, vhost; ignored"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no service name": ({"service_name": ""}, "service_name"),
    "an instance id of a wrong type": ({"instance_id": 7}, "instance_id"),
    "no URL": ({"amqp_url": None}, "amqp_url"),
    "a URL of something else": ({"amqp_url": "http://localhost/"}, "amqp_url"),
    "a default_ttl as text": ({"default_ttl": "1000"}, "default_ttl"),
    "a true default_ttl": ({"default_ttl": True}, "default_ttl"),
    "a negative default_ttl": ({"default_ttl": -1}, "default_ttl"),
    "an endless default_ttl": ({"default_ttl": 2**40}, "default_ttl"),
    "a default_ttl that is no float": ({"default_ttl": 10**400}, "default_ttl"),
    "client_only as text": ({"client_only": "yes"}, "client_only"),
    "a negative prefetch_count": ({"prefetch_count": -1}, "prefetch_count"),
    "a prefetch_count as text": ({"prefetch_count": "5"}, "prefetch_count"),
    "bindings as text": ({"event_bindings": "a.b"}, "event_bindings"),
    "two exchanges of one name": ({"rpc_exchange": "a", "events_exchange": "a"}, "rpc_exchange"),
    "a queue name of a wrong type": ({"service_queue": 5}, "service_queue"),
}


@pytest.mark.parametrize(("settings", "field"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(NuropbConfigurationError) as raised:
        make(**settings)
    assert raised.value.field == field


def test_settings_that_nuropb_has_not_are_for_subclasses() -> None:
    class Tuned(RMQTransport):
        core_settings = {"heartbeat": 3, "handler_timeout": 60.0, "prefetch_count": 9}  # noqa: RUF012

    assert Tuned("orders", "one", URL, echo).core.config.heartbeat == 3
    assert Tuned("orders", "one", URL, echo).core.config.prefetch_count == 9
    assert Tuned("orders", "one", URL, echo, prefetch_count=4).core.config.prefetch_count == 4


# -- decode_rmq_body ------------------------------------------------------------------------


def properties(**changes: Any) -> pika.BasicProperties:
    """Of a request."""
    headers = {"nuropb_protocol": "0.1.1", "nuropb_type": "request", "trace_id": "t-1"}
    given = {"headers": headers, "correlation_id": "c-1", "expiration": "60000"}
    return pika.BasicProperties(**{**given, **changes})


def test_a_message_of_pika_is_decoded() -> None:
    assert decode_rmq_body(None, properties(), b'{"tag": "request"}') == {
        "nuropb_protocol": "0.1.1",
        "nuropb_type": "request",
        "nuropb_payload": {"tag": "request"},
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "ttl": 60_000,
    }
    assert decode_rmq_body(None, properties(expiration=None), b"{}")["ttl"] is None


@pytest.mark.parametrize(
    ("changes", "body", "text"),
    [
        ({"headers": None}, b"{}", "nuropb_protocol"),
        ({"headers": {}}, b"{}", "nuropb_protocol"),
        ({"headers": {"nuropb_protocol": "9"}}, b"{}", "'9'"),
        ({"headers": {"nuropb_protocol": ["0.1.1"]}}, b"{}", "list"),
        ({"headers": {"nuropb_protocol": "0.1.1"}}, b"{}", "nuropb_type"),
        ({"headers": {"nuropb_protocol": "0.1.1", "nuropb_type": []}}, b"{}", "nuropb_type"),
        ({}, b"{", "JSON"),
        ({}, b"\xff", "UTF-8"),
        ({}, b"[" * 200 + b"]" * 200, "deeper"),
        ({}, b"[]", "an object"),
    ],
)
def test_what_cannot_be_decoded_is_a_typed_error(
    changes: dict[str, Any], body: bytes, text: str
) -> None:
    with pytest.raises(MalformedMessageError, match=text):
        decode_rmq_body(None, properties(**changes), body)
