"""Row 34: plain text where encryption is due, in a call or in its reply: refused, typed error.

The hostile side speaks to the broker itself, and may have any key but the service's private one;
where it stands for who exchanges bodies at the broker, it has that one too.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aio_pika
import pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from nuropb_rmq import (
    EncryptionError,
    EncryptionRequiredError,
    Encryptor,
    MalformedMessageError,
    NuropbRemoteError,
    RMQTransport,
    publish_to_mesh,
)
from nuropb_rmq.service.methods import Published

from ..compat.apis import Apis
from ..encrypting import (
    DL_QUEUE,
    HEADERS,
    SECRET,
    TAP_QUEUE,
    Tap,
    calling,
    headers_of,
    private_key,
    response,
    serving,
    tapping,
)
from ..mesh.support import Meshes
from ..seams import encryptor_of
from ..support import Transports, eventually, request

REQUIRED, UNREADABLE = "EncryptionRequiredError", "EncryptionError"
EXCHANGED = "MalformedMessageError"


class Vault:
    _service_name = "orders"
    _private_key = private_key("orders")

    def __init__(self) -> None:
        self.opened: list[str] = []

    @publish_to_mesh(requires_encryption=True)
    async def open(self, pin: str) -> str:
        self.opened.append(pin)
        return f"opened with {pin}"

    @publish_to_mesh(requires_encryption=True)
    def open_slowly(self, pin: str) -> str:
        self.opened.append(pin)
        return f"opened with {pin}"

    async def look(self) -> list[str]:
        return self.opened


# -- calls ----------------------------------------------------------------------------------


@dataclass
class Call:
    """A hostile call: what it says of itself, what it is, and the error that it gets."""

    error: str
    headers: Mapping[str, Any]
    payload: Mapping[str, Any]
    key_of: str | None = None
    """The service with whose public key its body is encrypted; None: it is plain."""
    body: bytes | None = None
    queue: str | None = None
    """Straight into this one, past the exchange of requests."""


CALL = {"method": "open", "params": {"pin": SECRET}}
AGAIN = {"nuropb_ca_count": 1, "nuropb_ca_routing_key": "billing"}
YES, NO = {"encrypted": "yes"}, {"encrypted": ""}
CALLS = {
    "plain": Call(REQUIRED, NO, CALL),
    "plain, to a synchronous method": Call(REQUIRED, NO, {**CALL, "method": "open_slowly"}),
    "plain, without the header": Call(REQUIRED, {}, CALL),
    "plain, the header is True": Call(REQUIRED, {"encrypted": True}, CALL),
    "plain, the header is YES": Call(REQUIRED, {"encrypted": "YES"}, CALL),
    "plain, as if called again": Call(REQUIRED, {**NO, **AGAIN}, CALL),
    "plain, past the exchange": Call(REQUIRED, NO, CALL, queue="nuropb-orders-sq"),
    "plain, and says that it were not": Call(UNREADABLE, YES, CALL),
    "garbage": Call(UNREADABLE, YES, CALL, body=b"bm8=.bm8="),
    "no key in it": Call(UNREADABLE, YES, CALL, body=b"bm8="),
    "for another key": Call(UNREADABLE, YES, CALL, key_of="other"),
    "another call's body": Call(EXCHANGED, YES, {**CALL, "correlation_id": "x"}, key_of="orders"),
    "a response's body": Call(EXCHANGED, YES, {**CALL, "tag": "response"}, key_of="orders"),
    "another service's body": Call(EXCHANGED, YES, {**CALL, "service": "billing"}, "orders"),
    "another service's, as if called again": Call(
        EXCHANGED, {**YES, **AGAIN}, {**CALL, "service": "billing"}, "orders"
    ),
    "another service's, past the exchange": Call(
        EXCHANGED, YES, {**CALL, "service": "billing"}, "orders", queue="nuropb-orders-sq"
    ),
}


def ask(tap: Tap, stranger: Encryptor, kind: str, name: str, call: Call) -> None:
    """Publish a hostile call; its correlation id is its name, and what kind of call it is."""
    identity = f"{kind}: {name}"
    ids = {"tag": kind, "service": "orders", "correlation_id": identity, "context": {}}
    body = json.dumps({**ids, "trace_id": "t", **call.payload}).encode()
    if call.key_of is not None:
        body = stranger.encrypt_payload(body, identity, call.key_of)
    said = {name: value for name, value in HEADERS.items() if name != "encrypted"}
    properties = pika.BasicProperties(
        correlation_id=identity,
        reply_to=TAP_QUEUE if kind == "request" else None,
        headers={**said, "nuropb_type": kind, **call.headers},
    )
    exchange, key = ("nuropb-rpc-exchange", "orders") if call.queue is None else ("", call.queue)
    tap.channel.basic_publish(exchange, key, call.body or body, properties)


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """A plain AMQP client."""
    async with tapping(mesh) as made:
        yield made


@pytest.mark.parametrize("surface", ["Mesh", "RMQAPI"])
async def test_row_34_calls_are_refused_and_nothing_runs(
    meshes: Meshes, apis: Apis, tap: Tap, surface: str
) -> None:
    vault = Vault()
    await (
        meshes.serve(vault, dead_letter_requests=True) if surface == "Mesh" else apis.connect(vault)
    )
    stranger = calling("orders", "other")

    def attack() -> dict[str, str]:
        """Every call, as a request and as a command; the errors of the answers."""
        for name, call in CALLS.items():
            for kind in ("request", "command"):
                ask(tap, stranger, kind, name, call)
        told = {}
        for properties, body in tap.take(count=len(CALLS)):
            identity = str(properties.correlation_id)
            sealed = headers_of(properties)["encrypted"] == "yes"  # under the key that it came with
            answer = json.loads(stranger.decrypt_payload(body, identity) if sealed else body)
            assert SECRET not in str(answer)
            assert answer["result"] is None
            told[identity.removeprefix("request: ")] = answer["error"]["error"]
        tap.take(DL_QUEUE, 2 * len(CALLS))  # where an operator finds them, once each
        return told

    assert await asyncio.to_thread(attack) == {name: call.error for name, call in CALLS.items()}
    client = await meshes.client()
    assert await client.request("orders", "look") == []
    assert await client.request("orders", "open", {"pin": "1"}) == "opened with 1"
    assert await client.request("orders", "open_slowly", {"pin": "2"}) == "opened with 2"
    assert vault.opened == ["1", "2"]
    assert await asyncio.to_thread(tap.depth, TAP_QUEUE) == 0
    assert await asyncio.to_thread(tap.depth, DL_QUEUE) == 0


async def test_row_34_what_a_caller_of_ours_gets(meshes: Meshes, apis: Apis, tap: Tap) -> None:
    vault = Vault()
    await meshes.serve(vault, dead_letter_requests=True)
    client, api = await meshes.client(), await apis.connect()
    with pytest.raises(EncryptionRequiredError, match="has not been run") as caught:
        await client.request("orders", "open", {"pin": SECRET}, encrypted=False)
    assert isinstance(caught.value, NuropbRemoteError)
    await client.command("orders", "open", {"pin": SECRET}, encrypted=False)
    await api.command("orders", "open", {"pin": SECRET}, context={})
    dead = await asyncio.to_thread(tap.take, DL_QUEUE, 3)
    assert [json.loads(body)["tag"] for _, body in dead] == ["request", "command", "command"]
    opened = await api.request("orders", "open", {"pin": "1"}, context={}, encrypted=False)
    assert opened == "opened with 1", "RMQAPI's request encrypts by itself"
    assert vault.opened == ["1"]


# -- replies --------------------------------------------------------------------------------


class Impostor:
    """Answers the requests to `orders` in place of it: each by the forgery of its method's name."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.theirs, self.stranger = serving(), calling("other")
        self._description = Published(Vault(), "orders").describe()

    def answer(self, message: AbstractIncomingMessage) -> tuple[bytes, bool]:
        """Return an answer, and whether it says of itself that it is encrypted."""
        identity = str(message.correlation_id)
        payload: dict[str, Any] = {"tag": "response", "correlation_id": identity, "error": None}
        if message.headers["encrypted"] != "yes":  # the description, which anybody may give
            return json.dumps({**payload, "result": self._description}).encode(), False
        call = json.loads(self.theirs.decrypt_payload(message.body, identity))
        self.seen.append(call["method"])
        forge, says = FORGERIES[call["method"]]
        return forge(self, message, {**payload, "result": SECRET}), says


