"""A class that is still decorated by nuropb's own decorators, served by Mesh and by RMQAPI."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nuropb_rmq import (
    Mesh,
    NuropbAuthorizationError,
    NuropbHandlingError,
    NuropbMessageError,
    NuropbValidationError,
)

from ..support import eventually
from .conftest import Peers
from .process import PYTHON, ROOT

ANYHOW = ("other_way_round", "twice", "below_another")
"""Methods whose decorators stand in an order that nuropb's own would not ask at."""


class Listener:
    """Hears the events."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def _handle_event_(self, topic: str, event: Any, target: Any, context: Any) -> None:
        self.heard.append(event)


@pytest.fixture(params=["Mesh", "RMQAPI"])
async def kind(request: pytest.FixtureRequest, peers: Peers) -> AsyncIterator[str]:
    """The service runs, by this class of ours."""
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        "-m",
        "tests.interop.decorated_service",
        request.param,
        peers.url,
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert await process.stdout.readline() == b"ready\n"
    yield request.param
    process.stdin.close()
    assert await process.wait() == 0


async def test_nuropbs_decorators(kind: str, peers: Peers) -> None:
    listener = Listener()
    hears = Mesh(
        peers.url, service_name="listener", service=listener, event_bindings=["decorated.#"]
    )
    async with hears, Mesh(peers.url) as client:

        async def call(method: str, token: str = "good", **params: Any) -> Any:
            context = {"Authorization": token}
            return await client.request("decorated", method, params, context=context)

        assert await call("mine", number=3) == [{"user": "ada"}, 3]
        assert await call("guarded") == "open"
        assert await call("later") == {"Authorization": "good"}
        assert await call("secret", pin="1234") == "1234"
        assert await call("suppressed") == "after"
        assert await call("again") == 2
        assert await call("succeed") == "ok"
        for method in ANYHOW:
            assert await call(method) == {"user": "ada"}
        assert await call("asked") == ["good"] * 5  # once for each call
        for method in ("mine", "guarded", *ANYHOW):
            with pytest.raises(NuropbAuthorizationError):
                await call(method, token="bad")
        with pytest.raises(NuropbHandlingError, match="Unknown method"):
            await call("hidden")
        with pytest.raises(NuropbValidationError, match="not so"):
            await call("refuse")
        if kind == "Mesh":
            with pytest.raises(
                NuropbValidationError, match="number: expected an integer, got a string"
            ):
                await call("mine", number="3")
        with pytest.raises(NuropbMessageError, match=r"no such parameter|TypeError"):
            await call("mine", ctx={})
        described = (await client.describe_service("decorated"))["methods"]
        assert described["mine"]["description"] == "Mine"
        assert described["later"]["description"] == "Later"
        properties = described["mine"]["parameters"]["properties"]
        assert properties == [["number", {"type": "int", "description": "", "default": 0}]]
        await eventually(lambda: listener.heard == [3, "success"])
