"""Encrypted calls: required, asked for, refused, and after a change of keys."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nuropb_rmq import (
    EncryptionError,
    EncryptionRequiredError,
    NuropbContextManager,
    NuropbRemoteError,
    nuropb_context,
    publish_to_mesh,
)

from ..encrypting import SECRET, private_key
from ..mesh.support import Meshes
from ..seams import encryptor_of
from ..support import eventually
from .raw import RawChannel, headers_of


class Vault:
    _service_name = "vault"

    def __init__(self, key: str = "vault") -> None:
        self._private_key = private_key(key)
        self.seen: list[Any] = []

    @publish_to_mesh(requires_encryption=True)
    async def open(self, pin: str = "") -> str:
        self.seen.append(pin)
        return f"opened with {pin}"

    @publish_to_mesh(requires_encryption=True)
    def open_in_thread(self, pin: str = "") -> str:
        self.seen.append(pin)
        return f"opened with {pin}"

    async def look(self, pin: str = "") -> str:
        self.seen.append(pin)
        return f"looked with {pin}"

    @publish_to_mesh(requires_encryption=True)
    async def fail(self, pin: str = "") -> None:
        raise LookupError(f"no box for {pin}")

    @nuropb_context
    @publish_to_mesh(requires_encryption=True)
    async def about(self, ctx: NuropbContextManager) -> Any:
        return dict(ctx.context)


class Keyless:
    _service_name = "keyless"

    async def look(self) -> str:
        return "looked"


async def copies(channel: RawChannel) -> RawChannel:
    """Let a queue of the test's own get what the vault gets."""
    await channel.queue("tap", ("nuropb-rpc-exchange", "vault"))
    await channel.consume("tap", no_ack=True)
    return channel


@pytest.mark.parametrize("method", ["open", "open_in_thread"])
async def test_required(meshes: Meshes, channel: RawChannel, method: str) -> None:
    vault = Vault()
    service = await meshes.serve(vault)
    client = await meshes.client()
    tap = await copies(channel)
    assert await client.request("vault", method, {"pin": SECRET}) == f"opened with {SECRET}"
    await client.command("vault", method, {"pin": SECRET})
    await eventually(lambda: vault.seen == [SECRET, SECRET])
    described, *calls = await tap.taken(3)
    assert json.loads(described.body)["method"] == "nuropb_describe"
    assert [headers_of(call)["encrypted"] for call in calls] == ["yes", "yes"]
    assert not any(SECRET.encode() in call.body for call in calls)
    await eventually(lambda: not encryptor_of(client).calls_remembered)
    await eventually(lambda: not encryptor_of(service).calls_remembered)


async def test_not_required(meshes: Meshes, channel: RawChannel) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    tap = await copies(channel)
    assert await client.request("vault", "look", {"pin": "1"}) == "looked with 1"
    *_, call = await tap.taken(2)
    assert (headers_of(call)["encrypted"], json.loads(call.body)["params"]) == ("", {"pin": "1"})


async def test_asked_for(meshes: Meshes, channel: RawChannel) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    tap = await copies(channel)
    answer = await client.request("vault", "look", {"pin": SECRET}, encrypted=True)
    assert answer == f"looked with {SECRET}"
    *_, call = await tap.taken(2)
    assert headers_of(call)["encrypted"] == "yes"
    assert SECRET.encode() not in call.body


async def test_refused_in_plain(meshes: Meshes, channel: RawChannel) -> None:
    vault = Vault()
    await meshes.serve(vault, dead_letter_requests=True)
    client = await meshes.client()
    with pytest.raises(EncryptionRequiredError, match="has not been run") as raised:
        await client.request("vault", "open", {"pin": "1"}, encrypted=False)
    assert isinstance(raised.value, NuropbRemoteError)
    await client.command("vault", "open", {"pin": "1"}, encrypted=False)
    await channel.consume("nuropb-vault-dlq", no_ack=True)
    for letter in await channel.taken(2):
        assert headers_of(letter)["x-death"][0]["reason"] == "rejected"
    assert vault.seen == []


async def test_an_error_is_encrypted_too(meshes: Meshes) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError) as raised:
        await client.request("vault", "fail", {"pin": SECRET})
    assert (raised.value.error, raised.value.description) == (
        "LookupError", f"no box for {SECRET}",
    )  # fmt: skip


async def test_the_context_is_encrypted_too(meshes: Meshes, channel: RawChannel) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    tap = await copies(channel)
    assert await client.request("vault", "about", context={"user": SECRET}) == {"user": SECRET}
    assert not any(SECRET.encode() in call.body for call in await tap.taken(2))


async def test_a_service_without_a_key(meshes: Meshes) -> None:
    await meshes.serve(Keyless())
    client = await meshes.client()
    assert await client.has_public_key("keyless") is False
    with pytest.raises(EncryptionError, match="has no public key"):
        await client.request("keyless", "look", encrypted=True)
    assert await client.request("keyless", "look") == "looked"


async def test_descriptions_say_it(meshes: Meshes) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    assert await client.has_public_key("vault") is True
    assert await client.requires_encryption("vault", "open") is True
    assert await client.requires_encryption("vault", "look") is False


async def test_a_rotated_key(meshes: Meshes) -> None:
    first = await meshes.serve(Vault("vault"))
    client = await meshes.client()
    assert await client.request("vault", "open", {"pin": "1"}) == "opened with 1"
    await first.stop()
    vault = Vault("another vault")
    await meshes.serve(vault)
    for pin in ("2", "3"):  # the description is fetched anew
        assert await client.request("vault", "open", {"pin": pin}) == f"opened with {pin}"
    assert vault.seen == ["2", "3"]


@pytest.mark.parametrize("size", [0, 1, 131_072, 400_000])
async def test_a_body_of_any_size(meshes: Meshes, size: int) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    pin = "x" * size
    assert await client.request("vault", "open", {"pin": pin}) == f"opened with {pin}"


async def test_many_at_a_time(meshes: Meshes) -> None:
    await meshes.serve(Vault())
    client = await meshes.client(key_uses=7)
    calls = [client.request("vault", "open", {"pin": str(n)}) for n in range(50)]
    assert await asyncio.gather(*calls) == [f"opened with {n}" for n in range(50)]
    await eventually(lambda: not encryptor_of(client).calls_remembered)
