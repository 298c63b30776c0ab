"""Row 21: two responses for one request. The first wins, and nothing is said of the second."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from nuropb_rmq import Transport

from ..encrypting import Tap, response, tapping
from ..support import Mesh, Recorder, eventually, request, result_of


async def asked(client: Transport, tap: Tap, *bodies: object) -> object:
    """A request that is answered with all of these; `None` stands for a result."""
    call = asyncio.create_task(client.request(request(service="other", n=1), timeout=10))
    (taken,) = await asyncio.to_thread(tap.take)
    properties, _ = taken
    well = json.loads(response(properties, "the result"))
    for error in bodies:
        body = well if error is None else {**well, "result": None, "error": error}
        tap.answer(properties, json.dumps(body).encode(), encrypted=False)
    return await call


async def test_row_21_the_first_wins(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    client = await mesh.client()
    error = {"error": "LookupError", "description": "no such order"}
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.bind, "other")
        # As old peers answer what failed: the error, and then a worthless success.
        first = await asked(client, tap, error, None)
        assert isinstance(first, dict)
        assert first["error"] == error
        second = await asked(client, tap, None, error, None)
        assert isinstance(second, dict)
        assert second["result"] == "the result"
    await eventually(lambda: client.dropped == {"unclaimed": 3})
    said = [each for each in caplog.records if each.levelno > logging.DEBUG]
    assert [each for each in said if each.name.startswith("nuropb_rmq.replies")] == []
    assert client.pending == 0


async def test_row_21_a_late_copy_is_dropped(mesh: Mesh) -> None:
    await mesh.service(Recorder())
    client = await mesh.client(instance_id="one")
    answer = await client.request(request(n=1))
    await client.send({**answer, "reply_to": "nuropb-client-one-rq"})
    await eventually(lambda: client.dropped == {"unclaimed": 1})
    assert result_of(await client.request(request(n=2))) == {"n": 2}
