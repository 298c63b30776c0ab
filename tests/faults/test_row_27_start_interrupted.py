"""Row 27: start() is cancelled, or stop() comes during start(). Nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from nuropb_rmq import NuropbTransportError, State, TransportClosedError

from ..support import Recorder, Transports, request, result_of
from .common import seconds_of

STEPS = 40
"""Moments of a start, and of just after it; the fixture of all tests finds what is left."""


class Moments:
    """Seconds, up to what an undisturbed start takes, and on until a start was done before."""

    def __init__(self) -> None:
        self.finished = 0
        self.cut_off = 0

    async def of(self, mesh: Transports) -> AsyncIterator[float]:
        service = mesh.transport("orders", Recorder())
        length = await seconds_of(service.start())
        await service.stop()
        step = 0
        while step < STEPS or not self.finished:  # a busy machine may take longer than it took
            yield length * step / STEPS
            step += 1
        assert self.cut_off


async def test_row_27_start_cancelled_at_any_moment(mesh: Transports) -> None:
    moments = Moments()
    async for moment in moments.of(mesh):
        service = mesh.transport("orders", Recorder())
        starting = asyncio.create_task(service.start())
        await asyncio.sleep(moment)
        starting.cancel()
        try:
            await starting
        except asyncio.CancelledError:
            assert service.state is State.STOPPED
            moments.cut_off += 1
        else:
            await service.stop()
            moments.finished += 1
    client = await mesh.client()
    await mesh.service(Recorder())
    assert result_of(await client.request(request(n=1))) == {"n": 1}


async def test_row_27_stop_during_start_at_any_moment(mesh: Transports) -> None:
    moments = Moments()
    async for moment in moments.of(mesh):
        service = mesh.transport("orders", Recorder())
        starting = asyncio.create_task(service.start())
        await asyncio.sleep(moment)
        await service.stop()
        assert service.state is State.STOPPED
        (outcome,) = await asyncio.gather(starting, return_exceptions=True)
        assert outcome is None or isinstance(outcome, TransportClosedError)
        moments.finished += outcome is None
        moments.cut_off += outcome is not None


async def test_row_27_stop_in_the_ticks_of_a_start(mesh: Transports) -> None:
    for ticks in range(25):
        service = mesh.transport("orders", Recorder())
        starting = asyncio.create_task(service.start())
        for _ in range(ticks):
            await asyncio.sleep(0)
        await service.stop()
        (outcome,) = await asyncio.gather(starting, return_exceptions=True)
        assert isinstance(outcome, TransportClosedError) or ticks == 0
        await service.stop()
        assert service.state is State.STOPPED


async def test_row_27_start_cancelled_while_nothing_answers(mesh: Transports) -> None:
    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    client = mesh.transport("client", amqp_url=f"amqp://127.0.0.1:{port}/")
    starting = asyncio.create_task(client.start())
    await asyncio.sleep(0.1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert client.state is State.STOPPED
    with pytest.raises(NuropbTransportError):
        await client.request(request())
    silent.close()
    await silent.wait_closed()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)
    writer.close()
