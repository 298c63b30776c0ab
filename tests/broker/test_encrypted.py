"""Encrypted calls: nothing to read on the wire, and never plain instead."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nuropb_rmq import (
    Completion,
    EncryptionError,
    Encryptor,
    Message,
    MessageTooLargeError,
    Outcome,
    State,
)

from ..encrypting import (
    DL_QUEUE,
    SECRET,
    TAP_QUEUE,
    Pair,
    Tap,
    calling,
    headers_of,
    private_key,
    serving,
    tapping,
)
from ..faults.proxy import Proxy, Way, Wire
from ..support import Recorder, Transports, Watch, command, event, eventually, request, result_of


@pytest.fixture
async def pair(mesh: Transports) -> AsyncIterator[Pair]:
    """A service and a client that encrypt; after the test they remember no call."""
    made = Pair(mesh)
    yield made
    await mesh.stop()
    await made.nothing_remembered()


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """A plain AMQP client."""
    async with tapping(mesh) as made:
        yield made


class Wiretap(Proxy):
    """A proxy that notes all that passes through it, in both directions."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.heard = bytearray()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, way: Way) -> None:
        self.heard.extend(data)
        await super()._send(writer, data, way)


# -- what passes over the wire --------------------------------------------------------------


async def test_nothing_can_be_read_on_the_wire(mesh: Transports, pair: Pair) -> None:
    async def handle(message: Message) -> Any:
        seen.append(message)
        return [message.payload["params"]["text"], "at nine"]

    seen: list[Message] = []
    async with Wiretap(mesh.url) as wire:
        mesh.url = wire.url
        await pair.start(handle)
        assert result_of(await pair.call(text=SECRET)) == [SECRET, "at nine"]
        await pair.client.send(command(text=SECRET), encrypted=True)
        await eventually(lambda: len(seen) == 2)
        for text in (SECRET, "at nine", "method", "params", "result"):
            assert text.encode() not in wire.heard
        # It is heard when it is said: the wire is tapped indeed.
        assert result_of(await pair.client.request(request(text=SECRET)))[0] == SECRET
        assert SECRET.encode() in wire.heard
        await pair.service.stop()
        await pair.client.stop()
    assert [each.encrypted for each in seen] == [True, True, False]


async def test_no_answer_to_an_encrypted_request_is_plain(mesh: Transports, pair: Pair) -> None:
    """Old services answer a failure twice."""

    async def twice(message: Message) -> Completion:
        answer = {"tag": "response", "correlation_id": message.correlation_id, "error": None}
        return Completion(
            Outcome.DONE, [{**answer, "result": result} for result in (SECRET, "worthless")]
        )

    async with Wiretap(mesh.url) as wire:
        await pair.start(twice, amqp_url=wire.url)
        for _ in range(3):
            assert result_of(await pair.call()) == SECRET
        await pair.service.stop()
    assert SECRET.encode() not in wire.heard
    assert b"worthless" not in wire.heard


async def test_a_handler_has_its_deadline_when_unsealing_was_waited_for(pair: Pair) -> None:
    async def never(_: Message) -> None:
        await asyncio.Event().wait()

    await pair.start(never, handler_timeout=0.2)
    for _ in range(2):  # the first needs the private key, in a thread; the second does not
        response = await pair.call()
        assert "handler_timeout" in response["error"]["description"]


async def test_a_body_is_a_wrapped_key_and_a_token(tap: Tap, pair: Pair) -> None:
    await asyncio.to_thread(tap.bind, "orders")
    await pair.start(Recorder())
    await pair.call(text=SECRET)
    await pair.client.send(command(text=SECRET), encrypted=True)
    for properties, body in await asyncio.to_thread(tap.take, count=2):
        assert headers_of(properties)["encrypted"] == "yes"
        wrapped, token = body.split(b".")
        assert len(b64decode(wrapped, validate=True)) == 2048 // 8
        assert b64decode(token, validate=True).startswith(b"gAAAA")  # Fernet's version and time
        assert SECRET.encode() not in body


async def test_many_at_once_and_large_bodies(pair: Pair) -> None:
    await pair.start(Recorder())
    answers = await asyncio.gather(*(pair.call(n=n) for n in range(100)))
    assert [result_of(each) for each in answers] == [{"n": n} for n in range(100)]
    text = "é" * 300_000
    assert result_of(await pair.call(text=text)) == {"text": text}
    await pair.nothing_remembered()


