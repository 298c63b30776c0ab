"""Bad settings are an error that names the field and the fix, and quotes no secret."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq import NuropbConfigurationError, Transport, TransportConfig

SECRET = "hush-hush"


async def handler(_: object) -> None:
    """Never called."""


GOOD = {"amqp_url": f"amqp://u:{SECRET}@h/v", "service_name": "orders"}
FIRST = {"host": "a", "vhost": "v", "username": "u", "password": SECRET}

SETTINGS: dict[str, tuple[dict[Any, Any], str, str]] = {
    "unknown key": ({"prefetch": 5}, "prefetch", "did you mean prefetch_count?"),
    "unlike any key": ({"colour": "blue"}, "colour", "is not a setting; known are amqp_url"),
    "no service": ({"service_name": None}, "service_name", "must be a string"),
    "no address": ({"amqp_url": None}, "amqp_url", "must be a URL, a dict, or a list"),
    "not a URL": ({"amqp_url": f"u:{SECRET}@h"}, "amqp_url", "is not a URL"),
    "another scheme": ({"amqp_url": "http://h/"}, "amqp_url", "use amqp:// or amqps://"),
    "a password with a slash": (
        {"amqp_url": f"amqp://u:1/{SECRET}@h/v"},
        "amqp_url",
        "percent-encode",
    ),
    "no host": ({"amqp_url": f"amqp://u:{SECRET}@/v"}, "amqp_url", "host is missing"),
    "a bad port": ({"amqp_url": f"amqp://u:{SECRET}@h:99999/v"}, "amqp_url", "a port is 1-65535"),
    "unknown key of a dict": (
        {"amqp_url": {"host": "h", "pasword": SECRET}},
        "amqp_url",
        "unknown key 'pasword'; known are host",
    ),
    "hosts that differ in virtual host": (
        {"amqp_url": [FIRST, {**FIRST, "host": "b", "vhost": "w"}]},
        "amqp_url[1]",
        "vhost must be the same",
    ),
    "hosts that differ in user": (
        {"amqp_url": [FIRST, {**FIRST, "host": "b", "username": "w"}]},
        "amqp_url[1]",
        "username must be the same",
    ),
    "hosts that differ in TLS": (
        {"amqp_url": [FIRST, {**FIRST, "host": "b", "ssl": True}]},
        "amqp_url[1]",
        "tls must be the same",
    ),
    "TLS files without TLS": (
        {"amqp_url": {**FIRST, "ssl": False, "cafile": "ca.pem"}},
        "amqp_url",
        "use amqps:// or ssl=True",
    ),
    "a TLS file that is missing": (
        {"amqp_url": {**FIRST, "ssl": True, "cafile": "no-such-file.pem"}},
        "cafile",
        "cannot read 'no-such-file.pem': No such file",
    ),
    "a key without its certificate": (
        {"amqp_url": {**FIRST, "ssl": True, "keyfile": "key.pem"}},
        "amqp_url.keyfile",
        "give the certificate too",
    ),
    "a name that AMQP has no room for": ({"service_name": "s" * 250}, "service_name", "1 to 255"),
    "a binding that AMQP has no room for": (
        {"event_bindings": ["t" * 256]},
        "event_bindings[0]",
        "1 to 255 bytes",
    ),
    "a number out of range": ({"prefetch_count": -1}, "prefetch_count", "from 0 to 65535"),
    "seconds as text": ({"request_timeout": "5"}, "request_timeout", "not str"),
}


@pytest.mark.parametrize("problem", SETTINGS)
def test_bad_settings(problem: str) -> None:
    settings, field, says = SETTINGS[problem]
    with pytest.raises(NuropbConfigurationError) as caught:
        Transport(TransportConfig.from_mapping({**GOOD, **settings}), handler)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert says in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value!r}"


def test_settings_that_are_none() -> None:
    wrong: tuple[Any, ...] = (None, [], "amqp://h/")
    for settings in wrong:
        with pytest.raises(NuropbConfigurationError, match="settings: must be a mapping"):
            TransportConfig.from_mapping(settings)
    with pytest.raises(NuropbConfigurationError, match="handler: is missing"):
        Transport(TransportConfig.from_mapping(GOOD))
