"""Events: handlers by topic, the ack after them, and events that methods add."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
import pytest

from nuropb_rmq import (
    NuropbCallAgain,
    NuropbConfigurationError,
    NuropbContextManager,
    NuropbRemoteError,
    NuropbSuccess,
    mesh_event,
    nuropb_context,
)

from ..support import eventually
from .support import Meshes


class Audit:
    """Remembers every event, by a handler of its own or by the one for the rest."""

    _service_name = "audit"

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.contexts: list[Any] = []

    async def _handle_event_(self, topic: str, event: Any, target: Any, context: Any) -> None:
        self.seen.append((topic, event))
        self.contexts.append((target, context))


async def test_handle_event_gets_what_it_is_bound_to(meshes: Meshes) -> None:
    audit = Audit()
    await meshes.serve(audit, event_bindings=["orders.#"])
    client = await meshes.client()
    await client.publish_event(
        "orders.created.eu", {"id": 1}, target=["u1"], context={"user": "u2"}, trace_id="t"
    )
    await client.publish_event("invoices.created", {"id": 2})
    await client.publish_event("orders", None)
    await eventually(lambda: len(audit.seen) == 2)
    assert audit.seen == [("orders.created.eu", {"id": 1}), ("orders", None)]
    assert audit.contexts == [(["u1"], {"user": "u2"}), (None, {})]


async def test_handle_event_that_is_set_on_the_object(meshes: Meshes) -> None:
    """As programs of nuropb do, also after the service was made."""
    seen: list[Any] = []

    async def later(topic: str, event: Any, *_: Any) -> None:
        await asyncio.sleep(0)
        seen.append(event)

    class Plain:
        _service_name = "plain"

    plain: Any = Plain()
    plain._handle_event_ = lambda topic, event, target, context: seen.append(topic)
    await meshes.serve(plain, event_bindings=["orders.*"])
    client = await meshes.client()
    await client.publish_event("orders.created", 1)
    await eventually(lambda: seen == ["orders.created"])
    plain._handle_event_ = later
    await client.publish_event("orders.created", 2)
    await eventually(lambda: seen == ["orders.created", 2])


async def test_an_event_whose_handler_was_removed_is_named(
    meshes: Meshes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its binding is still there: the broker goes on to deliver, and nothing here wants it."""

    class Before:
        _service_name = "audit"

        @mesh_event("orders.*")
        def on_order(self) -> None: ...

    class After:
        _service_name = "audit"

        def ask(self) -> None: ...

    old = await meshes.serve(Before())
    await old.stop()
    await meshes.serve(After())
    client = await meshes.client()
    await client.publish_event("orders.created", 1)
    (dead,) = await meshes.taken("nuropb-audit-dlq")
    assert dead["topic"] == "orders.created"
    (told,) = [each for each in caplog.records if each.name == "nuropb_rmq.transport"]
    assert told.levelname == "WARNING"
    assert "audit: event orders.created refused" in told.getMessage()
    assert "unbind its topic from the service's queue" in told.getMessage()


async def test_an_async_handler_is_awaited_before_the_ack(meshes: Meshes) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    class Slow:
        _service_name = "slow"

        async def _handle_event_(self, *_: Any) -> None:
            begun.set()
            await release.wait()

    service = await meshes.serve(Slow(), event_bindings=["#"])
    client = await meshes.client()
    await client.publish_event("t", 1)
    await begun.wait()
    await service.stop(grace=0.1)  # it was not acked, so the next instance gets it
    audit = Audit()
    audit._service_name = "slow"
    await meshes.serve(audit)
    await eventually(lambda: audit.seen == [("t", 1)])
    release.set()


class Order(pydantic.BaseModel):
    id: int


class Desk:
    _service_name = "desk"

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    @mesh_event("orders.*")
    async def on_order(self, event: Order, topic: str) -> None:
        self.seen.append(("on_order", (topic, event)))

    @mesh_event("orders.created", "#.eu")
    def on_created(self, topic: str, **rest: Any) -> None:
        self.seen.append(("on_created", (topic, rest)))

    @mesh_event("again")
    def on_again(self) -> None:
        raise NuropbCallAgain("events are not called again")

    def public(self) -> None: ...


