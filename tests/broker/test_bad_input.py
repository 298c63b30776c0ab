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
    NuropbException,
    NuropbSerializationError,
    NuropbValidationError,
    State,
)
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, command, event, request, result_of

SECRET = "hush-hush"
LARGEST = 300_000
"""max_body_bytes of the client."""
Invalid, Unserializable = NuropbValidationError, NuropbSerializationError


class Bad(NamedTuple):
    """The bad arguments of a call, and the error that it raises."""

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
    "nothing": Bad(None, Invalid, ("payload: expected a mapping, got null",)),
    "a list": Bad([1], Invalid, ("payload: expected a mapping, got list",)),
    "text": Bad("request", Invalid, ("payload: expected a mapping, got str",)),
    "empty": Bad({}, Invalid, ("'tag' is missing", "request, command, event, response")),
    "no tag": Bad(without(request(), "tag"), Invalid, ("'tag' is missing", "expected one of")),
    "unknown tag": Bad(
        {**request(), "tag": "reqest"}, Invalid, ("'tag' is 'reqest'", "expected one of")
    ),
    "tag is a number": Bad({**request(), "tag": 7}, Invalid, ("'tag' is int", "expected one of")),
    "tag is a list": Bad({**request(), "tag": ["request"]}, Invalid, ("'tag' is list",)),
    "no service": Bad(without(request(), "service"), Invalid, ("'service': expected",)),
    "no method": Bad(without(request(), "method"), Invalid, ("'method': expected",)),
    "no params": Bad(without(request(), "params"), Invalid, ("'params': expected",)),
    "service is null": Bad({**request(), "service": None}, Invalid, ("expected str, got null",)),
    "method is bytes": Bad({**request(), "method": b"m"}, Invalid, ("expected str, got bytes",)),
    "params is a list": Bad(
        {**request(), "params": []}, Invalid, ("'params'", "expected dict, got list")
    ),
    "context is a list": Bad({**request(), "context": []}, Invalid, ("'context'", "a mapping")),
    "correlation id is a number": Bad(
        {**request(), "correlation_id": 7}, Invalid, ("'correlation_id'", "expected str, got int")
    ),
    "correlation id has a line feed": Bad(
        {**request(), "correlation_id": "a\nb"}, Invalid, ("'correlation_id'", "printable")
    ),
    "correlation id is too long": Bad(
        {**request(), "correlation_id": "c" * 256}, Unserializable, ("correlation_id", "255 bytes")
    ),
    "correlation id is too long in UTF-8": Bad(
        {**request(), "correlation_id": "é" * 128}, Unserializable, ("correlation_id", "255 bytes")
    ),
    "trace id is bytes": Bad(
        {**request(), "trace_id": b"t"}, Invalid, ("'trace_id'", "expected str, got bytes")
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
        without(event("t", 1), "topic"), Invalid, ("'topic': expected",)
    ),
    "an event without a body": Bad(
        without(event("t", 1), "event"), Invalid, ("'event': expected",)
    ),
    "topic is a number": Bad(
        {**event("t", 1), "topic": 7}, Invalid, ("'topic'", "expected str, got int")
    ),
    "topic is too long": Bad(
        event("é" * 128, 1), Unserializable, ("routing key", "255 bytes", "topic")
    ),
    "an encrypted event": Bad(
        event("t", SECRET), EncryptionError, ("encrypted", "plain"), {"encrypted": True}
    ),
    "encrypted by nobody": Bad(
        command(a=SECRET), EncryptionError, ("encrypted", "no encryptor"), {"encrypted": True}
    ),
    "an unknown encoding": Bad(command(), Invalid, ("got 'xml'",), {"encoding": "xml"}),
    "no encoding": Bad(command(), Invalid, ("expected 'json'", "None"), {"encoding": None}),
    "a response to nobody": Bad(without(ANSWER, "reply_to"), Invalid, ("'reply_to'", "expected")),
    "a response to a number": Bad({**ANSWER, "reply_to": 7}, Invalid, ("'reply_to'", "expected")),
    "a response's error is text": Bad(
        {**ANSWER, "error": SECRET}, Invalid, ("'error'", "expected dict or None, got str")
    ),
    "ttl is 0": Bad(command(), Invalid, ("ttl: expected", "got 0", "seconds above 0"), {"ttl": 0}),
    "ttl is negative": Bad(
        command(), Invalid, ("ttl: expected", "got -1.5", "seconds above 0"), {"ttl": -1.5}
    ),
    "ttl is text": Bad(
        command(), Invalid, ("ttl: expected", "got '60'", "seconds above 0"), {"ttl": "60"}
    ),
    "ttl is a bool": Bad(
        command(), Invalid, ("ttl: expected", "got True", "seconds above 0"), {"ttl": True}
    ),
    "ttl is NaN": Bad(
        command(), Invalid, ("ttl: expected", "got nan", "above 0"), {"ttl": float("nan")}
    ),
    "ttl is a Decimal": Bad(
        command(), Invalid, ("ttl: expected", "got Decimal", "above 0"), {"ttl": Decimal(1)}
    ),
    "ttl is infinite": Bad(command(), Invalid, ("ttl", "at most"), {"ttl": float("inf")}),
    "ttl is no float": Bad(command(), Invalid, ("ttl", "at most 4294967"), {"ttl": 10**400}),
    "ttl is 50 days": Bad(command(), Invalid, ("ttl", "49 days"), {"ttl": 50 * 86400}),
}

