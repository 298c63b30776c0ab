"""Encrypted calls between nuropb 0.1.8 and us, in both directions."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ..encrypting import SECRET, Tap, headers_of
from .conftest import OURS, Pair, Peers, named, start_server
from .sides import Answer, PeerCaller, PeerServer, called, until

OLD_CALLS_US = [("old", kind) for kind in OURS]
WE_CALL_OLD = [(kind, "old") for kind in OURS]


def only(pairs: list[tuple[str, str]]) -> pytest.MarkDecorator:
    """The test is about these pairs."""
    return pytest.mark.parametrize("pair", pairs, indirect=True, ids=named)


async def test_a_request_and_its_answer(pair: Pair) -> None:
    described = await pair.caller.describe()
    for method, required in (("pay", True), ("echo", False)):
        assert described["methods"][method]["requires_encryption"] is required
        if isinstance(pair.caller, PeerCaller):
            call = pair.caller.peer.do("requires_encryption", service="orders", method=method)
            assert await call is required
    with contextlib.closing(Tap(pair.url)) as tap:
        tap.bind("orders")
        answer = await pair.caller.request("pay", encrypted=True, card=SECRET)
        assert answer == Answer(f"paid with {SECRET}")
        ((properties, body),) = await asyncio.to_thread(tap.take)
    assert headers_of(properties)["encrypted"] == "yes"
    assert SECRET.encode() not in body


async def test_a_large_one_and_many_at_once(pair: Pair) -> None:
    await pair.caller.describe()
    text = "é" * 300_000
    answer = await pair.caller.request("echo", encrypted=True, text=text)
    assert answer == Answer({"text": text, "number": 0})
    numbers = range(50)
    answers = await asyncio.gather(
        *(pair.caller.request("echo", encrypted=True, text=SECRET, number=n) for n in numbers)
    )
    assert answers == [Answer({"text": SECRET, "number": n}) for n in numbers]


async def test_what_a_method_raises_is_told(pair: Pair) -> None:
    """An old service answers such a request twice, the second time with a key of its own."""
    await pair.caller.describe()
    answer = await pair.caller.request("fail_later", encrypted=True, text=SECRET)
    assert answer == Answer(error="LookupError", description=SECRET)
    answer = await pair.caller.request("pay", encrypted=True, card="1")
    assert answer == Answer("paid with 1")


async def test_a_command_and_nothing_without_the_public_key(pair: Pair) -> None:
    answer = await pair.caller.request("pay", encrypted=True, card=SECRET)
    assert answer.error in ("EncryptionError", "ValueError")
    await pair.caller.describe()
    await pair.caller.command("pay", encrypted=True, card=SECRET)
    (call,) = await called(pair.server, 1)
    assert call == {"method": "pay", "card": SECRET}


@only(OLD_CALLS_US)
async def test_an_event_marked_encrypted_is_plain(pair: Pair) -> None:
    """nuropb sets the header on events too, and encrypts none: they are read all the same."""
    assert isinstance(pair.caller, PeerCaller)
    await pair.caller.peer.do(
        "event", topic="orders.created", event={"id": 1}, context={}, encrypted=True
    )
    (call,) = await called(pair.server, 1)
    assert call["event"] == {"id": 1}


@only(OLD_CALLS_US)
async def test_call_again(pair: Pair) -> None:
    await pair.caller.describe()
    answer = await pair.caller.request("again", encrypted=True, key="a", times=1)
    assert answer == Answer("done at call 2")
    answer = await pair.caller.request("again_later", encrypted=True, key="b", times=2)
    assert answer.error == "NuropbCallAgainReject"


@only(WE_CALL_OLD)
async def test_call_again_by_an_old_service_is_answered_unreadably(pair: Pair) -> None:
    """It forgets the key with the second delivery, and answers with a new one of its own."""
    await pair.caller.describe()
    answer = await pair.caller.request("again", encrypted=True, key="a", times=1)
    assert answer.error == "EncryptionError"
    assert len(await pair.server.calls()) == 2
    assert await pair.caller.request("pay", encrypted=True, card="1") == Answer("paid with 1")


@only(OLD_CALLS_US)
async def test_a_redelivered_request(pair: Pair, old_peers: Peers) -> None:
    """The connection of the service is lost while it works: what comes once more joins its handler.

    Or it is handled again, when it comes after the handler has ended.
    """
    await pair.caller.describe()
    await pair.server.stop()
    proxy = await old_peers.proxy()
    async with contextlib.AsyncExitStack() as started:
        server = await start_server(pair.kinds[1], old_peers, started, url=proxy.url)
        call = asyncio.create_task(pair.caller.request("hold", encrypted=True, text=SECRET))
        await called(server, 1)
        proxy.reset()
        await server.release()
        assert await call == Answer(SECRET)
        assert await pair.caller.request("pay", encrypted=True, card="1") == Answer("paid with 1")


@only(WE_CALL_OLD)
async def test_a_request_redelivered_to_another_instance(pair: Pair, old_peers: Peers) -> None:
    """The old service is killed while it works: another instance answers."""
    await pair.caller.describe()
    call = asyncio.create_task(pair.caller.request("hold", encrypted=True, text=SECRET))
    await called(pair.server, 1)
    other = await old_peers.server()
    assert isinstance(pair.server, PeerServer)
    await pair.server.peer.kill()
    await other.release()
    assert await call == Answer(SECRET)
    assert [each["method"] for each in await other.calls()] == ["hold"]


@only([("old", "RMQAPI"), ("RMQAPI", "old")])
async def test_nuropbs_encryptor_remembers_no_key_on_our_transport(pair: Pair) -> None:
    """On its own transport it remembers those of commands, failures, and calls unanswered."""
    await pair.caller.describe()
    await pair.caller.request("pay", encrypted=True, card=SECRET)
    await pair.caller.request("fail", encrypted=True, text=SECRET)
    await pair.caller.request("hold", encrypted=True, text=SECRET, ttl=200)
    await pair.caller.command("pay", encrypted=True, card=SECRET)
    await called(pair.server, 4)
    await pair.server.release()
    ours = pair.caller if pair.kinds[0] == "RMQAPI" else pair.server
    assert isinstance(ours, PeerCaller | PeerServer)
    await until(lambda: ours.peer.do("keys"), lambda keys: keys == 0)