async def test_handlers_are_bound_to_their_topics(meshes: Meshes) -> None:
    desk = Desk()
    await meshes.serve(desk)
    client = await meshes.client()
    await client.publish_event("orders.created", {"id": 1})
    await client.publish_event("orders.cancelled", {"id": 2})
    await client.publish_event("invoices.eu", "x", target=[1])
    await client.publish_event("invoices", "nobody's")
    await eventually(lambda: len(desk.seen) == 4)
    assert ("on_order", ("orders.created", Order(id=1))) in desk.seen
    assert ("on_order", ("orders.cancelled", Order(id=2))) in desk.seen
    created: Any = {"event": {"id": 1}, "target": None, "context": {}}
    assert ("on_created", ("orders.created", created)) in desk.seen
    invoice: Any = {"event": "x", "target": [1], "context": {}}
    assert ("on_created", ("invoices.eu", invoice)) in desk.seen
    with pytest.raises(NuropbRemoteError, match="Unknown method 'on_order'"):
        await client.request("desk", "on_order", {"event": {"id": 1}, "topic": "x"})


async def test_an_event_that_fails_goes_to_the_dead_letters_and_the_others_have_their_turn(
    meshes: Meshes,
) -> None:
    desk = Desk()
    await meshes.serve(desk, event_bindings=["unhandled"])
    client = await meshes.client()
    await client.publish_event("orders.created", {"id": "no number"})
    await client.publish_event("unhandled", 1)
    await client.publish_event("again", 1)  # events are acknowledged then
    await eventually(lambda: len(desk.seen) == 1)
    assert desk.seen[0][0] == "on_created"
    dead = await meshes.taken("nuropb-desk-dlq", 2)
    assert {each["topic"] for each in dead} == {"orders.created", "unhandled"}


# -- events of methods ----------------------------------------------------------------------


class Shop:
    _service_name = "shop"

    @nuropb_context
    def sell(self, ctx: NuropbContextManager, fail: bool = False) -> str:
        with ctx:
            ctx.add_event({"topic": "shop.sold", "event": {"id": 1}})
            ctx.add_event({"topic": "shop.paid", "payload": 2, "context": {"own": 1}})
            if fail:
                raise LookupError("sold out")
        return "sold"

    @nuropb_context
    async def sell_and_succeed(self, ctx: NuropbContextManager) -> None:
        ctx.add_event({"topic": "shop.sold", "event": 1, "target": ["u1"]})
        raise NuropbSuccess("sold", events=[{"topic": "shop.done", "payload": 2, "target": None}])

    @nuropb_context
    async def unserializable(self, ctx: NuropbContextManager) -> str:
        ctx.add_event({"topic": "shop.sold", "event": {(1, 2): 3}})
        return "never told"

    def malformed(self) -> None:
        raise NuropbSuccess("sold", events=[{"no": "topic"}])

    @mesh_event("start")
    @nuropb_context
    async def on_start(self, ctx: NuropbContextManager, event: Any) -> None:
        ctx.add_event({"topic": "shop.started", "event": event})


async def test_events_are_published_after_success(meshes: Meshes) -> None:
    audit = Audit()
    await meshes.serve(audit, event_bindings=["shop.#"])
    await meshes.serve(Shop())
    client = await meshes.client()
    assert await client.request("shop", "sell", context={"user": 1}) == "sold"
    await eventually(lambda: len(audit.seen) == 2)
    assert audit.seen == [("shop.sold", {"id": 1}), ("shop.paid", 2)]
    assert audit.contexts == [(None, {"user": 1}), (None, {"own": 1})]
    await client.command("shop", "sell")
    await client.publish_event("start", 7)
    await eventually(lambda: len(audit.seen) == 5)
    assert ("shop.started", 7) in audit.seen


async def test_events_are_discarded_on_failure(meshes: Meshes) -> None:
    audit = Audit()
    await meshes.serve(audit, event_bindings=["shop.#"])
    await meshes.serve(Shop())
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError, match="sold out"):
        await client.request("shop", "sell", {"fail": True})
    with pytest.raises(NuropbRemoteError, match=r"keys must be str"):
        await client.request("shop", "unserializable")
    with pytest.raises(NuropbRemoteError, match="'topic' is missing"):
        await client.request("shop", "malformed")
    await client.command("shop", "sell", {"fail": True})
    await client.publish_event("shop.last", 1)
    await eventually(lambda: audit.seen)
    assert audit.seen == [("shop.last", 1)]


async def test_events_of_a_success_that_is_raised(meshes: Meshes) -> None:
    audit = Audit()
    await meshes.serve(audit, event_bindings=["shop.#"])
    await meshes.serve(Shop())
    client = await meshes.client()
    assert await client.request("shop", "sell_and_succeed") == "sold"
    await eventually(lambda: len(audit.seen) == 2)
    assert audit.seen == [("shop.sold", 1), ("shop.done", 2)]
    assert audit.contexts == [(["u1"], {}), (None, {})]


def test_bindings_need_a_service(mesh_url: str) -> None:
    with pytest.raises(NuropbConfigurationError, match="event_bindings"):
        Meshes(mesh_url).mesh(None, event_bindings=["#"])
