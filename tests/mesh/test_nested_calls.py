"""Calls made in a handler: they carry its trace id, and end when its caller waits no longer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from nuropb_rmq import (
    Message,
    NuropbContextManager,
    NuropbNotSentError,
    NuropbRemoteError,
    NuropbTimeoutError,
    mesh_event,
    nuropb_context,
)

from ..support import Transports, command, event, eventually, request, result_of
from .support import Meshes


class Inner:
    """Notes the trace id and the expiration of whatever comes."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None, int | None]] = []
        self.released = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.seen.append((message.kind.value, message.trace_id, message.ttl))
        if message.payload.get("method") == "hold":
            await self.released.wait()


@pytest.fixture
async def inner(mesh: Transports) -> Inner:
    made = Inner()
    await mesh.service(made, "inner", event_bindings=["inner.#"])
    return made


async def test_a_nested_call_carries_the_trace_id(mesh: Transports, inner: Inner) -> None:
    client = await mesh.client()

    async def outer(message: Message) -> None:
        await client.request(request(service="inner"))
        await client.send(command(service="inner"))
        await client.send(event("inner.made", {}))
        await client.request({**request(service="inner"), "trace_id": "its own"})

    await mesh.service(outer)
    await client.request({**request(), "trace_id": "of the caller"})
    await eventually(lambda: len(inner.seen) == 4)
    traces = [(kind, trace) for kind, trace, _ in inner.seen]
    assert traces == [
        ("request", "of the caller"),
        ("command", "of the caller"),
        ("event", "of the caller"),
        ("request", "its own"),
    ]
    await client.request(request(service="inner"))
    assert inner.seen[-1][1] != "of the caller", "outside of the handler nothing is inherited"


async def test_a_nested_request_ends_with_its_caller(mesh: Transports, inner: Inner) -> None:
    client = await mesh.client()
    over = asyncio.Event()

    async def outer(message: Message) -> None:
        if message.payload["method"] == "wait":
            await asyncio.sleep(0.02)  # of the caller's time
        with pytest.raises(NuropbTimeoutError):
            await client.request(request("hold", service="inner"), timeout=30)
        await over.wait()  # its answer may be faster than its caller's deadline

    await mesh.service(outer)
    with pytest.raises(NuropbTimeoutError):
        await client.request(request("wait"), timeout=0.5)
    over.set()
    assert [(kind, ttl is not None and ttl <= 490) for kind, _, ttl in inner.seen] == [
        ("request", True)
    ]


async def test_what_a_nested_timeout_says(mesh: Transports, inner: Inner) -> None:
    client = await mesh.client()
    over = asyncio.Event()
    told: list[str] = []

    async def outer(message: Message) -> None:
        try:
            await client.request(request("hold", service="inner"), timeout=30)
        except NuropbTimeoutError as e:
            told.append(str(e))
        await asyncio.sleep(0.02)  # the rounding of what is left
        with pytest.raises(
            NuropbNotSentError, match=r"not sent: .* has passed; inherit_deadline=False"
        ):
            await client.request(request(service="inner"), timeout=30)
        told.append("not sent")
        await over.wait()  # its answer may be faster than its caller's deadline

    await mesh.service(outer)
    with pytest.raises(NuropbTimeoutError):
        await client.request(request(), timeout=0.3)
    await eventually(lambda: len(told) == 2)
    over.set()
    assert told[0].startswith("no response within 0.")
    assert "the deadline of the request being handled has passed" in told[0]
    assert len(inner.seen) == 1


async def test_commands_events_and_what_goes_on_are_not_bound(
    mesh: Transports, inner: Inner
) -> None:
    """A command made in a handler is work of its own; so is a task that outlives the handler."""
    client = await mesh.client()
    background: list[asyncio.Task[Any]] = []
    over = asyncio.Event()

    async def later() -> Any:
        await over.wait()
        return await client.request(request(service="inner"), timeout=30)

    async def outer(message: Message) -> None:
        await client.send(command(service="inner"), ttl=60)
        background.append(asyncio.create_task(later()))

    await mesh.service(outer)
    await client.request({**request(), "trace_id": "t"}, timeout=0.2)
    await asyncio.sleep(0.2)  # the caller's time is over
    over.set()
    result_of(await background[0])
    assert inner.seen == [("command", "t", 60_000), ("request", "t", 30_000)]


async def test_it_can_be_turned_off(mesh: Transports, inner: Inner) -> None:
    client = await mesh.client(inherit_deadline=False)

    async def outer(message: Message) -> None:
        await client.request(request(service="inner"), timeout=30)

    await mesh.service(outer)
    await client.request(request(), timeout=5)
    assert inner.seen[0][2] == 30_000


async def test_the_first_call_of_a_service_is_bound_too(meshes: Meshes) -> None:
    """It waits for the description of a service that does not answer."""

    class Orders:
        waited: str = ""

        async def total(self) -> None:
            try:
                await client.request("silent", "x", timeout=30)
            except NuropbTimeoutError as e:
                self.waited = str(e)

    async def silent(_: Message) -> None:
        await asyncio.sleep(60)

    orders = Orders()
    await meshes.serve(orders)
    await meshes.bare(silent, "silent")
    client = await meshes.client()
    with suppress(NuropbTimeoutError):  # both end in the same moment
        await client.request("orders", "total", timeout=0.4)
    await eventually(lambda: orders.waited)
    assert "did not describe itself within 0." in orders.waited


class Asked:
    _service_name = "asked"

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    @nuropb_context
    async def who(self, ctx: NuropbContextManager) -> None:
        self.seen = self._of(ctx)

    @nuropb_context
    def in_thread(self, ctx: NuropbContextManager) -> None:
        self.seen = self._of(ctx)

    @mesh_event("asked.made")
    @nuropb_context
    async def made(self, ctx: NuropbContextManager, topic: str) -> None:
        self.seen = self._of(ctx)

    def _of(self, ctx: NuropbContextManager) -> dict[str, Any]:
        return {
            "trace_id": ctx.trace_id,
            "correlation_id": bool(ctx.correlation_id),
            "sender": ctx.sender,
            "type": ctx.headers.get("nuropb_type"),
        }


async def test_a_method_learns_who_called(meshes: Meshes) -> None:
    asked = Asked()
    await meshes.serve(asked)
    client = await meshes.client(service_name="shop", instance_id="7")
    for method in ("who", "in_thread"):
        await client.request("asked", method, trace_id="t")
        assert asked.seen == {
            "trace_id": "t",
            "correlation_id": True,
            "sender": "nuropb-shop-7-rq",
            "type": "request",
        }
    asked.seen = {}
    await client.publish_event("asked.made", {}, trace_id="u")
    await eventually(lambda: asked.seen)
    assert (asked.seen["trace_id"], asked.seen["sender"]) == ("u", None)
    assert asked.seen["type"] == "event"


async def test_a_method_that_is_called_directly_has_no_message() -> None:
    asked = Asked()
    await asked.who({})
    assert asked.seen == {"trace_id": None, "correlation_id": False, "sender": None, "type": None}


async def test_a_remote_error_of_a_nested_call_is_the_handlers_own(meshes: Meshes) -> None:
    class Orders:
        async def total(self) -> None:
            await client.request("asked", "nothing")

    await meshes.serve(Asked())
    await meshes.serve(Orders())
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError, match="Unknown method 'nothing'"):
        await client.request("orders", "total")
