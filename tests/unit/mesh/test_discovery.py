"""Tests of a service's description: it stays until the service sends another that is valid."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nuropb_rmq import Encryptor, NuropbException, NuropbMessageError, NuropbTimeoutError
from nuropb_rmq.mesh.discovery import LIFETIME, Discovery

from ...encrypting import private_key
from ...seams import descriptions_of


def pem_of(name: str) -> str:
    public = private_key(name).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def described(key: object, **required: object) -> dict[str, Any]:
    methods = {name: {"requires_encryption": value} for name, value in required.items()}
    return {"methods": methods, "public_key": key}


GOOD = described(pem_of("orders"), open=True, look=False)
FAILED = {"error": "AttributeError", "description": "not now"}
JUNK: Mapping[str, object] = {
    "nothing": None,
    "a number": 7,
    "a list": [GOOD],
    "no methods": {},
    "methods that are a list": {"methods": ["open"]},
    "a method that is no object": {"methods": {"open": True}},
    "a method that is null": {"methods": {"open": None}},
    "a text for a bool": described(None, open="no"),
    "a number for a bool": described(None, open=0),
    "a key that is a list": described([pem_of("x")], open=False),
    "a key that is no PEM": described("no PEM", open=False),
    "a key that is a number": described(1, open=False),
}


class Service:
    """A service whose answer the test sets."""

    def __init__(self) -> None:
        self.answer: object = GOOD
        self.late = 0
        """Number of times that it does not answer, before it does."""
        self.error: Mapping[str, Any] | None = None

    async def ask(self, _: str) -> Mapping[str, Any]:
        if self.late:
            self.late -= 1
            raise NuropbTimeoutError("no response")
        if isinstance(self.answer, NuropbException):
            raise self.answer
        return {"result": self.answer, "error": self.error}


class Known:
    """A client that knows a good description."""

    def __init__(self) -> None:
        self.service, self.encryptor = Service(), Encryptor()
        self.discovery = Discovery(self.service.ask, self.encryptor)
        self._now = asyncio.get_running_loop().time()

    async def refresh(self) -> bool:
        """Fetch it anew beside a call; returns whether that had to be encrypted."""
        self._now += LIFETIME + 60
        description = self.discovery.known("orders", self._now)
        assert description is not None
        await asyncio.gather(
            *descriptions_of(self.discovery).fetching.values(), return_exceptions=True
        )
        description = await self.discovery.find("orders", 1)
        assert description.info is not None
        return description.requires_encryption("open")


@pytest.fixture
async def known() -> Known:
    made = Known()
    assert (await made.discovery.find("orders", 1)).requires_encryption("open")
    return made


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
async def test_junk_does_not_replace_what_is_known(known: Known, junk: object) -> None:
    key = known.encryptor.get_public_key("orders")
    known.service.answer = junk
    assert await known.refresh()
    assert known.encryptor.get_public_key("orders") is key
    known.service.answer = described(pem_of("x"), open=False)
    assert not await known.refresh()
    assert known.encryptor.get_public_key("orders") != key


@pytest.mark.parametrize("error", [FAILED, {}, {"error": ["x"]}])
async def test_an_error_does_not_replace_what_is_known(known: Known, error: Any) -> None:
    known.service.answer, known.service.error = None, error
    assert await known.refresh()
    again = await known.discovery.find("orders", 1, refresh=True)
    with pytest.raises(NuropbMessageError):
        again.known()
    assert (await known.discovery.find("orders", 1)).known() is GOOD


async def test_silence_does_not_replace_what_is_known(known: Known) -> None:
    known.service.answer = NuropbTimeoutError("no response")
    assert await known.refresh()


async def test_the_time_of_a_fetch_is_not_the_callers(known: Known) -> None:
    """It may have begun long before the call that waits for it: it is begun anew."""
    known.service.late = 2
    assert (await known.discovery.find("orders", 30, refresh=True)).known() is GOOD
    known.service.answer = NuropbTimeoutError("no response")
    with pytest.raises(NuropbTimeoutError, match=r"did not describe itself within 0\.02 s"):
        await known.discovery.find("orders", 0.02, refresh=True)


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
async def test_a_first_description_that_is_none_still_asks_for_encryption(junk: object) -> None:
    """Of odd ones, what could only do harm is not believed."""
    made = Known()
    made.service.answer = junk
    first = await made.discovery.find("orders", 1)
    odd = isinstance(junk, dict) and junk == JUNK["a text for a bool"]
    assert first.requires_encryption("open") is odd
    made.service.answer = GOOD
    assert (await made.discovery.find("orders", 1, refresh=True)).known() is GOOD
    assert (await made.discovery.find("orders", 1)).requires_encryption("open")
