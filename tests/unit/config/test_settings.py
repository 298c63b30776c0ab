"""Settings of a transport: what is understood, what is refused, what is masked."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nuropb_rmq.config.address import Broker
from nuropb_rmq.config.settings import TransportConfig
from nuropb_rmq.exceptions import NuropbConfigurationError
from nuropb_rmq.protocol.constants import MessageType

SECRET = "hunter2"


def make(**settings: Any) -> TransportConfig:
    return TransportConfig(**{"amqp_url": "amqp://h", "service_name": "orders"} | settings)


def test_defaults() -> None:
    config = make()
    assert config.broker == Broker.parse("amqp://h")
    assert config.service_queue_name == "nuropb-orders-sq"
    assert config.dl_queue_name == "nuropb-orders-dlq"
    assert config.response_queue_name("1") == "nuropb-orders-1-rq"
    assert config.persistent == {MessageType.COMMAND, MessageType.EVENT}
    assert config.instance_id is None
    assert hash(config) == hash(make())


def test_values_are_normalised() -> None:
    config = make(
        rpc_bindings=["b", "a", "b"],
        event_bindings={"z", "y"},
        persistent=["request"],
        connect_timeout=3,
    )
    assert config.rpc_bindings == ("b", "a")
    assert config.event_bindings == ("y", "z")
    assert config.persistent == frozenset({MessageType.REQUEST})
    assert isinstance(config.connect_timeout, float)


def test_replace_parses_again() -> None:
    config = dataclasses.replace(make(prefetch_count=7), amqp_url="amqps://other")
    assert config.broker == Broker.parse("amqps://other")
    assert config.prefetch_count == 7
    with pytest.raises(NuropbConfigurationError, match="heartbeat"):
        dataclasses.replace(config, heartbeat=-1)


def test_repr_is_masked() -> None:
    for url in (f"amqp://u:{SECRET}@h", {"host": "h", "username": "u", "password": SECRET}):
        assert SECRET not in repr(make(amqp_url=url))
        assert SECRET not in str(make(amqp_url=[url]))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("service_name", "", "1 to 255"),
        ("service_name", "é" * 128, "1 to 255"),
        ("service_name", "\ud800", "UTF-8"),
        ("service_name", 1, "must be a string"),
        ("service_name", "a" * 244, "1 to 255"),
        ("service_name", "50%", "letters, digits"),
        ("instance_id", "", "1 to 255"),
        ("client_only", 1, "True or False"),
        ("rpc_exchange", "", "1 to 255"),
        ("events_exchange", "a" * 128, "at most 127"),
        ("dl_exchange", "é", "letters, digits"),
        ("rpc_exchange", "nuropb-dl-exchange", "must differ"),
        ("dl_queue", "", "1 to 255"),
        ("dl_queue", "a" * 256, "1 to 255"),
        ("service_queue", "a?", "letters, digits"),
        ("response_queue", "ä", "letters, digits"),
        ("service_queue", "nuropb-orders-dlq", "three names"),
        ("rpc_bindings", "orders", "wrap it in a list"),
        ("event_bindings", b"orders", "wrap it in a list"),
        ("event_bindings", [""], "1 to 255"),
        ("event_bindings", ["a", 1], "must be a string"),
        ("rpc_bindings", None, "a list of routing keys"),
        ("persistent", "event", "wrap it in a list"),
        ("persistent", {"evnt"}, "none of request"),
        ("persistent", [1], "one of"),
        ("queue_type", "stream", "must be classic or quorum, not 'stream'"),
        ("queue_type", None, "one of classic, quorum"),
        ("delivery_limit", 3, 'set queue_type="quorum"'),
        ("delivery_limit", -1, "set the policy delivery-limit -1"),
        ("delivery_limit", -2, "from 0 to"),
        ("dl_exchange", "d" * 119, "at most 127"),
        ("rpc_exchange", "nuropb-dl-exchange-by-queue", "behind dl_exchange"),
        ("single_active_consumer", "yes", "True or False"),
        ("max_priority", 0, "an integer from 1 to 255, not 0"),
        ("max_priority", 256, "an integer from 1 to 255, not 256"),
        ("max_priority", "high", "an integer from 1 to 255, not str"),
        ("prefetch_count", -1, "from 0 to 65535"),
        ("prefetch_count", 65_536, "from 0 to 65535"),
        ("prefetch_count", True, "not bool"),
        ("prefetch_count", 1.0, "not float"),
        ("heartbeat", 65_535, "from 0 to 65534"),
        ("connect_timeout", 0, "seconds"),
        ("connect_timeout", "1", "not str"),
        ("reconnect_cap", float("nan"), "seconds"),
        ("publish_timeout", float("inf"), "seconds"),
        ("request_timeout", True, "not bool"),
        ("default_ttl", 5e6, "seconds"),
        ("default_ttl", 10**400, "seconds"),
        ("request_timeout", -(10**400), "seconds"),
        ("handler_timeout", None, "NoneType"),
        ("instance_retry", -0.1, "seconds"),
        ("outbox_messages", 0, "from 1"),
        ("max_pending", 0, "from 1"),
        ("max_pending", 10.0, "not float"),
        ("outbox_bytes", 0, "from 1"),
        ("max_body_bytes", 0, "from 1"),
        ("max_json_depth", 0, "from 1"),
        ("reply_to_pattern", "(", "not a regular expression"),
        ("reply_to_pattern", None, "a regular expression"),
        ("amqp_url", "h", "is not a URL"),
    ],
)
def test_wrong_settings_are_typed_errors(field: str, value: Any, says: str) -> None:
    with pytest.raises(NuropbConfigurationError) as caught:
        make(**{field: value})
    assert says in str(caught.value)
    assert caught.value.field.partition("[")[0] == field


def test_a_client_name_that_pamqp_refuses_still_makes_a_response_queue() -> None:
    config = make(service_name="%2F-client", client_only=True)
    assert config.response_queue_name("client-1") == "nuropb-_2F-client-client-1-rq"


def test_from_mapping() -> None:
    config = TransportConfig.from_mapping(
        {"amqp_url": "amqp://h", "service_name": "orders", "heartbeat": 5}
    )
    assert config == make(heartbeat=5)


@pytest.mark.parametrize(
    ("settings", "field", "says"),
    [
        ({"hartbeat": 5}, "hartbeat", "did you mean heartbeat?"),
        ({"zzz": 5}, "zzz", "known are amqp_url"),
        ({"broker": 5}, "broker", "is not a setting"),
        ({1: 5}, "1", "is not a setting"),
    ],
)
def test_from_mapping_names_unknown_keys(settings: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(NuropbConfigurationError) as caught:
        TransportConfig.from_mapping({"amqp_url": "amqp://h", "service_name": "o"} | settings)
    assert caught.value.field == field
    assert says in str(caught.value)


def test_from_mapping_names_missing_keys() -> None:
    with pytest.raises(NuropbConfigurationError, match=r"^service_name: is missing"):
        TransportConfig.from_mapping({"amqp_url": "amqp://h"})
