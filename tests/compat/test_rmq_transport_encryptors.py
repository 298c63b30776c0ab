"""Encryptors of both kinds: ours, and nuropb's own, which nuropb's RMQAPI passes in."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from typing import Any

import pytest

from nuropb_rmq import EncryptionError
from nuropb_rmq.protocol.foreign_encryptor import PayloadEncryptor

from ..encrypting import DL_QUEUE, SECRET, calling, private_key, serving, tapping
from ..interop.process import PYTHON, why_not_installed
from ..support import Transports, command, eventually, request, result_of
from .programs import Callback, Programs, echo


def theirs(service: bool) -> Any:
    """nuropb 0.1.8's Encryptor, out of its own environment: it needs nothing but cryptography."""
    (path,) = PYTHON.parents[1].glob("lib/python3*/site-packages/nuropb/encodings/encryption.py")
    spec = importlib.util.spec_from_file_location("nuropb_encryption", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if service:
        return module.Encryptor("orders", private_key("orders"))
    made = module.Encryptor()
    made.add_public_key("orders", private_key("orders").public_key())
    return made


def ours(service: bool) -> PayloadEncryptor:
    """Our own."""
    return serving() if service else calling()


KINDS = [ours] if why_not_installed() else [ours, theirs]


@pytest.mark.parametrize("asked", KINDS)
@pytest.mark.parametrize("asking", KINDS)
async def test_encrypted_calls(programs: Programs, asked: Any, asking: Any) -> None:
    service, answers = Callback(echo), Callback()
    await programs.service(service, encryptor=asked(True))
    client = await programs.client(answers, encryptor=asking(False))
    for n in range(3):
        await client.send_message(request(n=n, text=SECRET), encrypted=True)
        await eventually(lambda: len(answers.messages) == n + 1)  # noqa: B023
    assert [each["result"] for each in answers.payloads] == [
        {"n": n, "text": SECRET} for n in range(3)
    ]
    assert all(each["encrypted"] for each in (*service.metadata, *answers.metadata))
    await client.send_message(command(text=SECRET), encrypted=True)
    await eventually(lambda: len(service.messages) == 4)
    assert service.payloads[3]["params"] == {"text": SECRET}


@pytest.mark.parametrize("asking", KINDS)
async def test_what_cannot_be_encrypted_raises_at_once(programs: Programs, asking: Any) -> None:
    client = await programs.client(encryptor=asking(False))
    with pytest.raises(EncryptionError):
        client.send_message(request(service="stranger"), encrypted=True)
    assert client.core.pending == 0


@pytest.mark.parametrize("asked", KINDS)
async def test_what_cannot_be_decrypted_is_dead_lettered(
    programs: Programs, mesh: Transports, asked: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = Callback(echo)
    await programs.service(service, encryptor=asked(True))
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.ask, "orders", b"bm8=.a2V5", "c-1")
        await asyncio.to_thread(tap.take, DL_QUEUE)
    assert not service.messages
    client = await mesh.client()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert "bm8" not in caplog.text


async def test_no_secret_is_logged(programs: Programs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "nuropb_rmq")
    answers = Callback()
    await programs.service(echo, encryptor=serving())
    client = await programs.client(answers, encryptor=calling())
    client.send_message(request(text=SECRET), encrypted=True)
    client.send_message(request(text=SECRET))
    client.send_message(request(service="nobody", text=SECRET))
    await eventually(lambda: len(answers.messages) == 3)
    assert SECRET not in caplog.text
    assert "guest" not in caplog.text.replace("guest:***@", "")
