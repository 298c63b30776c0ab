"""On uvloop, which uvicorn and others choose when it is installed."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from nuropb_rmq import State, Transport, TransportConfig, configure

from ..faults.proxy import Proxy
from ..support import Recorder, Watch, request, result_of

pytestmark = pytest.mark.broker


def test_requests_large_bodies_and_a_reset(mesh_url: str) -> None:
    """Its transports are no subclasses of asyncio's."""
    text = "é" * 600_000

    async def call(client: Transport) -> None:
        answers = await asyncio.gather(*(client.request(request(n=n)) for n in range(100)))
        assert [result_of(each)["n"] for each in answers] == list(range(100))
        assert result_of(await client.request(request(text=text))) == {"text": text}

    async def run() -> None:
        async with Proxy(mesh_url) as proxy:
            service = TransportConfig(amqp_url=proxy.url, service_name="orders")
            client = TransportConfig(amqp_url=proxy.url, service_name="client", client_only=True)
            await configure(service)
            async with Transport(service, Recorder()) as served, Transport(client) as calling:
                await call(calling)
                watches = Watch(served), Watch(calling)
                proxy.reset()
                for watch in watches:
                    await watch.recovered()
                await call(calling)
            assert served.state is calling.state is State.STOPPED

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
        assert asyncio.all_tasks(runner.get_loop()) == set()
