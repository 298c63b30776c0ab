"""Requests, commands and events between nuropb 0.1.8 and us, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

import pytest

from ..encrypting import DL_QUEUE, Tap
from ..support import eventually
from .conftest import Pair, Peers
from .sides import Answer, called

CALLED = "Runtime exception calling orders"  # how nuropb wraps what a plain method raises


@pytest.fixture
def tap(old_peers: Peers) -> Iterator[Tap]:
    """A plain AMQP client on the virtual host of the test."""
    with contextlib.closing(Tap(old_peers.url)) as made:
        yield made


async def dead_letters(tap: Tap, count: int) -> None:
    """Wait until so many messages are in our dead-letter queue."""
    await eventually(lambda: tap.depth(DL_QUEUE) == count)


async def test_a_request_is_answered(pair: Pair) -> None:
    for number, method in enumerate(("echo", "echo_later")):
        answer = await pair.caller.request(method, text="één ☃", number=number)
        assert answer == Answer({"text": "één ☃", "number": number})
    assert await pair.server.calls() == [
        {"method": "echo", "text": "één ☃", "number": number} for number in (0, 1)
    ]
    answer = await pair.caller.request("who", context={"user": "ada"}, greeting="hello")
    assert answer == Answer("hello ada")


async def test_what_a_method_raises_is_told(pair: Pair, tap: Tap) -> None:
    expected = Answer(error="LookupError", description="no such order")
    assert await pair.caller.request("fail_later", text="no such order") == expected
    if pair.runs_rmqapi:
        told = f"{CALLED}.fail:LookupError: no such order"
        expected = Answer(error="NuropbException", description=told)
    assert await pair.caller.request("fail", text="no such order") == expected
    await dead_letters(tap, 2)
    assert await pair.caller.request("echo", text="goes on") == Answer(
        {"text": "goes on", "number": 0}
    )


async def test_what_cannot_be_called(pair: Pair) -> None:
    for method in ("nothing", "_release"):
        answer = await pair.caller.request(method)
        assert answer == Answer(error="NuropbHandlingError", description=f"Unknown method {method}")
    answer = await pair.caller.request("echo", volume=11)
    assert answer.error == ("NuropbException" if pair.runs_rmqapi else "TypeError")
    assert "unexpected keyword argument 'volume'" in answer.description
    answer = await pair.caller.request("echo", service="nobody", text="?", ttl=10_000)
    assert answer.error == "NuropbNotDeliveredError"
    assert "nobody" in answer.description
    assert await pair.server.calls() == []


async def test_a_command_is_done_once_and_not_answered(pair: Pair, tap: Tap) -> None:
    await pair.caller.command("echo", text="done", number=1)
    await pair.caller.command("fail", text="refused")
    await dead_letters(tap, 1)
    assert [each["text"] for each in await pair.server.calls()] == ["done", "refused"]


async def test_an_event_is_handled(pair: Pair, tap: Tap) -> None:
    await pair.caller.event("orders.created.eu", {"id": 1, "ok": True}, {"user": "ada"})
    await pair.caller.event("invoices.created", {"id": 2}, {})  # bound by nobody
    await pair.caller.event("orders.created", {"fail": True}, {})
    await dead_letters(tap, 1)
    first, second = await pair.server.calls()
    assert first == {
        "method": "event",
        "topic": "orders.created.eu",
        "event": {"id": 1, "ok": True},
        "target": None,
        "context": {"user": "ada"},
    }
    assert second["event"] == {"fail": True}


async def test_call_again_once_and_once_only(pair: Pair, tap: Tap) -> None:
    methods = ("again", "again_later")
    for method in methods:
        answer = await pair.caller.request(method, key=method, times=1)
        assert answer == Answer("done at call 2")
    assert tap.depth(DL_QUEUE) == 0
    for method in methods:
        answer = await pair.caller.request(method, key=f"{method} for ever", times=9)
        assert answer.error == "NuropbCallAgainReject"
    await pair.caller.command("again", key="a command", times=1)
    await pair.caller.command("again", key="a command for ever", times=9)
    await dead_letters(tap, 3)
    keys = Counter([each["key"] for each in await called(pair.server, 12)])
    assert set(keys.values()) == {2}, keys


async def test_a_megabyte_each_way_and_200_calls_at_once(pair: Pair) -> None:
    text = "é☃" * 500_000
    answer = await pair.caller.request("echo", text=text)
    assert answer == Answer({"text": text, "number": 0})
    params = [{"text": "n", "number": number} for number in range(200)]
    assert await pair.caller.requests("echo_later", params) == params
    assert len(await pair.server.calls()) == 201


async def test_a_request_that_expires_in_the_queue_is_not_handled(pair: Pair, tap: Tap) -> None:
    await pair.server.stop()
    answer = await pair.caller.request("echo", text="late", ttl=300)
    assert answer.error in ("NuropbTimeoutError", "TimeoutError")
    await dead_letters(tap, 1)
    assert await pair.server.calls() == []


async def test_priority_and_expiry_are_on_the_wire(pair: Pair, tap: Tap) -> None:
    tap.bind("orders")
    command = {
        "tag": "command",
        "service": "orders",
        "method": "echo",
        "params": {"text": "soon"},
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "context": {},
    }
    await pair.caller.send(command, expiry=60_000, priority=7)
    ((properties, _),) = await asyncio.to_thread(tap.take)
    assert properties.priority == 7
    assert properties.expiration == "60000"
    assert properties.correlation_id == "c-1"
    assert await called(pair.server, 1) == [{"method": "echo", "text": "soon", "number": 0}]


async def test_answers_for_nobody_disturb_nobody(pair: Pair) -> None:
    """The caller has given up; the service answers all the same."""
    answer = await pair.caller.request("hold", text="late", ttl=300)
    assert answer.error in ("NuropbTimeoutError", "TimeoutError")
    await pair.server.release()
    assert await pair.caller.request("hold", text="in time") == Answer("in time")