Forge = Callable[[Impostor, AbstractIncomingMessage, dict[str, Any]], bytes]
GONE = "gone"


def plain(**changed: Any) -> Forge:
    return lambda _, __, payload: json.dumps({**payload, **changed}).encode()


def exactly(body: bytes) -> Forge:
    return lambda *_: body


def reflected(_: Impostor, message: AbstractIncomingMessage, __: dict[str, Any]) -> bytes:
    return message.body


def another_key(impostor: Impostor, _: AbstractIncomingMessage, payload: dict[str, Any]) -> bytes:
    return impostor.stranger.encrypt_payload(json.dumps(payload).encode(), "x", "other")


def disguised(
    impostor: Impostor, message: AbstractIncomingMessage, payload: dict[str, Any]
) -> bytes:
    """Of another key, and says that it were of the request's."""
    token = another_key(impostor, message, payload).partition(b".")[2]
    return message.body.partition(b".")[0] + b"." + token


def sealed(**changed: Any) -> Forge:
    """Under the right key, and it is not the answer."""

    def forge(
        impostor: Impostor, message: AbstractIncomingMessage, payload: dict[str, Any]
    ) -> bytes:
        made = {name: value for name, value in {**payload, **changed}.items() if value != GONE}
        body = json.dumps(made).encode()
        return impostor.theirs.encrypt_payload(body, str(message.correlation_id))

    return forge