async def test_the_order_of_commands_is_kept(pair: Pair) -> None:
    recorder = Recorder()
    await pair.start(recorder, prefetch_count=1)
    await asyncio.gather(*(pair.client.send(command(n=n), encrypted=n % 2 == 0) for n in range(30)))
    await eventually(lambda: len(recorder.seen) == 30)
    assert [each.payload["params"]["n"] for each in recorder.seen] == list(range(30))
    assert [each.encrypted for each in recorder.seen] == [True, False] * 15


async def test_a_service_calls_itself_encrypted(pair: Pair) -> None:
    async def handle(message: Message) -> Any:
        if message.payload["method"] == "inner":
            return ["inner", message.encrypted]
        answer = await pair.service.request(request("inner"), encrypted=True)
        return ["outer", message.encrypted, *result_of(answer)]

    pair.theirs.add_public_key("orders", private_key("orders").public_key())
    await pair.start(handle)
    for _ in range(3):
        assert result_of(await pair.call("outer")) == ["outer", True, "inner", True]
    assert pair.service.pending == 0
    await pair.nothing_remembered()


async def test_a_call_of_ours_that_comes_back_to_us_is_not_opened(mesh: Transports) -> None:
    """It was encrypted for somebody else, whoever led it here: by a binding, say."""
    ours, recorder = serving(), Recorder()
    ours.add_public_key("billing", private_key("billing").public_key())
    service = await mesh.service(recorder, encryptor=ours, rpc_bindings=["billing"])
    with pytest.raises(EncryptionError):
        await service.request(request(service="billing", text=SECRET), encrypted=True)
    assert recorder.seen == []
    assert ours.calls_remembered == 0


# -- refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("has", ["no encryptor", "no private key", "another key"])
async def test_a_service_without_the_key(mesh: Transports, tap: Tap, has: str) -> None:
    theirs = {
        "no encryptor": None,
        "no private key": Encryptor("orders"),
        "another key": Encryptor("orders", private_key("other")),
    }[has]
    ours, recorder = calling(), Recorder()
    service = await mesh.service(recorder, encryptor=theirs)
    client = await mesh.client(encryptor=ours)
    for _ in range(2):
        with pytest.raises(EncryptionError):
            await client.request(request(text=SECRET), encrypted=True)
    await client.send(command(text=SECRET), encrypted=True)
    body = calling().encrypt_payload(b"{}", "c-1", "orders")
    await asyncio.to_thread(tap.ask, "orders", body, "c-1", TAP_QUEUE)
    ((properties, body),) = await asyncio.to_thread(tap.take)
    assert properties.correlation_id == "c-1"
    assert json.loads(body)["error"]["error"] == "EncryptionError"
    dead = await asyncio.to_thread(tap.take, DL_QUEUE, 4)
    for properties, body in dead:
        assert headers_of(properties)["x-death"][0]["queue"] == "nuropb-orders-sq"
        assert SECRET.encode() not in body
    # Once each, and the service goes on.
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert await asyncio.to_thread(tap.depth, DL_QUEUE) == 0
    assert [each.payload["params"] for each in recorder.seen] == [{"n": 1}]
    assert service.state is State.READY
    assert ours.calls_remembered == 0
    assert theirs is None or theirs.calls_remembered == 0


async def test_an_encrypted_event_is_refused_and_nothing_is_sent(pair: Pair) -> None:
    recorder = Recorder()
    await pair.start(recorder, event_bindings=["#"])
    with pytest.raises(EncryptionError, match="events cannot be encrypted"):
        await pair.client.send(event("orders.created", SECRET), encrypted=True)
    await pair.client.send(event("orders.created", "plain"))
    await eventually(lambda: recorder.seen)
    assert [each.payload["event"] for each in recorder.seen] == ["plain"]


async def test_without_a_key_nothing_is_sent(mesh: Transports) -> None:
    recorder = Recorder()
    await mesh.service(recorder, encryptor=serving())
    ours = Encryptor()
    keyless, unable = await mesh.client(encryptor=ours), await mesh.client()
    for client, says in ((keyless, "public key of service 'orders'"), (unable, "no encryptor")):
        for send, payload in ((client.send, command()), (client.request, request())):
            with pytest.raises(EncryptionError, match=says):
                await send(payload, encrypted=True)
        assert client.pending == 0
        assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert [each.payload["params"] for each in recorder.seen] == [{"n": 1}] * 2
    assert ours.calls_remembered == 0


