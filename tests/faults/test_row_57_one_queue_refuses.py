"""Row 57: one of several queues of an event refuses it; the broker's Basic.Nack is for all."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import PublishNackedError

from ..encrypting import tapping
from ..support import Transports, event


async def test_row_57_the_error_says_that_others_may_have_got_it(mesh: Transports) -> None:
    client = await mesh.client()
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.subscribe, "full", "orders.*", 0)
        await asyncio.to_thread(tap.subscribe, "other", "orders.*")
        with pytest.raises(PublishNackedError, match=r"other queues .* may have got it"):
            await client.send(event("orders.made", 1))
        await asyncio.to_thread(tap.take, "other")
