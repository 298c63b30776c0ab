"""Tests of RMQAPI's transport_settings, without a broker."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq import RMQAPI

from ...encrypting import private_key
from ...seams import encryptor_of


def test_settings_that_make_no_sense() -> None:
    url = "amqp://guest:guest@localhost/"
    with pytest.raises(ValueError, match="service_instance"):
        RMQAPI(url, service_name="orders")
    with pytest.raises(ValueError, match="amqp_url"):
        RMQAPI("localhost")
    with pytest.raises(ValueError, match="prefetch_count"):
        RMQAPI(url, transport_settings={"prefetch_count": -1})
    for bound in ("key_uses", "key_lifetime"):
        with pytest.raises(ValueError, match=bound):
            RMQAPI(url, transport_settings={bound: -1})


def test_how_long_a_key_is_used_again_is_a_transport_setting() -> None:
    key = private_key("orders").public_key()

    def wrapped(**bounds: Any) -> set[bytes]:
        encryptor = encryptor_of(RMQAPI("amqp://localhost/", transport_settings=bounds))
        encryptor.add_public_key("orders", key)
        bodies = [encryptor.encrypt_payload(b"{}", str(n), "orders") for n in range(3)]
        return {body.partition(b".")[0] for body in bodies}

    settings: list[dict[str, Any]] = [
        {}, {"key_uses": None, "key_lifetime": None}, {"key_uses": 1}, {"key_lifetime": 0},
    ]  # fmt: skip
    assert [len(wrapped(**each)) for each in settings] == [1, 1, 3, 3]


def test_settings_are_not_changed_and_exchanges_are_found_in_both_places() -> None:
    settings = {"rpc_exchange": "rpc-1", "prefetch_count": 5}
    api = RMQAPI({"host": "localhost", "vhost": "v"}, transport_settings=settings)
    assert settings == {"rpc_exchange": "rpc-1", "prefetch_count": 5}
    assert api.transport.rpc_exchange == "rpc-1"
    assert api.service_name == "v-client"
    api = RMQAPI("amqp://localhost/%2F", rpc_exchange="rpc-2", transport_settings=settings)
    assert api.transport.rpc_exchange == "rpc-2"
    assert api.service_name == "%2F-client"