class Foreign:
    """Another library's encryptor, whose errors are its own."""

    def encrypt_payload(
        self, payload: bytes, correlation_id: str, service_name: str | None = None
    ) -> bytes:
        raise KeyError(f"{service_name}: {SECRET}")

    def decrypt_payload(self, payload: bytes, correlation_id: str) -> bytes:
        raise RuntimeError(SECRET)


async def test_errors_of_another_encryptor_are_translated(mesh: Transports, tap: Tap) -> None:
    recorder = Recorder()
    await mesh.service(recorder, encryptor=Foreign())
    foreign, client = await mesh.client(encryptor=Foreign()), await mesh.client(encryptor=calling())
    with pytest.raises(EncryptionError, match="cannot be encrypted: KeyError") as caught:
        await foreign.request(request(), encrypted=True)
    assert SECRET not in str(caught.value)
    with pytest.raises(EncryptionError):
        await client.request(request(), encrypted=True)
    assert len(await asyncio.to_thread(tap.take, DL_QUEUE)) == 1
    assert recorder.seen == []


class Texts:
    """An encryptor that gives text in place of bytes."""

    def encrypt_payload(
        self, payload: bytes, correlation_id: str, service_name: str | None = None
    ) -> bytes:
        return payload.decode()  # type: ignore[return-value]

    def decrypt_payload(self, payload: bytes, correlation_id: str) -> bytes:
        return payload.decode()  # type: ignore[return-value]


async def test_an_encryptor_that_returns_text_costs_the_message_and_nothing_else(
    mesh: Transports, tap: Tap
) -> None:
    """With the connection away, where the message would wait, and with it."""
    await mesh.service(Recorder(), encryptor=Texts())
    client = await mesh.client(encryptor=calling())
    async with Proxy(mesh.url) as wire:
        broken = await mesh.client(amqp_url=wire.url, encryptor=Texts())
        watch = Watch(broken)
        wire.set(Wire.REFUSE)
        wire.reset()
        await watch.left()
        for _ in range(2):
            for send, payload in ((broken.send, command()), (broken.request, request())):
                with pytest.raises(
                    EncryptionError, match="encrypt_payload: expected bytes, got str"
                ):
                    await send(payload, encrypted=True)
            wire.set(Wire.PASS)
            assert result_of(await broken.request(request(n=1))) == {"n": 1}
    with pytest.raises(EncryptionError):
        await client.request(request(), encrypted=True)
    assert len(await asyncio.to_thread(tap.take, DL_QUEUE)) == 1


async def test_sizes_around_the_bound_are_exact(mesh: Transports) -> None:
    """Refused messages would be over the bound, and sent ones fit, with key and padding."""
    limit = 5_000
    theirs, ours = serving(), calling()

    async def handle(message: Message) -> str:
        return "x" * int(message.payload["params"].get("size", 0))

    await mesh.service(handle, encryptor=theirs, max_body_bytes=limit)
    client = await mesh.client(encryptor=ours, max_body_bytes=limit)

    async def call(**params: Any) -> str:
        answer = await client.request(request(**params), timeout=5, encrypted=True)
        return "" if answer["error"] is None else str(answer["error"]["error"])

    lengths = range(2_000, 2_500, 7)  # of texts: their bodies are on both sides of the bound
    answers = [await call(size=length) for length in lengths]
    assert answers == sorted(answers)  # a result up to some length, an error from there on
    assert set(answers) == {"", "MessageTooLargeError"}
    requests, sizes = [], []
    for length in lengths:
        try:
            requests.append(await call(text="x" * length))
        except MessageTooLargeError as e:
            requests.append("refused")
            sizes.append(e.size)
    assert requests == sorted(requests)
    assert set(requests) == {"", "refused"}
    assert limit < min(sizes) < limit + 64  # over by no more than blocks and base64 make it
    assert client.dropped == {}
    await eventually(lambda: theirs.calls_remembered == ours.calls_remembered == 0)
