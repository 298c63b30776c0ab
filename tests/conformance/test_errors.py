"""Every way in which a call can fail, and what becomes of its message."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import nuropb_rmq
from nuropb_rmq import (
    MalformedMessageError,
    MessageTooLargeError,
    NuropbCallAgain,
    NuropbCallAgainReject,
    NuropbException,
    NuropbMessageError,
    NuropbRemoteError,
    NuropbSuccess,
    NuropbTimeoutError,
    NuropbValidationError,
    PendingFullError,
    TransportClosedError,
)

from ..mesh.support import Meshes
from ..support import eventually
from .brokers import Place
from .raw import RawChannel, headers_of

DLQ = "nuropb-orders-dlq"
QUEUE = "nuropb-orders-sq"


class OwnError(Exception):
    """A class that the client does not know."""


class NotInStockError(NuropbValidationError):
    """A refusal of the service's own: the client knows the class that it is derived from."""


class Orders:
    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.events: list[Any] = []
        self.released = asyncio.Event()

    async def fail(self, kind: str) -> None:
        self.runs["fail"] += 1
        if kind == "OwnError":
            raise OwnError("of my own")
        if kind == "NotInStockError":
            raise NotInStockError("two are left")
        if kind == "group":
            raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])
        found = getattr(nuropb_rmq, kind, None) or __builtins__[kind]  # type: ignore[index]
        raise found("the text")

    def fail_in_thread(self) -> None:
        self.runs["fail_in_thread"] += 1
        raise LookupError("no such order")

    async def again(self, times: int) -> int:
        self.runs["again"] += 1
        if self.runs["again"] <= times:
            raise NuropbCallAgain("not yet")
        return self.runs["again"]

    async def succeed(self, events: int) -> None:
        made: Any = [
            {"topic": f"orders.done.{n}", "payload": n, "target": []} for n in range(events)
        ]
        raise NuropbSuccess("done", events=made)

    async def unserializable(self) -> Any:
        return object()

    async def wait(self) -> str:
        self.runs["wait"] += 1
        await self.released.wait()
        return "released"

    async def echo(self, value: Any = None) -> Any:
        return value

    async def _handle_event_(self, topic: str, event: Any, target: Any, context: Any) -> None:
        self.events.append((topic, event))


async def dead_letter(channel: RawChannel, queue: str = DLQ) -> dict[str, Any]:
    """The death of the next dead letter."""
    await channel.consume(queue, no_ack=True)
    (letter,) = await channel.taken(1)
    headers = headers_of(letter)
    (death,) = headers["x-death"]
    return {**death, "kind": headers["nuropb_type"], "body": letter.body}


ERRORS = {
    "ValueError": NuropbRemoteError,
    "LookupError": NuropbRemoteError,
    "KeyError": NuropbRemoteError,
    "OwnError": NuropbRemoteError,
    "NotInStockError": NuropbValidationError,
    "group": NuropbRemoteError,
    "NuropbException": NuropbRemoteError,
    "NuropbHandlingError": nuropb_rmq.NuropbHandlingError,
    "NuropbDeprecatedError": nuropb_rmq.NuropbDeprecatedError,
    "NuropbValidationError": NuropbValidationError,
    "NuropbAuthenticationError": nuropb_rmq.NuropbAuthenticationError,
    "NuropbAuthorizationError": nuropb_rmq.NuropbAuthorizationError,
}


@pytest.mark.parametrize("kind", ERRORS)
async def test_an_error_comes_back_by_its_class(
    meshes: Meshes, channel: RawChannel, kind: str
) -> None:
    await meshes.serve(Orders(), dead_letter_requests=True)
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError) as raised:
        await client.request("orders", "fail", {"kind": kind})
    assert isinstance(raised.value, ERRORS[kind])
    assert raised.value.error == ("ExceptionGroup" if kind == "group" else kind)
    assert raised.value.description
    death = await dead_letter(channel)
    assert (death["reason"], death["queue"], death["kind"]) == ("rejected", QUEUE, "request")


async def test_an_error_in_a_thread(meshes: Meshes, channel: RawChannel) -> None:
    await meshes.serve(Orders(), dead_letter_requests=True)
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError, match="LookupError: no such order"):
        await client.request("orders", "fail_in_thread")
    assert b"fail_in_thread" in (await dead_letter(channel))["body"]


async def test_a_command_that_fails_is_a_dead_letter(
    meshes: Meshes, channel: RawChannel, place: Place
) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    await client.command("orders", "fail", {"kind": "ValueError"})
    death = await dead_letter(channel)
    assert (death["reason"], death["exchange"], death["routing-keys"], death["kind"]) == (
        "rejected", "nuropb-rpc-exchange", ["orders"], "command",
    )  # fmt: skip
    assert orders.runs["fail"] == 1
    assert await place.depth(QUEUE) == 0


@pytest.mark.parametrize("call", ["request", "command"])
async def test_called_again_once(meshes: Meshes, place: Place, call: str) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    result = await getattr(client, call)("orders", "again", {"times": 1})
    assert result == (2 if call == "request" else None)
    await eventually(lambda: orders.runs["again"] == 2)
    assert await place.depth(DLQ) == 0


