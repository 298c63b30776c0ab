"""Encryption that looks after itself: descriptions and keys are fetched, nothing leaks before."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from nuropb_rmq import (
    EncryptionError,
    MalformedMessageError,
    Mesh,
    Message,
    NuropbRemoteError,
    State,
    publish_to_mesh,
)
from nuropb_rmq.mesh import discovery as discovery_module

from ..encrypting import SECRET, Tap, headers_of, private_key
from ..seams import descriptions_of, encryptor_of
from ..support import eventually
from .support import Meshes


class Vault:
    _service_name = "vault"

    def __init__(self, key: str = "vault") -> None:
        self._private_key = private_key(key)
        self.opened: list[Any] = []

    @publish_to_mesh(requires_encryption=True)
    async def open(self, pin: str) -> str:
        self.opened.append(pin)
        return f"opened with {pin}"

    async def look(self, pin: str = "") -> str:
        self.opened.append(pin)
        return f"looked with {pin}"


class OpenVault(Vault):
    """The same, before anybody thought of encryption."""

    @publish_to_mesh(requires_encryption=False)
    async def open(self, pin: str) -> str:
        self.opened.append(pin)
        return f"opened with {pin}"


class Keyless:
    _service_name = "keyless"

    async def look(self) -> str:
        return "looked"


def seen_by(tap: Tap, count: int) -> list[tuple[str, bool, bytes]]:
    """Return the messages that an eavesdropper at the broker saw: type, whether encrypted, body."""
    return [
        (headers_of(properties)["nuropb_type"], headers_of(properties)["encrypted"] == "yes", body)
        for properties, body in tap.take(count=count)
    ]


async def tap_on(meshes: Meshes, service: str) -> Tap:
    def made() -> Tap:
        tap = Tap(meshes.url)
        tap.bind(service)
        return tap

    return await asyncio.to_thread(made)


def remembered(mesh: Mesh) -> int:
    return encryptor_of(mesh).calls_remembered


async def test_a_method_that_requires_encryption_is_called_encrypted(meshes: Meshes) -> None:
    vault = Vault()
    service = await meshes.serve(vault)
    client = await meshes.client()
    tap = await tap_on(meshes, "vault")
    assert await client.request("vault", "open", {"pin": SECRET}) == f"opened with {SECRET}"
    await client.command("vault", "open", {"pin": SECRET})
    assert await client.request("vault", "look", {"pin": "in plain"}) == "looked with in plain"
    await eventually(lambda: len(vault.opened) == 3)
    seen = await asyncio.to_thread(seen_by, tap, 4)
    await asyncio.to_thread(tap.close)
    assert [(kind, encrypted) for kind, encrypted, _ in seen] == [
        ("request", False),
        ("request", True),
        ("command", True),
        ("request", False),
    ]
    assert json.loads(seen[0][2])["method"] == "nuropb_describe"
    assert not any(SECRET.encode() in body for _, _, body in seen)
    await eventually(lambda: remembered(client) == remembered(service) == 0)


async def test_a_first_command_waits_for_the_description_too(meshes: Meshes) -> None:
    vault = Vault()
    await meshes.serve(vault)
    client = await meshes.client()
    tap = await tap_on(meshes, "vault")
    await client.command("vault", "open", {"pin": SECRET})
    await eventually(lambda: vault.opened == [SECRET])
    seen = await asyncio.to_thread(seen_by, tap, 2)
    await asyncio.to_thread(tap.close)
    assert [(kind, encrypted) for kind, encrypted, _ in seen] == [
        ("request", False),
        ("command", True),
    ]
    assert await client.requires_encryption("vault", "open") is True
    assert await client.requires_encryption("vault", "look") is False
    assert await client.has_public_key("vault") is True


async def test_encrypted_true_just_works(meshes: Meshes) -> None:
    await meshes.serve(Vault())
    client = await meshes.client()
    tap = await tap_on(meshes, "vault")
    looked = await client.request("vault", "look", {"pin": SECRET}, encrypted=True)
    assert looked == f"looked with {SECRET}"
    assert await client.request("vault", "nuropb_describe", encrypted=True) is not None
    seen = await asyncio.to_thread(seen_by, tap, 3)
    await asyncio.to_thread(tap.close)
    assert [encrypted for _, encrypted, _ in seen] == [False, True, True]


@pytest.mark.parametrize(
    ("bounds", "keys"), [({}, 1), ({"key_uses": 2}, 2), ({"key_lifetime": 0.0}, 3)]
)
async def test_how_long_a_key_is_used_again_is_configured(
    meshes: Meshes, bounds: dict[str, Any], keys: int
) -> None:
    await meshes.serve(Vault())
    client = await meshes.client(**bounds)
    tap = await tap_on(meshes, "vault")
    for pin in ("1", "2", "3"):
        assert await client.request("vault", "open", {"pin": pin}) == f"opened with {pin}"
    seen = await asyncio.to_thread(seen_by, tap, 4)
    await asyncio.to_thread(tap.close)
    wrapped = [body.partition(b".")[0] for _, encrypted, body in seen if encrypted]
    assert len(wrapped) == 3
    assert len(set(wrapped)) == keys


async def test_a_service_without_a_key_cannot_be_called_encrypted(meshes: Meshes) -> None:
    await meshes.serve(Keyless())
    client = await meshes.client()
    tap = await tap_on(meshes, "keyless")
    with pytest.raises(EncryptionError, match="no public key in its description"):
        await client.request("keyless", "look", encrypted=True)
    with pytest.raises(EncryptionError, match="no public key in its description"):
        await client.command("keyless", "look", encrypted=True)
    assert await client.request("keyless", "look") == "looked"
    seen = await asyncio.to_thread(seen_by, tap, 3)  # described twice: the key might be new
    await asyncio.to_thread(tap.close)
    methods = [json.loads(body)["method"] for _, _, body in seen]
    assert methods == ["nuropb_describe", "nuropb_describe", "look"]


async def test_a_service_that_has_changed_is_described_again(meshes: Meshes) -> None:
    """The client knows a description in which nothing requires encryption."""
    before = await meshes.serve(OpenVault())
    client = await meshes.client()
    assert await client.request("vault", "open", {"pin": "1"}) == "opened with 1"
    await before.stop()
    vault = Vault()
    await meshes.serve(vault)
    assert await client.request("vault", "open", {"pin": "2"}) == "opened with 2"
    tap = await tap_on(meshes, "vault")
    assert await client.request("vault", "open", {"pin": SECRET}) == f"opened with {SECRET}"
    assert vault.opened == ["2", SECRET]
    ((_, encrypted, _),) = await asyncio.to_thread(seen_by, tap, 1)
    await asyncio.to_thread(tap.close)
    assert encrypted


async def test_an_old_description_is_fetched_anew_beside_the_calls(
    meshes: Meshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await meshes.serve(OpenVault())
    client = await meshes.client()
    monkeypatch.setattr(discovery_module, "LIFETIME", 0.0)
    first = await client.describe_service("vault")
    await before.stop()
    await meshes.serve(Vault())
    assert await client.request("vault", "look", {"pin": "1"}) == "looked with 1"
    known = descriptions_of(client).known
    await eventually(lambda: known["vault"].info is not first)
    assert known["vault"].requires_encryption("open")


async def test_a_description_that_cannot_be_fetched_anew_goes_on_being_used(
    meshes: Meshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await meshes.serve(Vault())
    client = await meshes.client()
    monkeypatch.setattr(discovery_module, "LIFETIME", 0.0)
    monkeypatch.setattr(discovery_module, "DESCRIBE_WITHIN", 0.1)
    monkeypatch.setattr("nuropb_rmq.mesh.caller.DESCRIBE_WITHIN", 0.1)
    first = await client.describe_service("vault", timeout=5)
    await service.stop()
    await client.command("vault", "open", {"pin": "1"})
    await eventually(lambda: descriptions_of(client).fetching == {})
    assert await client.describe_service("vault") is first
    vault = Vault()
    await meshes.serve(vault)
    await eventually(lambda: vault.opened == ["1"])


# -- services that cannot be described ------------------------------------------------------


@pytest.mark.parametrize("answer", ["an error", None, 7, {}, {"methods": []}, {"methods": None}])
async def test_what_cannot_be_described_is_called_in_plain(
    meshes: Meshes, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As nuropb would: a type hint is enough for it to fail at its description."""

    async def handle(message: Message) -> Any:
        if message.payload["method"] != "nuropb_describe":
            return message.payload["params"]
        if answer == "an error":
            raise AttributeError("'str' object has no attribute '__name__'")
        return answer

    client = await meshes.client()
    await meshes.bare(handle)
    with caplog.at_level(logging.WARNING, "nuropb_rmq.mesh"):
        for number in range(3):
            assert await client.request("bare", "echo", {"n": number}) == {"n": number}
    (record,) = (each for each in caplog.records if each.name == "nuropb_rmq.mesh")
    assert "'bare' cannot be described" in record.getMessage()
    with pytest.raises(EncryptionError, match="no public key"):
        await client.request("bare", "echo", encrypted=True)
    with pytest.raises((NuropbRemoteError, Exception), match=r"AttributeError|no description"):
        await client.describe_service("bare")


@pytest.mark.parametrize("key", ["no PEM", "", 7, ["x"]])
async def test_a_public_key_that_is_none(meshes: Meshes, key: Any) -> None:
    async def handle(message: Message) -> Any:
        method = {"requires_encryption": True, "parameters": {}}
        return {"methods": {"open": method}, "public_key": key}

    client = await meshes.client()
    await meshes.bare(handle)
    with pytest.raises(EncryptionError, match="no public key"):
        await client.request("bare", "open")
    if isinstance(key, str):
        assert (await client.describe_service("bare"))["public_key"] == key
    else:
        with pytest.raises(
            MalformedMessageError, match=r"public_key: expected text, got (int|list)"
        ):
            await client.describe_service("bare")


async def test_a_stop_ends_those_who_wait_for_a_description(meshes: Meshes) -> None:
    service = await meshes.serve(Vault())
    await service.stop()
    client = await meshes.client()
    call = asyncio.create_task(client.request("vault", "look"))
    await eventually(lambda: client.transport.pending == 1)
    await client.stop()
    with pytest.raises(Exception, match="stopped"):
        await call
    assert client.state is State.STOPPED
