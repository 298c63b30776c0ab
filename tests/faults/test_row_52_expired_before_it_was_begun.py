"""Row 52: a message whose time is over before its handler could begin is not handled."""

from __future__ import annotations

import asyncio
import time

from nuropb_rmq import Message, NuropbTimeoutError

from ..encrypting import DL_QUEUE, tapping
from ..support import Transports, command, eventually, request, result_of

SENT = 10
BLOCKED = 0.3


async def test_row_52_what_nobody_waits_for_any_more_is_not_begun(mesh: Transports) -> None:
    """A handler blocks the event loop for longer than the callers of all others wait."""
    handled: list[str] = []

    async def block(message: Message) -> object:
        handled.append(message.payload["method"])
        if message.payload["method"] == "block":
            time.sleep(BLOCKED)  # noqa: ASYNC251 - that is the fault
        return message.payload["params"]

    service = await mesh.service(block)
    client = await mesh.client()
    # One turn of the loop reads all of these: the others wait while the first one blocks.
    calls = [
        asyncio.create_task(client.request(request("block", n=n), timeout=BLOCKED / 2))
        for n in range(SENT)
    ]
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, NuropbTimeoutError) for each in done) > SENT / 2
    assert result_of(await client.request(request("echo", n=1))) == {"n": 1}
    await client.send(command("note"))  # it has no caller who waits
    await eventually(lambda: "note" in handled)
    assert handled.count("block") < SENT / 2, "without a look at their time all of them are"
    assert service.pending == 0
    async with tapping(mesh) as tap:  # where the broker puts what expires in its queue
        await eventually(lambda: tap.depth(DL_QUEUE) == SENT - handled.count("block"))
        assert tap.depth("nuropb-orders-sq") == 0
