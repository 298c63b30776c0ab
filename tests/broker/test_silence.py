"""A peer that keeps the socket open and says nothing is lost after three heartbeats."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from ..seams import connections_of, inside
from ..support import Recorder, Transports, Watch, request, result_of
from ..tools.chaos.plan import Ways
from ..tools.chaos.wire import Proxy

HEARTBEAT = 1
NOTICED_WITHIN = 4.5
"""Seconds; aiormq alone takes 6 to 7."""


@pytest.mark.parametrize("ways", [Ways.BOTH, Ways.DOWN])
async def test_silence_is_noticed_and_recovered_from(mesh: Transports, ways: Ways) -> None:
    parts = urlsplit(mesh.url)
    assert parts.port
    async with Proxy(parts.port) as proxy:
        await mesh.service(Recorder())
        url = parts._replace(netloc=f"guest:guest@127.0.0.1:{proxy.port}").geturl()
        client = await mesh.client(amqp_url=url, heartbeat=HEARTBEAT)
        watch = Watch(client)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for connection in proxy.connections:
            connection.silence(ways)
        await watch.left(within=NOTICED_WITHIN)
        assert loop.time() - began > 2 * HEARTBEAT
        await watch.recovered()
        assert result_of(await client.request(request(n=1))) == {"n": 1}


async def test_without_heartbeats_silence_means_nothing(mesh: Transports) -> None:
    client = await mesh.client(heartbeat=0)
    assert inside(connections_of(client)[0].router).patience is None


async def test_an_idle_connection_is_not_silent(mesh: Transports) -> None:
    client = await mesh.client(heartbeat=HEARTBEAT)
    watch = Watch(client)
    await asyncio.sleep(4 * HEARTBEAT)
    assert watch.states == []
