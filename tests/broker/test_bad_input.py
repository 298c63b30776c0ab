"""Bad input is a typed error that names the field and the fix; nothing is sent, all goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import pytest

from nuropb_rmq import (
    EncryptionError,
    MessageTooLargeError,
    NuropbConfigurationError,
    NuropbException,
    NuropbSerializationError,
    NuropbValidationError,
    State,
    Transport,
    TransportConfig,
)
from nuropb_rmq.testing import RabbitMQNode

from ..support import Mesh, Recorder, command, event, request, result_of

SECRET = "hush-hush"
LARGEST = 300_000
"""max_body_bytes of the client."""
Invalid, Unserializable = NuropbValidationError, NuropbSerializationError


class Bad(NamedTuple):
    """What a call is given, and what its error says."""

    payload: Any
    error: type[NuropbException]
    says: tuple[str, ...]
    options: Mapping[str, Any] = MappingProxyType({})


class Unprintable:
    """Its own str() fails."""

    def __str__(self) -> NoReturn:
        raise RuntimeError(SECRET)


def circle() -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["again"] = made
    return made


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def without(payload: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key != name}


ANSWER = {"tag": "response", "result": 1, "error": None, "correlation_id": "c", "reply_to": "r"}

# What is wrong with a payload, whichever way it is sent.
PAYLOADS: dict[str, Bad] = {
    "nothing": Bad(None, Invalid, ("payload: null", "a mapping")),
    "a list": Bad([1], Invalid, ("payload: a list", "a mapping")),
    "text": Bad("request", Invalid, ("payload: a str", "a mapping")),
    "empty": Bad({}, Invalid, ("'tag': missing", "request, command, event, response")),
    "no tag": Bad(without(request(), "tag"), Invalid, ("'tag': missing", "use one of")),
    "unknown tag": Bad({**request(), "tag": "reqest"}, Invalid, ("'tag': 'reqest'", "use one of")),
    "tag is a number": Bad({**request(), "tag": 7}, Invalid, ("'tag': a int", "use one of")),
    "tag is a list": Bad({**request(), "tag": ["request"]}, Invalid, ("'tag': a list",)),
    "no service": Bad(without(request(), "service"), Invalid, ("'service': missing",)),
    "no method": Bad(without(request(), "method"), Invalid, ("'method': missing",)),
    "no params": Bad(without(request(), "params"), Invalid, ("'params': missing",)),
    "service is null": Bad({**request(), "service": None}, Invalid, ("'service': null", "text is")),
    "method is bytes": Bad({**request(), "method": b"m"}, Invalid, ("'method': a bytes", "text")),
    "params is a list": Bad({**request(), "params": []}, Invalid, ("'params': a list", "a dict")),
    "context is a list": Bad({**request(), "context": []}, Invalid, ("'context'", "a mapping")),
    "correlation id is a number": Bad(
        {**request(), "correlation_id": 7}, Invalid, ("'correlation_id': a int", "text is needed")
    ),
    "correlation id has a line feed": Bad(
        {**request(), "correlation_id": "a\nb"}, Invalid, ("'correlation_id'", "not printable")
    ),
    "correlation id is too long": Bad(
        {**request(), "correlation_id": "c" * 256}, Unserializable, ("correlation_id", "255 bytes")
    ),
    "correlation id is too long in UTF-8": Bad(
        {**request(), "correlation_id": "é" * 128}, Unserializable, ("correlation_id", "255 bytes")
    ),
    "trace id is bytes": Bad(
        {**request(), "trace_id": b"t"}, Invalid, ("'trace_id': a bytes", "text is needed")
    ),
    "trace id is no text": Bad(
        {**request(), "trace_id": "\ud800"}, Unserializable, ("trace_id", "UTF-8")
    ),
    "trace id that no frame can hold": Bad(
        {**request(), "trace_id": "t" * 200_000}, Invalid, ("'trace_id'", "1024 characters")
    ),
    "service is too long": Bad(
        request(service="s" * 256), Unserializable, ("routing key", "255 bytes", "service")
    ),
    "service is no text": Bad(
        request(service="\ud800"), Unserializable, ("routing key", "UTF-8", "service")
    ),
    "a circle": Bad(request(a=circle()), Unserializable, ("Circular", "params.a.again")),
    "a key of another type": Bad(
        request(a=[{(1, 2): SECRET}]), Unserializable, ("keys must be str", "params.a[0]")
    ),
    "a value that fails": Bad(
        request(a=Unprintable()), Unserializable, ("RuntimeError", "params.a")
    ),
    "too deep for this interpreter": Bad(
        request(a=nested(100_000)), Unserializable, ("nested too deeply", "params.a[0]")
    ),
    "too deep by one level": Bad(
        request(a=nested(98)), Unserializable, ("nested deeper", "max_json_depth (100 levels)")
    ),
    "too large": Bad(
        request(a="x" * LARGEST), MessageTooLargeError, ("larger than max_body_bytes (300000)",)
    ),
}

# What send() alone takes.
SENT: dict[str, Bad] = {
    "an event without a topic": Bad(
        without(event("t", 1), "topic"), Invalid, ("'topic': missing", "event")
    ),
    "an event without a body": Bad(
        without(event("t", 1), "event"), Invalid, ("'event': missing", "event")
    ),
    "topic is a number": Bad({**event("t", 1), "topic": 7}, Invalid, ("'topic': a int", "text is")),
    "topic is too long": Bad(
        event("é" * 128, 1), Unserializable, ("routing key", "255 bytes", "topic")
    ),
    "an encrypted event": Bad(
        event("t", SECRET), EncryptionError, ("encrypted", "plain"), {"encrypted": True}
    ),
    "encrypted by nobody": Bad(
        command(a=SECRET), EncryptionError, ("encrypted", "no encryptor"), {"encrypted": True}
    ),
    "an unknown encoding": Bad(command(), Invalid, ("'xml'", "use 'json'"), {"encoding": "xml"}),
    "no encoding": Bad(command(), Invalid, ("encoding: None", "use 'json'"), {"encoding": None}),
    "a response to nobody": Bad(without(ANSWER, "reply_to"), Invalid, ("'reply_to'", "is needed")),
    "a response to a number": Bad({**ANSWER, "reply_to": 7}, Invalid, ("'reply_to'", "is needed")),
    "a response's error is text": Bad(
        {**ANSWER, "error": SECRET}, Invalid, ("'error': a str", "a dict or None")
    ),
    "ttl is 0": Bad(command(), Invalid, ("ttl: 0", "seconds above 0"), {"ttl": 0}),
    "ttl is negative": Bad(command(), Invalid, ("ttl: -1.5", "seconds above 0"), {"ttl": -1.5}),
    "ttl is text": Bad(command(), Invalid, ("ttl: '60'", "seconds above 0"), {"ttl": "60"}),
    "ttl is a bool": Bad(command(), Invalid, ("ttl: True", "seconds above 0"), {"ttl": True}),
    "ttl is NaN": Bad(command(), Invalid, ("ttl: nan", "above 0"), {"ttl": float("nan")}),
    "ttl is a Decimal": Bad(command(), Invalid, ("ttl: Decimal", "above 0"), {"ttl": Decimal(1)}),
    "ttl is infinite": Bad(command(), Invalid, ("ttl", "at most"), {"ttl": float("inf")}),
    "ttl is no float": Bad(command(), Invalid, ("ttl", "at most 4294967"), {"ttl": 10**400}),
    "ttl is 50 days": Bad(command(), Invalid, ("ttl", "49 days"), {"ttl": 50 * 86400}),
}

# What both send() and request() take beside the payload.
OPTIONS: dict[str, Bad] = {
    "timeout is 0": Bad(request(), Invalid, ("timeout: 0", "above 0"), {"timeout": 0}),
    "timeout is negative": Bad(request(), Invalid, ("timeout: -1", "above 0"), {"timeout": -1}),
    "timeout is infinite": Bad(
        request(), Invalid, ("timeout: inf", "at most 4294967"), {"timeout": float("inf")}
    ),
    "timeout is NaN": Bad(request(), Invalid, ("timeout: nan", "above"), {"timeout": float("nan")}),
    "timeout is 50 days": Bad(request(), Invalid, ("timeout", "49 days"), {"timeout": 50 * 86400}),
    "timeout is no float": Bad(
        request(), Invalid, ("timeout", "at most 4294967"), {"timeout": 10**400}
    ),
    "timeout has no end": Bad(
        request(), Invalid, ("timeout", "at most 4294967"), {"timeout": 10**5000}
    ),
    "timeout is text": Bad(request(), Invalid, ("timeout: '5'", "above 0"), {"timeout": "5"}),
    "priority is 256": Bad(
        request(), Unserializable, ("priority: 256", "0…255"), {"priority": 256}
    ),
    "priority is -1": Bad(request(), Unserializable, ("priority: -1", "0…255"), {"priority": -1}),
    "priority is text": Bad(
        request(), Unserializable, ("priority: 'high'", "integer"), {"priority": "high"}
    ),
    "priority is a fraction": Bad(
        request(), Unserializable, ("priority: 1.5", "integer"), {"priority": 1.5}
    ),
    "priority is a bool": Bad(
        request(), Unserializable, ("priority: True", "integer"), {"priority": True}
    ),
}

# What request() alone refuses.
REQUESTED: dict[str, Bad] = {
    "a command": Bad(command(), Invalid, ("'tag'", "see send()")),
    "an event": Bad(event("t", 1), Invalid, ("'tag'", "see send()")),
    "a response": Bad(ANSWER, Invalid, ("'tag'", "see send()")),
    "encrypted by nobody": Bad(
        request(a=SECRET), EncryptionError, ("encrypted", "no encryptor"), {"encrypted": True}
    ),
}


def depths(node: RabbitMQNode, mesh: Mesh) -> dict[str, int]:
    """Messages in each queue, as the broker counts them."""
    vhost = mesh.url.rsplit("/", 1)[1]
    listing = node.rabbitmqctl("list_queues", "-p", vhost, "name", "messages", "--silent")
    return {name: int(count) for name, count in map(str.split, listing.splitlines())}


@pytest.mark.parametrize(
    ("how", "table"),
    [
        ("send", PAYLOADS | SENT | OPTIONS),
        ("request", PAYLOADS | OPTIONS | REQUESTED),
    ],
    ids=["send", "request"],
)
async def test_bad_calls(
    mesh: Mesh, rabbitmq_node: RabbitMQNode, how: str, table: dict[str, Bad]
) -> None:
    recorder = Recorder()
    await mesh.service(recorder, event_bindings=["#"])
    client = await mesh.client(max_body_bytes=LARGEST)
    states: list[State] = []
    client.on_state_change(lambda state, _: states.append(state))
    call = getattr(client, how)
    for number, (problem, bad) in enumerate(table.items()):
        with pytest.raises(NuropbException) as caught:
            await call(bad.payload, **bad.options)
        assert caught.type is bad.error, problem
        for text in bad.says:
            assert text in str(caught.value), problem
        assert SECRET not in f"{caught.value} {caught.value!r}", problem
        assert len(str(caught.value)) < 300, problem
        assert client.pending == 0, problem
        # The service has what was sent before this call by the time it answers it.
        assert result_of(await client.request(request(n=number))) == {"n": number}, problem
    assert [each.payload["params"] for each in recorder.seen] == [
        {"n": number} for number in range(len(table))
    ]
    assert states == []
    counted = await asyncio.to_thread(depths, rabbitmq_node, mesh)
    assert set(counted) >= {"nuropb-orders-sq", "nuropb-orders-dlq"}
    assert not any(counted.values()), counted


async def test_what_looks_odd_and_is_not_bad(mesh: Mesh) -> None:
    recorder = Recorder()
    await mesh.service(recorder)
    client = await mesh.client()
    context = MappingProxyType({"user": "u1"})
    payloads: tuple[Any, ...] = (
        {**request(n=1), "context": context},
        {**request(n=1), "context": None, "trace_id": None, "correlation_id": None},
        {**request(n=1), "correlation_id": "", "trace_id": "é" * 1024},
        {**request(n=1), "correlation_id": "c" * 255, 7: "extra"},
        MappingProxyType(request(n=1)),
        request(n=1, deep=nested(97)),
    )
    for payload in payloads:
        assert result_of(await client.request(payload, priority=255))["n"] == 1
    await client.send(command(n=1), ttl=49 * 86400, timeout=49 * 86400)
    await client.send(command(n=1), ttl=1e-9, timeout=5)  # which may expire before it is handled
    assert recorder.seen[0].payload["context"] == {"user": "u1"}
    assert recorder.seen[2].trace_id == "é" * 1024


# -- settings: refused before anything is opened --------------------------------------------


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
    with pytest.raises(NuropbConfigurationError, match="handler: a service needs one"):
        Transport(TransportConfig.from_mapping(GOOD))
