"""Row 21: two responses to one request."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nuropb_rmq import Transport

from ..encrypting import Taken, Tap, tapping
from ..support import Recorder, Transports, eventually, request, result_of

FAILED = {"error": "ValueError", "description": "out of stock"}


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """Takes requests to `old`, and answers as it likes."""
    async with tapping(mesh) as made:
        await asyncio.to_thread(made.bind, "old")
        yield made


def answer(tap: Tap, taken: Taken, result: Any, error: Any = None) -> None:
    """Publish a response, as an old peer does."""
    properties, body = taken
    said = {"result": result, "error": error, "context": {}, "warning": None, "trace_id": "t"}
    said |= {"tag": "response", "correlation_id": json.loads(body)["correlation_id"]}
    tap.answer(properties, json.dumps(said).encode(), encrypted=False)


async def asked(client: Transport, tap: Tap, n: int) -> tuple[asyncio.Task[Any], Taken]:
    """A request that is under way, and what the peer has of it."""
    call = asyncio.create_task(client.request(request(service="old", n=n)))
    (taken,) = await asyncio.to_thread(tap.take)
    return call, taken


async def test_row_21_the_first_wins_quietly(
    mesh: Transports, tap: Tap, caplog: pytest.LogCaptureFixture
) -> None:
    """An old peer answers a failed request twice: the error, and then what is worth nothing."""
    await mesh.service(Recorder())
    client = await mesh.client()
    caplog.set_level(logging.INFO)
    failed, taken = await asked(client, tap, 1)
    await asyncio.to_thread(answer, tap, taken, None, FAILED)
    await asyncio.to_thread(answer, tap, taken, "worth nothing")
    assert (await failed)["error"] == FAILED
    done, taken = await asked(client, tap, 2)
    for result in ("first", "second", "third"):
        await asyncio.to_thread(answer, tap, taken, result)
    assert result_of(await done) == "first"
    await eventually(lambda: client.dropped == {"unclaimed": 3})
    assert result_of(await client.request(request(n=3))) == {"n": 3}
    assert client.pending == 0
    assert not [each.getMessage() for each in caplog.records if each.name.startswith("nuropb_rmq")]


async def test_row_21_both_in_one_read(mesh: Transports, tap: Tap) -> None:
    """The second is there before whoever awaits the first has been woken."""
    client = await mesh.client()
    call, taken = await asked(client, tap, 1)

    def both() -> None:
        for result in ("first", "second"):
            answer(tap, taken, result)

    both()  # the loop stands still until both are at the client's socket
    assert result_of(await call) == "first"
    await eventually(lambda: client.dropped == {"unclaimed": 1})
