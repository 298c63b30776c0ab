"""Permission to call: authorize_func for methods and for handlers of events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import (
    NuropbAuthorizationError,
    NuropbContextManager,
    NuropbRemoteError,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)

from ..mesh.support import Meshes
from ..support import eventually
from .raw import RawChannel, headers_of


def allow(token: str) -> dict[str, Any] | None:
    return {"user": token} if token == "good" else None


async def allow_later(token: str) -> dict[str, Any] | None:
    await asyncio.sleep(0)
    return allow(token)


def breaks(_: str) -> None:
    raise LookupError("the key server is away")


class Vault:
    _service_name = "orders"

    def __init__(self) -> None:
        self.ran: list[str] = []

    @publish_to_mesh(authorize_func=allow)
    def sync(self) -> str:
        self.ran.append("sync")
        return "open"

    @publish_to_mesh(authorize_func=allow_later)
    async def later(self) -> str:
        self.ran.append("later")
        return "open"

    @nuropb_context
    @publish_to_mesh(authorize_func=allow)
    async def claims(self, ctx: NuropbContextManager) -> Any:
        self.ran.append("claims")
        return ctx.user_claims

    @publish_to_mesh(authorize_func=allow, context_token_key="token")
    async def by_key(self) -> str:
        self.ran.append("by_key")
        return "open"

    @publish_to_mesh(authorize_func=breaks)
    async def broken(self) -> str:
        self.ran.append("broken")
        return "open"

    @mesh_event("guarded.*")
    @publish_to_mesh(authorize_func=allow)
    async def on_guarded(self, event: Any) -> None:
        self.ran.append(f"event {event}")


RESULTS = {"sync": "open", "later": "open", "claims": {"user": "good"}}


@pytest.mark.parametrize("method", RESULTS)
async def test_allowed(meshes: Meshes, method: str) -> None:
    vault = Vault()
    await meshes.serve(vault)
    client = await meshes.client()
    context = {"Authorization": "good"}
    assert await client.request("orders", method, context=context) == RESULTS[method]
    await client.command("orders", method, context=context)
    await eventually(lambda: vault.ran == [method, method])


@pytest.mark.parametrize("context", [{}, {"Authorization": "bad"}, {"token": "good"}], ids=str)
@pytest.mark.parametrize("method", RESULTS)
async def test_refused(
    meshes: Meshes, channel: RawChannel, method: str, context: dict[str, Any]
) -> None:
    vault = Vault()
    await meshes.serve(vault, dead_letter_requests=True)
    client = await meshes.client()
    with pytest.raises(NuropbAuthorizationError) as raised:
        await client.request("orders", method, context=context)
    assert isinstance(raised.value, NuropbRemoteError)
    await channel.consume("nuropb-orders-dlq", no_ack=True)
    (letter,) = await channel.taken(1)
    assert headers_of(letter)["x-death"][0]["reason"] == "rejected"
    assert vault.ran == []


async def test_by_another_key(meshes: Meshes) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    assert await client.request("orders", "by_key", context={"token": "good"}) == "open"
    with pytest.raises(NuropbAuthorizationError):
        await client.request("orders", "by_key", context={"Authorization": "good"})


async def test_one_that_breaks_refuses(meshes: Meshes) -> None:
    vault = Vault()
    await meshes.serve(vault)
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "broken", context={"Authorization": "good"})
    assert vault.ran == []


async def test_events(meshes: Meshes, channel: RawChannel) -> None:
    vault = Vault()
    await meshes.serve(vault)
    client = await meshes.client()
    await client.publish_event("guarded.a", 1, context={"Authorization": "bad"})
    await channel.consume("nuropb-orders-dlq", no_ack=True)
    (letter,) = await channel.taken(1)
    assert letter.routing_key == "guarded.a"
    await client.publish_event("guarded.a", 2, context={"Authorization": "good"})
    await eventually(lambda: vault.ran == ["event 2"])
