"""Row 37: a service's key was rotated: its description is fetched again, once for a failed call.

Of a command nobody hears that it could not be read: it is with the dead letters, and callers
learn of the new key with the next request, or when their description is 5 minutes old.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nuropb_rmq import EncryptionError, Encryptor, Message, publish_to_mesh

from ..compat.apis import Apis
from ..encrypting import SECRET, TAP_QUEUE, Tap, headers_of, private_key, response, tapping
from ..mesh.support import Meshes
from ..seams import encryptor_of
from ..support import Transports

Call = Callable[[str], Awaitable[Any]]
CALLS = 10


class Vault:
    _service_name = "vault"

    def __init__(self, key: str = "vault") -> None:
        self._private_key = private_key(key)
        self.opened: list[str] = []

    @publish_to_mesh(requires_encryption=True)
    async def open(self, pin: str) -> str:
        self.opened.append(pin)
        return f"opened with {pin}"


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """Sees the requests to the vault."""
    async with tapping(mesh) as made:
        await asyncio.to_thread(made.bind, "vault")
        yield made


async def seen_by(tap: Tap, least: int) -> list[str]:
    """The kinds of the requests that it saw since it was asked last, `least` of them or more.

    The broker may put a message into the tap's queue a moment after the service's.
    """

    def take() -> list[str]:
        found: list[str] = []
        deadline = time.monotonic() + 10
        while (count := tap.depth(TAP_QUEUE)) < least and time.monotonic() < deadline:
            pass
        for properties, body in tap.take(count=count) if count else ():
            sealed = headers_of(properties)["encrypted"] == "yes"
            found.append("encrypted" if sealed else str(json.loads(body)["method"]))
        return sorted(found)

    return await asyncio.to_thread(take)


async def calling(surface: str, meshes: Meshes, apis: Apis) -> tuple[Call, Encryptor]:
    """A caller that opens the vault, and where it keeps its keys."""
    if surface == "Mesh":
        client = await meshes.client()
        return (
            lambda pin: client.request("vault", "open", {"pin": pin}, timeout=10),
            encryptor_of(client),
        )
    api = await apis.connect()
    return (
        lambda pin: api.request("vault", "open", {"pin": pin}, context={}, ttl=10_000),
        encryptor_of(api),
    )


@pytest.mark.parametrize("surface", ["Mesh", "RMQAPI"])
async def test_row_37_a_rotated_key_is_fetched_once(
    meshes: Meshes, apis: Apis, tap: Tap, surface: str
) -> None:
    """Several calls fail on it together: one of them asks, and all are sent once more."""
    before = await meshes.serve(Vault())
    call, encryptor = await calling(surface, meshes, apis)
    assert await call("1") == "opened with 1"
    assert await seen_by(tap, 2) == ["encrypted", "nuropb_describe"]
    await before.stop()
    vault = Vault("rotated")
    await meshes.serve(vault)
    pins = [str(number) for number in range(CALLS)]
    assert await asyncio.gather(*map(call, pins)) == [f"opened with {pin}" for pin in pins]
    assert sorted(vault.opened) == pins, "what could not be read was not run"
    seen = await seen_by(tap, 2 * CALLS + 1)
    assert seen.count("nuropb_describe") == 1
    assert seen.count("encrypted") == 2 * CALLS
    assert await call("2") == "opened with 2"
    assert await seen_by(tap, 1) == ["encrypted"], "and from now on all is as ever"
    assert encryptor.calls_remembered == 0


@pytest.mark.parametrize("surface", ["Mesh", "RMQAPI"])
async def test_row_37_once_for_a_call_not_in_a_loop(
    meshes: Meshes, apis: Apis, tap: Tap, surface: str
) -> None:
    """A service that says another key whenever it is asked, and can read nothing."""
    told = 0

    async def describe(message: Message) -> Any:
        nonlocal told
        told += 1
        public = private_key(("vault", "rotated")[told % 2]).public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return {"methods": {"open": {"requires_encryption": True}}, "public_key": pem}

    await meshes.bare(describe, "vault")
    call, encryptor = await calling(surface, meshes, apis)
    for number in range(3):
        with pytest.raises(EncryptionError):
            await call(SECRET)
        expected = ["encrypted", "encrypted", "nuropb_describe"]
        if number == 0:  # before the first call, too
            expected.append("nuropb_describe")
        assert await seen_by(tap, len(expected)) == expected
    assert told == 4
    assert encryptor.calls_remembered == 0


async def test_row_37_a_key_that_is_still_the_same_is_not_tried_again(
    meshes: Meshes, tap: Tap
) -> None:
    """Somebody answers an encrypted request in plain: it may have been run, so it is told."""
    service = await meshes.serve(Vault())
    client = await meshes.client()
    description = json.dumps(await client.describe_service("vault"))
    await service.stop()
    assert await seen_by(tap, 1) == ["nuropb_describe"]
    call = asyncio.create_task(client.request("vault", "open", {"pin": SECRET}, timeout=10))

    def impostor() -> None:
        ((request, _),) = tap.take()
        tap.answer(request, response(request, "forged"), encrypted=False)
        ((describe, _),) = tap.take()
        tap.answer(describe, response(describe, json.loads(description)), encrypted=False)

    await asyncio.to_thread(impostor)
    with pytest.raises(EncryptionError, match="answered in plain text"):
        await call
    assert await seen_by(tap, 0) == []
    assert encryptor_of(client).calls_remembered == 0


async def test_row_37_a_service_that_does_not_say_its_key_again(meshes: Meshes, tap: Tap) -> None:
    """The call ends by its timeout, and with the error of what became of it."""
    service = await meshes.serve(Vault())
    client = await meshes.client()
    await client.describe_service("vault")
    await service.stop()
    assert await seen_by(tap, 1) == ["nuropb_describe"]
    call = asyncio.create_task(client.request("vault", "open", {"pin": SECRET}, timeout=1))

    def silent() -> None:
        ((request, _),) = tap.take()
        tap.answer(request, response(request, "forged"), encrypted=False)

    await asyncio.to_thread(silent)
    with pytest.raises(EncryptionError, match="answered in plain text"):
        await call
    assert await seen_by(tap, 1) == ["nuropb_describe"]


async def test_row_37_of_a_command_nobody_hears(meshes: Meshes, tap: Tap) -> None:
    before = await meshes.serve(Vault())
    client = await meshes.client()
    await client.command("vault", "open", {"pin": "1"})
    await before.stop()
    vault = Vault("rotated")
    await meshes.serve(vault)
    await client.command("vault", "open", {"pin": "2"})
    ((properties, body),) = await asyncio.to_thread(tap.take, "nuropb-vault-dlq")
    assert headers_of(properties)["nuropb_type"] == "command"
    assert b"open" not in body
    assert await client.request("vault", "open", {"pin": "3"}) == "opened with 3"
    await client.command("vault", "open", {"pin": "4"})
    assert await client.request("vault", "open", {"pin": "5"}) == "opened with 5"
    assert vault.opened == ["3", "4", "5"]
