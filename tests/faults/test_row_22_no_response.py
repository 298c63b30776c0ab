"""Row 22: there is no response."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import Message, NuropbTimeoutError

from ..seams import dispatcher_of
from ..support import Transports, eventually, request
from .common import within


async def test_row_22_no_response_in_time(mesh: Transports) -> None:
    release = asyncio.Event()

    async def slow(_: Message) -> str:
        await release.wait()
        return "late"

    service = await mesh.service(slow)
    client = await mesh.client()
    late = pytest.raises(NuropbTimeoutError, match=r"no response within 0\.2 s")
    with within(0.2 + 1), late:
        await client.request(request(), timeout=0.2)
    assert client.pending == 0
    release.set()  # the response that comes now is nobody's
    await eventually(lambda: client.dropped == {"unclaimed": 1})
    await dispatcher_of(service).drained()
