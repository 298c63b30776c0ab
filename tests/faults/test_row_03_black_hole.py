"""Row 3: a black hole: the peer keeps the socket open, and says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any

import aiormq
import pytest

from nuropb_rmq import BrokerUnreachableError, Message, NuropbException, State, Transport

from ..seams import connections_of, inside
from ..support import Recorder, Transports, command, eventually, request, result_of
from .common import seconds_of, within
from .proxy import Proxy, Way, Wire

NOTICED_WITHIN = 40.0
"""Seconds, at a heartbeat of 10."""
HOLES: dict[str, list[Way]] = {"both": list(Way), "up": [Way.UP], "down": [Way.DOWN]}
LATE = 1.0
"""Seconds that an await may end behind its deadline, on a busy machine."""


async def handler(message: Message) -> Any:
    """Answer with the parameters; never answer a call of `wait`."""
    if message.payload["method"] == "wait":
        await asyncio.Event().wait()
    return message.payload["params"]


async def ended(deadline: float, work: Awaitable[object]) -> str:
    """Return how an await ended; fail unless it ends by its deadline, in seconds from now."""
    async with asyncio.timeout(deadline + LATE):
        try:
            await work
        except NuropbException as e:
            return type(e).__name__
    return "well"


async def noticed(transport: Transport) -> float:
    """The seconds until each connection of it is known to be lost."""
    links = connections_of(transport)
    lost = eventually(lambda: not any(link.up for link in links), within=NOTICED_WITHIN)
    return await seconds_of(lost)


class Party:
    """A service and two clients behind one wire, with awaits of every kind under way."""

    def __init__(self, mesh: Transports, name: str, proxy: Proxy) -> None:
        self._mesh = mesh
        self.name = name
        self.proxy = proxy
        self._wait, self._note = request("wait", service=name), command(service=name)

    async def start(self) -> None:
        url, name = self.proxy.url, self.name
        self.service = await self._mesh.service(handler, name, amqp_url=url)
        self.client = await self._mesh.client(f"client of {name}", amqp_url=url)
        self.leaving = await self._mesh.client(f"leaving {name}", amqp_url=url)

    def calls(self, *timeouts: float) -> list[asyncio.Task[str]]:
        """Requests, sends and posts, of the client and of the service."""
        works: list[tuple[float, Awaitable[object]]] = []
        for timeout in timeouts:
            for each in (self.client, self.service):
                works += [
                    (timeout, each.request(self._wait, timeout=timeout)),
                    (timeout, each.send(self._note, timeout=timeout)),
                    (timeout, each.post(self._note, timeout=timeout)),
                ]
        return [asyncio.create_task(ended(*each)) for each in works]

    def ends(self) -> list[asyncio.Task[str]]:
        """Waiting for a state; and stop(), which ends what waits longer than it."""
        works: list[tuple[float, Awaitable[object]]] = [
            (5, self.service.wait_for(State.FAILED, timeout=5)),
            (6, self.leaving.request(self._wait, timeout=60)),
            (6, self.leaving.send(self._note, timeout=60)),
            (6, self.leaving.wait_for(State.READY, State.STOPPED, timeout=60)),
            (6, self.leaving.stop(grace=1)),
        ]
        return [asyncio.create_task(ended(*each)) for each in works]

    async def works(self) -> None:
        """A call works."""
        answer = await self.client.request(request(service=self.name, n=1), timeout=10)
        assert result_of(answer) == {"n": 1}


async def test_row_03_it_is_noticed_and_every_await_ends(mesh: Transports) -> None:
    """One way, the other way, and both, at the default heartbeat: noticed in 40 s, and recovered.

    Every await ends by its own deadline, whether that is long before or behind.
    """
    async with AsyncExitStack() as stack:
        parties = []
        for name in HOLES:
            proxy = await stack.enter_async_context(Proxy(mesh.url))
            parties.append(Party(mesh, name, proxy))
            await parties[-1].start()
        assert parties[0].client.config.heartbeat == 10
        works: list[asyncio.Task[str]] = []
        losses: dict[str, asyncio.Task[float]] = {}
        for party in parties:
            works += party.calls(2)
            await party.works()  # so those before it are on their way
            for way in HOLES[party.name]:
                party.proxy.hole(way)
            works += [*party.calls(1, 8, 33), *party.ends()]
            for each in (party.service, party.client):
                losses[each.config.service_name] = asyncio.create_task(noticed(each))
        took = {name: await loss for name, loss in losses.items()}
        print("noticed:", {name: f"{seconds:.1f} s" for name, seconds in took.items()})
        for party in parties:
            party.proxy.set(Wire.PASS)
        for party in parties:
            for each in (party.service, party.client):
                await each.wait_for(State.READY, timeout=15)
            await party.works()
        outcomes = {await each for each in works}
    assert outcomes == {
        "well",
        "NuropbTimeoutError",
        "NuropbOutcomeUnknownError",
        "TransportClosedError",
    }


async def test_row_03_it_is_our_own_watch_that_notices(
    mesh: Transports, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiormq looks as well, and late; without its look a hole is noticed all the same."""
    monkeypatch.setattr(aiormq.Connection, "HEARTBEAT_GRACE_MULTIPLIER", 1000)
    clients = [await mesh.client(amqp_url=proxy.url, heartbeat=heartbeat) for heartbeat in (1, 10)]
    for client, patience in zip(clients, (3, 30), strict=True):
        watch = inside(connections_of(client)[0].router)
        assert watch.patience == patience, "3 heartbeats, in seconds"
    proxy.hole(Way.DOWN)
    await eventually(lambda: not clients[0].state.up, within=NOTICED_WITHIN)
    assert "nothing was heard from the broker for" in str(clients[0].error)
    proxy.set(Wire.PASS)
    await clients[0].wait_for(State.READY, timeout=15)


@pytest.mark.parametrize("wire", [Wire.SILENT, Wire.HOLE])
async def test_row_03_a_start_ends_as_well(mesh: Transports, proxy: Proxy, wire: Wire) -> None:
    """A start at a peer that accepts connections and says nothing fails after connect_timeout."""
    proxy.set(wire)
    starts = [
        mesh.transport("orders", Recorder(), amqp_url=proxy.url, connect_timeout=1).start(),
        mesh.transport("client", amqp_url=proxy.url, connect_timeout=1).start(),
    ]
    with within(1 + LATE):
        outcomes = await asyncio.gather(*starts, return_exceptions=True)
    assert [type(each) for each in outcomes] == [BrokerUnreachableError] * 2