# What both send() and request() take beside the payload.
OPTIONS: dict[str, Bad] = {
    "timeout is 0": Bad(
        request(), Invalid, ("timeout: expected", "got 0", "above 0"), {"timeout": 0}
    ),
    "timeout is negative": Bad(
        request(), Invalid, ("timeout: expected", "got -1", "above 0"), {"timeout": -1}
    ),
    "timeout is infinite": Bad(
        request(),
        Invalid,
        ("timeout: expected", "got inf", "at most 4294967"),
        {"timeout": float("inf")},
    ),
    "timeout is NaN": Bad(
        request(), Invalid, ("timeout: expected", "got nan", "above"), {"timeout": float("nan")}
    ),
    "timeout is 50 days": Bad(request(), Invalid, ("timeout", "49 days"), {"timeout": 50 * 86400}),
    "timeout is no float": Bad(
        request(), Invalid, ("timeout", "at most 4294967"), {"timeout": 10**400}
    ),
    "timeout has no end": Bad(
        request(), Invalid, ("timeout", "at most 4294967"), {"timeout": 10**5000}
    ),
    "timeout is text": Bad(
        request(), Invalid, ("timeout: expected", "got '5'", "above 0"), {"timeout": "5"}
    ),
    "priority is 256": Bad(
        request(), Unserializable, ("from 0 to 255", "got 256"), {"priority": 256}
    ),
    "priority is -1": Bad(request(), Unserializable, ("from 0 to 255", "got -1"), {"priority": -1}),
    "priority is text": Bad(
        request(), Unserializable, ("an int from 0", "got 'high'"), {"priority": "high"}
    ),
    "priority is a fraction": Bad(
        request(), Unserializable, ("an int from 0", "got 1.5"), {"priority": 1.5}
    ),
    "priority is a bool": Bad(
        request(), Unserializable, ("an int from 0", "got True"), {"priority": True}
    ),
}

# What request() alone refuses.
REQUESTED: dict[str, Bad] = {
    "a command": Bad(command(), Invalid, ("'tag'", "use send()")),
    "an event": Bad(event("t", 1), Invalid, ("'tag'", "use send()")),
    "a response": Bad(ANSWER, Invalid, ("'tag'", "use send()")),
    "encrypted by nobody": Bad(
        request(a=SECRET), EncryptionError, ("encrypted", "no encryptor"), {"encrypted": True}
    ),
}


def depths(node: RabbitMQNode, mesh: Transports) -> dict[str, int]:
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
    mesh: Transports, rabbitmq_node: RabbitMQNode, how: str, table: dict[str, Bad]
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


async def test_what_looks_odd_and_is_not_bad(mesh: Transports) -> None:
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
