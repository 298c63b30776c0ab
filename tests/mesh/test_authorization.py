"""authorize_func refuses by returning None, with and without nuropb_context, sync and async."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from nuropb_rmq import (
    NuropbAuthorizationError,
    NuropbContextManager,
    NuropbMessageError,
    NuropbRemoteError,
    NuropbSuccess,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)
from nuropb_rmq.service.marks import marks_of

from ..support import eventually
from .support import Meshes

ASKED: list[tuple[str, str]] = []


def allow(token: str) -> dict[str, Any] | None:
    ASKED.append((token, threading.current_thread().name))
    return {"user": token} if token.startswith("good") else None


async def allow_later(token: str) -> dict[str, Any] | None:
    await asyncio.sleep(0)
    return allow(token)


def forgets_to_await(token: str) -> Any:
    return allow_later(token)


def fails(_: str) -> None:
    raise LookupError("the key server is away")


class Vault:
    _service_name = "vault"

    def __init__(self) -> None:
        self.opened: list[str] = []

    @publish_to_mesh(authorize_func=allow)
    def plain(self) -> str:
        self.opened.append("plain")
        return "open"

    @publish_to_mesh(authorize_func=allow)
    async def plain_async(self) -> str:
        self.opened.append("plain_async")
        return "open"

    @nuropb_context
    @publish_to_mesh(authorize_func=allow)
    def with_claims(self, ctx: NuropbContextManager, number: int = 0) -> Any:
        self.opened.append("with_claims")
        return ctx.user_claims

    @nuropb_context
    @publish_to_mesh(authorize_func=allow_later)
    async def with_claims_later(self, ctx: NuropbContextManager) -> Any:
        self.opened.append("with_claims_later")
        return ctx.user_claims

    @publish_to_mesh(authorize_func=allow_later)
    def later(self) -> str:
        self.opened.append("later")
        return "open"

    @publish_to_mesh(authorize_func=allow, context_token_key="token")
    def other_key(self) -> str:
        return "open"

    @publish_to_mesh(authorize_func=forgets_to_await)
    def never(self) -> None:
        self.opened.append("never")

    @publish_to_mesh(authorize_func=fails)
    def broken(self) -> None:
        self.opened.append("broken")


METHODS = ["plain", "plain_async", "with_claims", "with_claims_later", "later"]
GOOD = {"Authorization": "good-1"}
OPEN = {"with_claims": {"user": "good-1"}, "with_claims_later": {"user": "good-1"}}


@pytest.mark.parametrize("method", METHODS)
async def test_a_token_is_accepted_or_refused(meshes: Meshes, method: str) -> None:
    vault = Vault()
    await meshes.serve(vault)
    client = await meshes.client()
    ASKED.clear()
    expected = OPEN.get(method, "open")
    assert await client.request("vault", method, context=GOOD) == expected
    assert len(ASKED) == 1
    vault.opened.clear()
    for context in ({"Authorization": "bad"}, {"authorization": "good-1"}, {}, None):
        with pytest.raises(NuropbAuthorizationError) as caught:
            await client.request("vault", method, context=context)
        assert isinstance(caught.value, NuropbMessageError)
    await client.command("vault", method, context={"Authorization": "bad"})
    await client.command("vault", method, context=GOOD)
    await eventually(lambda: vault.opened)
    assert vault.opened == [method]


async def test_who_is_refused_learns_nothing_of_parameters(meshes: Meshes) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    with pytest.raises(NuropbAuthorizationError):
        await client.request("vault", "with_claims", {"number": "x"})
    with pytest.raises(NuropbRemoteError, match="number: expected an integer"):
        await client.request("vault", "with_claims", {"number": "x"}, context=GOOD)


async def test_claims_cannot_be_given_as_a_parameter(meshes: Meshes) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    forged = {"ctx": {"Authorization": "good-forged"}}
    with pytest.raises(NuropbRemoteError, match="ctx: no such parameter"):
        await client.request("vault", "with_claims", forged, context=GOOD)


async def test_the_token_is_asked_for_where_the_method_runs(meshes: Meshes) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    ASKED.clear()
    await client.request("vault", "plain", context=GOOD)
    await client.request("vault", "plain_async", context=GOOD)
    assert [where.partition("_")[0] for _, where in ASKED] == ["nuropb-vault", "MainThread"]


async def test_another_key_holds_the_token(meshes: Meshes) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    assert await client.request("vault", "other_key", context={"token": "good"}) == "open"
    with pytest.raises(NuropbAuthorizationError, match="token"):
        await client.request("vault", "other_key", context=GOOD)


async def test_an_authorize_func_that_goes_wrong_refuses(meshes: Meshes) -> None:
    vault = Vault()
    await meshes.serve(vault)
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError, match="use async def"):
        await client.request("vault", "never", context=GOOD)
    with pytest.raises(NuropbRemoteError, match="the key server is away"):
        await client.request("vault", "broken", context=GOOD)
    assert vault.opened == []


class Hears:
    _service_name = "hears"

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    @mesh_event("now.*")
    @publish_to_mesh(authorize_func=allow)
    def now(self, event: Any) -> None:
        self.heard.append(("now", event))

    @nuropb_context
    @mesh_event("later.*")
    @publish_to_mesh(authorize_func=allow_later)
    async def later(self, ctx: NuropbContextManager, event: Any) -> None:
        self.heard.append((ctx.user_claims["user"], event))

    @publish_to_mesh(authorize_func=allow)
    async def _handle_event_(self, topic: str, event: Any, target: Any, context: Any) -> None:
        self.heard.append(("else", event))


async def test_an_event_is_accepted_or_refused(meshes: Meshes) -> None:
    """It is for its handler to say who may publish it; what is refused is dead-lettered."""
    hears = Hears()
    await meshes.serve(hears, event_bindings=["else.*"])
    client = await meshes.client()
    for topic in ("now.x", "later.x", "else.x"):
        for context in ({"Authorization": "bad"}, {}):
            await client.publish_event(topic, "refused", context=context)
        await client.publish_event(topic, "accepted", context=GOOD)
    dead = await meshes.taken("nuropb-hears-dlq", 6)
    assert {each["event"] for each in dead} == {"refused"}
    await eventually(lambda: len(hears.heard) == 3)
    assert sorted(hears.heard) == [
        ("else", "accepted"),
        ("good-1", "accepted"),
        ("now", "accepted"),
    ]


# -- the token, and events ------------------------------------------------------------------


class Seller:
    """Adds events, in all ways, to a call with a token."""

    _service_name = "seller"

    @nuropb_context
    @publish_to_mesh(authorize_func=allow, context_token_key="token")
    def sell(self, ctx: NuropbContextManager) -> None:
        ctx.add_event({"topic": "sold.plainly", "event": 1})
        ctx.add_event({"topic": "sold.with_token", "event": 2}, with_token=True)
        ctx.add_event({"topic": "sold.own", "event": 3, "context": {"token": "my own"}})

    async def succeed(self) -> None:
        raise NuropbSuccess("ok", events=[{"topic": "sold.success", "payload": 4}])


class Subscriber:
    """Hears the events, with what came with them."""

    _service_name = "subscriber"

    def __init__(self) -> None:
        self.heard: dict[str, Any] = {}
        self.admitted: list[str] = []

    @mesh_event("sold.*")
    def on_sold(self, topic: str, context: dict[str, Any]) -> None:
        self.heard[topic] = context

    @mesh_event("sold.plainly", "sold.with_token")
    @publish_to_mesh(authorize_func=allow, context_token_key="token")
    def on_sold_authorized(self, topic: str) -> None:
        self.admitted.append(topic)


async def test_a_callers_token_does_not_go_with_events(
    meshes: Meshes,
) -> None:
    subscriber = Subscriber()
    await meshes.serve(subscriber)
    await meshes.serve(Seller())
    client = await meshes.client()
    context = {"token": "good-1", "Authorization": "good-2", "trip": 7}
    assert await client.request("seller", "sell", context=context) is None
    assert await client.request("seller", "succeed", context=context) == "ok"
    await eventually(lambda: len(subscriber.heard) == 4)
    assert subscriber.heard == {
        "sold.plainly": {"Authorization": "good-2", "trip": 7},
        "sold.with_token": context,
        "sold.own": {"token": "my own"},
        "sold.success": {"token": "good-1", "trip": 7},
    }
    assert subscriber.admitted == ["sold.with_token"]
    dead = await meshes.taken("nuropb-subscriber-dlq")
    assert [each["topic"] for each in dead] == ["sold.plainly"]


def test_an_event_handler_that_misses_its_token_is_told_how_it_comes() -> None:
    marks = marks_of(Subscriber.on_sold_authorized)
    with pytest.raises(NuropbAuthorizationError, match="with_token=True"):
        marks.claims({})
    with pytest.raises(NuropbAuthorizationError) as of_a_method:
        marks_of(Seller.sell).claims({})
    assert "with_token" not in str(of_a_method.value)
