"""Row 27: start() is cancelled, or stop() comes during start(). Nothing is left."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import NuropbTransportError, State, TransportClosedError

from ..support import Mesh, Recorder, request, result_of
from .common import seconds_of

STEPS = 40
"""Moments of a start, and of just after it; the fixture of all tests finds what is left."""


async def moments(mesh: Mesh) -> list[float]:
    """Seconds, up to 1.2 times what an undisturbed start takes, the slowest of three."""
    longest = 0.0
    for _ in range(3):
        service = mesh.transport("orders", Recorder())
        longest = max(longest, await seconds_of(service.start()))
        await service.stop()
    return [1.2 * longest * step / (STEPS - 1) for step in range(STEPS)]


async def test_row_27_start_cancelled_at_any_moment(mesh: Mesh) -> None:
    cut_off = 0
    for moment in await moments(mesh):
        service = mesh.transport("orders", Recorder())
        starting = asyncio.create_task(service.start())
        await asyncio.sleep(moment)
        starting.cancel()
        try:
            await starting
        except asyncio.CancelledError:
            assert service.state is State.STOPPED
            cut_off += 1
        else:
            await service.stop()
    assert 0 < cut_off < STEPS
    client = await mesh.client()
    await mesh.service(Recorder())
    assert result_of(await client.request(request(n=1))) == {"n": 1}


async def test_row_27_stop_during_start_at_any_moment(mesh: Mesh) -> None:
    cut_off = 0
    for moment in await moments(mesh):
        service = mesh.transport("orders", Recorder())
        starting = asyncio.create_task(service.start())
        await asyncio.sleep(moment)
        await service.stop()
        assert service.state is State.STOPPED
        (outcome,) = await asyncio.gather(starting, return_exceptions=True)
        assert outcome is None or isinstance(outcome, TransportClosedError)
        cut_off += outcome is not None
    assert 0 < cut_off < STEPS


async def test_row_27_stop_in_the_ticks_of_a_start(mesh: Mesh) -> None:
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


async def test_row_27_start_cancelled_while_nothing_answers(mesh: Mesh) -> None:
    silent = await asyncio.start_server(_say_nothing, "127.0.0.1", 0)
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


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)
    writer.close()
