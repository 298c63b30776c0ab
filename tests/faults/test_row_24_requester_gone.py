"""Row 24: the requester is gone before its response. The service notices nothing."""

from __future__ import annotations

import asyncio

from nuropb_rmq import Message, State

from ..encrypting import DL_QUEUE, tapping
from ..support import Mesh, Watch, eventually, request, result_of
from .proxy import Proxy, Wire

CALLS = 20


async def test_row_24_the_service_is_unaffected(mesh: Mesh, proxy: Proxy) -> None:
    answer = asyncio.Event()
    begun: list[str] = []

    async def handle(message: Message) -> object:
        begun.append(message.correlation_id)
        await answer.wait()
        return message.payload["params"]

    service = await mesh.service(handle)
    watch = Watch(service)
    gone = await mesh.client(amqp_url=proxy.url)
    calls = [asyncio.create_task(gone.request(request(n=n), timeout=2)) for n in range(CALLS)]
    await eventually(lambda: len(begun) == CALLS)
    proxy.set(Wire.REFUSE)  # it does not come back: its response queue dies with its connection
    proxy.reset()
    async with tapping(mesh) as tap:
        await asyncio.gather(*calls, return_exceptions=True)
        assert await asyncio.to_thread(tap.depth, "nuropb-orders-sq") == 0, "all are in hand"
        answer.set()
        client = await mesh.client()
        assert result_of(await client.request(request(n=1))) == {"n": 1}
        # Given back, they would be delivered again; rejected, they would be dead letters.
        await service.stop()
        for queue in ("nuropb-orders-sq", DL_QUEUE):
            assert await asyncio.to_thread(tap.depth, queue) == 0
    assert len(begun) == CALLS + 1
    assert watch.states == [State.DRAINING, State.STOPPED]