async def test_a_request_is_called_again_twice(meshes: Meshes, channel: RawChannel) -> None:
    orders = Orders()
    await meshes.serve(orders, dead_letter_requests=True)
    client = await meshes.client()
    with pytest.raises(NuropbException) as raised:
        await client.request("orders", "again", {"times": 2})
    assert isinstance(raised.value, NuropbCallAgainReject)
    assert orders.runs["again"] == 2
    assert (await dead_letter(channel))["reason"] == "rejected"


async def test_a_command_is_called_again_twice(meshes: Meshes, channel: RawChannel) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    await client.command("orders", "again", {"times": 2})
    assert (await dead_letter(channel))["kind"] == "command"
    assert orders.runs["again"] == 2


@pytest.mark.parametrize("events", [0, 1, 3])
async def test_success_is_raised_with_events(meshes: Meshes, events: int) -> None:
    orders = Orders()
    await meshes.serve(orders, event_bindings=["orders.done.*"])
    client = await meshes.client()
    assert await client.request("orders", "succeed", {"events": events}) == "done"
    await eventually(lambda: len(orders.events) == events)
    assert sorted(orders.events) == [(f"orders.done.{n}", n) for n in range(events)]


async def test_a_result_that_json_lacks(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    with pytest.raises(NuropbMessageError, match="object"):
        await client.request("orders", "unserializable")


async def test_no_answer_in_time(meshes: Meshes, place: Place) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    with pytest.raises(NuropbTimeoutError, match=r"no response within 0\.2 s"):
        await client.request("orders", "wait", timeout=0.2, encrypted=False)
    assert client.transport.pending == 0
    orders.released.set()
    await eventually(lambda: client.transport.dropped)
    assert sum(client.transport.dropped.values()) == 1
    assert await place.depth(DLQ) == 0


async def test_an_answer_that_nobody_waits_for(meshes: Meshes) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    call = asyncio.create_task(client.request("orders", "wait"))
    await eventually(lambda: orders.runs["wait"] == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    orders.released.set()
    await eventually(lambda: client.transport.dropped)
    assert await client.request("orders", "echo", {"value": 1}) == 1


async def test_a_body_over_the_limit_is_not_sent(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client(amqp_url=meshes.config("client", max_body_bytes=9000))
    with pytest.raises(MessageTooLargeError) as raised:
        await client.request("orders", "echo", {"value": "x" * 9000})
    assert raised.value.limit == 9000
    assert await client.request("orders", "echo", {"value": "x"}) == "x"


async def test_an_answer_over_the_limit_is_not_read(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    limited = meshes.config("client", max_body_bytes=2000)
    client = await meshes.client(amqp_url=limited)
    with pytest.raises(NuropbMessageError):
        await client.request("orders", "about_nothing")

    class Large:
        async def large(self) -> str:
            return "x" * 3000

    await meshes.serve(Large(), service_name="large")
    with pytest.raises(MalformedMessageError, match="max_body_bytes"):
        await client.request("large", "large", encrypted=False)


async def test_a_service_refuses_a_body_over_its_limit(meshes: Meshes, channel: RawChannel) -> None:
    orders = Orders()
    await meshes.serve(orders, amqp_url=meshes.config("orders", max_body_bytes=2000))
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "echo", {"value": "x" * 3000}, encrypted=False)
    death = await dead_letter(channel)
    assert (death["reason"], len(death["body"]) > 3000) == ("rejected", True)


async def test_more_requests_than_may_wait(meshes: Meshes) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client(amqp_url=meshes.config("client", max_pending=1))
    first = asyncio.create_task(client.request("orders", "wait", encrypted=False))
    await eventually(lambda: orders.runs["wait"] == 1)
    with pytest.raises(PendingFullError):
        await client.request("orders", "echo", encrypted=False)
    orders.released.set()
    assert await first == "released"


@pytest.mark.parametrize("call", ["request", "command", "publish_event"])
async def test_after_stop(meshes: Meshes, call: str) -> None:
    client = await meshes.client()
    await client.stop()
    with pytest.raises(TransportClosedError):
        await getattr(client, call)("orders", "echo")


BROKEN: dict[str, tuple[bytes, dict[str, Any]]] = {
    "no JSON": (b"\xff", {"nuropb_type": "command"}),
    "no payload": (b"[]", {"nuropb_type": "command"}),
    "another tag": (b'{"tag": "event"}', {"nuropb_type": "command"}),
    "unknown type": (b"{}", {"nuropb_type": "letter"}),
    "no type": (b"{}", {}),
    "too deep": (b"[" * 200 + b"]" * 200, {"nuropb_type": "command"}),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_message_is_a_dead_letter(
    meshes: Meshes, channel: RawChannel, broken: str
) -> None:
    await meshes.serve(Orders())
    body, headers = BROKEN[broken]
    headers = {"nuropb_protocol": "0.1.1", "nuropb_version": "0.1.8", "encrypted": "", **headers}
    assert await channel.publish(
        "orders", body, exchange="nuropb-rpc-exchange", headers=headers, correlation_id="1"
    )
    await channel.consume(DLQ, no_ack=True)
    (letter,) = await channel.taken(1)
    assert letter.body == body
    assert headers_of(letter)["x-death"][0]["reason"] == "rejected"
    client = await meshes.client()
    assert await client.request("orders", "echo", {"value": 1}) == 1