FAILED = {"error": "EncryptionRequiredError", "description": "call again in plain"}
FORGERIES: dict[str, tuple[Forge, bool]] = {
    "plain": (plain(), False),
    "a plain error": (plain(error=FAILED), False),
    "plain, and says that it were not": (plain(), True),
    "garbage": (exactly(b"bm8=.bm8="), True),
    "no key in it": (exactly(b"bm8="), True),
    "nothing": (exactly(b""), True),
    "another key": (another_key, True),
    "another key, disguised": (disguised, True),
    "the request itself": (reflected, True),
    "a request": (sealed(tag="request"), True),
    "no tag": (sealed(tag=GONE), True),
    "another call's": (sealed(correlation_id="another"), True),
    "nobody's": (sealed(correlation_id=GONE), True),
    "no result": (sealed(result=GONE), True),
}
MALFORMED = {"the request itself", "a request", "no tag", "another call's", "nobody's", "no result"}


@asynccontextmanager
async def posing(url: str) -> AsyncIterator[Impostor]:
    """An impostor of the service `orders`."""
    made = Impostor()
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind("nuropb-rpc-exchange", "orders")

    async def pose(message: AbstractIncomingMessage) -> None:
        body, says = made.answer(message)
        said = {"nuropb_type": "response", "encrypted": "yes" if says else ""}
        answer = aio_pika.Message(
            body, correlation_id=message.correlation_id, headers={**HEADERS, **said}
        )
        await channel.default_exchange.publish(answer, str(message.reply_to))

    await queue.consume(pose, no_ack=True)
    yield made
    await connection.close()


Ask = Callable[[str], Awaitable[Any]]


@asynccontextmanager
async def asking(surface: str, mesh: Transports, meshes: Meshes, apis: Apis) -> AsyncIterator[Ask]:
    """Yield a function that requests a method of `orders` encrypted; it raises any error."""
    match surface:
        case "Transport":
            ours = calling()
            client = await mesh.client(encryptor=ours)
            yield lambda method: client.request(request(method), encrypted=True)
            assert (client.pending, ours.calls_remembered) == (0, 0)
        case "Mesh":
            other = await meshes.client()
            yield lambda method: other.request("orders", method, encrypted=True)
            assert encryptor_of(other).calls_remembered == 0
        case "RMQAPI":
            api = await apis.connect()
            yield lambda method: api.request("orders", method, {}, context={}, encrypted=True)
            assert encryptor_of(api).calls_remembered == 0
        case "RMQTransport":
            answers: dict[str, Any] = {}
            ours = calling()

            def callback(message: Any, complete: Any, metadata: Any) -> None:
                answers[message["correlation_id"]] = message["nuropb_payload"]

            transport = RMQTransport(
                "client", "1", mesh.url, callback, client_only=True, encryptor=ours
            )

            async def send(method: str) -> None:
                await transport.send_message(
                    {**request(method), "correlation_id": method}, encrypted=True
                )
                await eventually(lambda: method in answers)
                assert answers[method]["result"] is None
                error = answers[method]["error"]
                known = {UNREADABLE: EncryptionError, EXCHANGED: MalformedMessageError}
                raise known[error["error"]](error["description"])

            await transport.start()
            yield send
            await transport.stop()
            assert ours.calls_remembered == 0


@pytest.mark.parametrize("surface", ["Transport", "Mesh", "RMQAPI", "RMQTransport"])
async def test_row_34_replies_are_refused(
    mesh: Transports, meshes: Meshes, apis: Apis, surface: str
) -> None:
    """The requester gets an error at once, without the forgery's text; nothing is asked again."""
    async with (
        posing(mesh.url) as impostor,
        asking(surface, mesh, meshes, apis) as ask_for,
    ):
        began = time.monotonic()
        outcomes = await asyncio.gather(*map(ask_for, FORGERIES), return_exceptions=True)
        assert time.monotonic() - began < 10
        assert sorted(impostor.seen) == sorted(FORGERIES)
    for name, outcome in zip(FORGERIES, outcomes, strict=True):
        expected = MalformedMessageError if name in MALFORMED else EncryptionError
        assert type(outcome) is expected, (name, outcome)
        assert SECRET not in f"{outcome} {outcome!r}"
        if name in ("plain", "a plain error"):
            assert "answered in plain text" in str(outcome)


async def test_row_34_bodies_that_are_exchanged_between_calls_are_refused(
    mesh: Transports, tap: Tap
) -> None:
    """Two calls share a key: that an answer opens does not say whose it is."""
    await asyncio.to_thread(tap.bind, "orders")
    ours, theirs = calling(), serving()
    client = await mesh.client(encryptor=ours)
    calls = [asyncio.create_task(client.request(request(), encrypted=True)) for _ in range(2)]

    def exchange() -> None:
        asked = tap.take(count=2)
        answers = []
        for properties, body in asked:
            identity = str(properties.correlation_id)
            theirs.decrypt_payload(body, identity)
            answers.append(theirs.encrypt_payload(response(properties, "yours"), identity))
        for (properties, _), body in zip(asked, reversed(answers), strict=True):
            tap.answer(properties, body, encrypted=True)

    await asyncio.to_thread(exchange)
    for call in calls:
        with pytest.raises(MalformedMessageError, match="correlation_id"):
            await call
    assert ours.calls_remembered == 0
