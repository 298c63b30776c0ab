"""Events: patterns, several bindings and subscribers, and nobody who listens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import NuropbCallAgain, NuropbContextManager, mesh_event, nuropb_context

from ..mesh.support import Meshes
from ..support import eventually
from .brokers import Place
from .raw import RawChannel, headers_of


class Audit:
    def __init__(self, name: str = "audit") -> None:
        self._service_name = name
        self.seen: list[Any] = []

    async def _handle_event_(self, topic: str, event: Any, target: Any, context: Any) -> None:
        self.seen.append((topic, event))

    async def settled(self) -> bool:
        """Answer behind the events that were sent before."""
        return True


# pattern → topics that match, topics that do not
PATTERNS: dict[str, tuple[list[str], list[str]]] = {
    "#": (["a", "a.b", "a.b.c"], []),
    "*": (["a", "b"], ["a.b", "a.b.c"]),
    "a": (["a"], ["a.b", "b", "aa"]),
    "a.*": (["a.b", "a.c"], ["a", "a.b.c", "b.a"]),
    "*.b": (["a.b", "c.b"], ["b", "a.b.c", "b.a"]),
    "a.#": (["a", "a.b", "a.b.c"], ["b.a", "ab"]),
    "#.c": (["c", "a.c", "a.b.c"], ["a.b", "c.a"]),
    "a.#.c": (["a.c", "a.b.c", "a.b.b.c"], ["a", "c", "a.b"]),
    "a.*.c": (["a.b.c", "a.c.c"], ["a.c", "a.b.b.c"]),
    "*.*": (["a.b", "b.c"], ["a", "a.b.c"]),
    "#.b.#": (["b", "a.b", "b.c", "a.b.c"], ["a.c", "bb"]),
    "*.#": (["a", "a.b"], []),
    "a b.č": (["a b.č"], ["a b.c", "a.b"]),
}


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_a_pattern(meshes: Meshes, pattern: str) -> None:
    wanted, unwanted = PATTERNS[pattern]
    audit = Audit()
    await meshes.serve(audit, event_bindings=[pattern])
    client = await meshes.client()
    for topic in (*unwanted, *wanted):
        await client.publish_event(topic, {"to": topic})
    await eventually(lambda: len(audit.seen) >= len(wanted))
    assert await client.request("audit", "settled")
    assert sorted(audit.seen) == sorted((topic, {"to": topic}) for topic in wanted)


async def test_an_event_comes_once_by_several_bindings(meshes: Meshes) -> None:
    audit = Audit()
    await meshes.serve(audit, event_bindings=["#", "a.*", "*.b", "a.b"])
    client = await meshes.client()
    await client.publish_event("a.b", 1)
    await client.publish_event("x", 2)
    await eventually(lambda: len(audit.seen) >= 2)
    assert await client.request("audit", "settled")
    assert audit.seen == [("a.b", 1), ("x", 2)]


async def test_each_service_gets_an_event_and_each_instance_a_share(meshes: Meshes) -> None:
    services = [Audit("one"), Audit("two"), Audit("two")]
    for service in services:
        await meshes.serve(service, event_bindings=["orders.*"])
    client = await meshes.client()
    for number in range(6):
        await client.publish_event("orders.made", number)
    await eventually(lambda: sum(len(each.seen) for each in services) == 12)
    assert len(services[0].seen) == 6
    assert [len(each.seen) for each in services[1:]] == [3, 3]


async def test_an_event_without_a_listener(meshes: Meshes, place: Place) -> None:
    await meshes.serve(Audit(), event_bindings=["orders.*"])
    client = await meshes.client()
    await client.publish_event("nobody.listens", 1)
    assert await place.depth("nuropb-audit-dlq") == 0
    assert await place.depth("nuropb-audit-sq") == 0


BODIES: list[Any] = [None, "", 0, False, [], {}, "ž", {"a": [1]}, "x" * 200_000]


@pytest.mark.parametrize("body", BODIES, ids=[str(body)[:10] for body in BODIES])
async def test_the_body_of_an_event(meshes: Meshes, body: Any) -> None:
    audit = Audit()
    await meshes.serve(audit, event_bindings=["t"])
    client = await meshes.client()
    await client.publish_event("t", body)
    await eventually(lambda: audit.seen)
    assert audit.seen == [("t", body)]


async def test_handlers_by_topic(meshes: Meshes) -> None:
    class Desk:
        _service_name = "desk"

        def __init__(self) -> None:
            self.seen: list[Any] = []

        @mesh_event("orders.*")
        async def on_order(self, topic: str, event: Any) -> None:
            self.seen.append(("on_order", topic, event))

        @mesh_event("#.eu", "orders.created.us")
        def on_region(self, topic: str) -> None:
            self.seen.append(("on_region", topic))

    desk = Desk()
    await meshes.serve(desk)
    client = await meshes.client()
    await client.publish_event("orders.created", 1)
    await client.publish_event("orders.created.us", 2)
    await client.publish_event("orders.eu", 3)
    await eventually(lambda: len(desk.seen) == 4)
    assert sorted(desk.seen) == [
        ("on_order", "orders.created", 1),
        ("on_order", "orders.eu", 3),
        ("on_region", "orders.created.us"),
        ("on_region", "orders.eu"),
    ]


async def test_target_and_context_of_an_event(meshes: Meshes) -> None:
    seen: list[Any] = []

    class Listener:
        _service_name = "listener"

        async def _handle_event_(self, *arguments: Any) -> None:
            seen.append(arguments)

    await meshes.serve(Listener(), event_bindings=["t"])
    client = await meshes.client()
    await client.publish_event("t", 1, target=["u1"], context={"user": "u2"})
    await eventually(lambda: seen)
    assert seen == [("t", 1, ["u1"], {"user": "u2"})]


async def test_an_event_that_fails_is_a_dead_letter(meshes: Meshes, channel: RawChannel) -> None:
    class Listener:
        _service_name = "orders"

        async def _handle_event_(self, *_: Any) -> None:
            raise LookupError("no such order")

    await meshes.serve(Listener(), event_bindings=["orders.*"])
    client = await meshes.client()
    await client.publish_event("orders.made", 1)
    await channel.consume("nuropb-orders-dlq", no_ack=True)
    (letter,) = await channel.taken(1)
    (death,) = headers_of(letter)["x-death"]
    assert (death["reason"], death["exchange"], death["routing-keys"]) == (
        "rejected", "nuropb-events-exchange", ["orders.made"],
    )  # fmt: skip


async def test_an_event_is_not_called_again(meshes: Meshes, place: Place) -> None:
    runs: list[Any] = []

    class Listener:
        _service_name = "orders"

        async def _handle_event_(self, topic: str, event: Any, *_: Any) -> None:
            runs.append(event)
            raise NuropbCallAgain("not yet")

        async def settled(self) -> bool:
            return True

    await meshes.serve(Listener(), event_bindings=["#"])
    client = await meshes.client()
    await client.publish_event("t", 1)
    await eventually(lambda: runs == [1])
    assert await client.request("orders", "settled")
    assert runs == [1]
    assert await place.depth("nuropb-orders-dlq") == 0


async def test_events_that_a_method_adds(meshes: Meshes) -> None:
    class Maker:
        _service_name = "maker"

        @nuropb_context
        async def make(self, ctx: NuropbContextManager, fail: bool) -> str:
            ctx.add_event({"topic": "made.one", "event": 1})
            ctx.add_event({"topic": "made.two", "event": 2})
            if fail:
                raise LookupError("not made")
            return "made"

    audit = Audit()
    await meshes.serve(audit, event_bindings=["made.*"])
    await meshes.serve(Maker())
    client = await meshes.client()
    with pytest.raises(Exception, match="not made"):
        await client.request("maker", "make", {"fail": True})
    assert await client.request("maker", "make", {"fail": False}) == "made"
    await eventually(lambda: len(audit.seen) == 2)
    assert audit.seen == [("made.one", 1), ("made.two", 2)]


async def test_a_binding_outlives_its_service_until_it_is_taken_out(
    meshes: Meshes, place: Place
) -> None:
    audit = Audit()
    service = await meshes.serve(audit, event_bindings=["a.*", "b.*"])
    await service.stop()
    client = await meshes.client()
    await place.unbind("nuropb-audit-sq", "nuropb-events-exchange", "b.*")
    await client.publish_event("a.1", 1)
    await client.publish_event("b.1", 2)
    assert await place.depth("nuropb-audit-sq") == 1
    again = Audit()
    await meshes.serve(again)
    await eventually(lambda: again.seen == [("a.1", 1)])


async def test_many_events_at_a_time(meshes: Meshes) -> None:
    audit = Audit()
    await meshes.serve(audit, event_bindings=["n.*"])
    client = await meshes.client()
    await asyncio.gather(*(client.publish_event(f"n.{n}", n) for n in range(100)))
    await eventually(lambda: len(audit.seen) == 100)
    assert sorted(event for _, event in audit.seen) == list(range(100))
