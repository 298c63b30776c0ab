"""serve_forever(): until a signal, a cancellation, or the end of the mesh."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

from nuropb_rmq import Mesh, NuropbTransportError, State

from ..support import eventually


class Orders:
    _service_name = "orders"

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.done = False

    async def slow(self) -> None:
        self.begun.set()
        await asyncio.sleep(0.2)
        self.done = True


def kill(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


async def test_a_signal_ends_all_of_one_loop() -> None:
    meshes = [Mesh(f"memory://serve-{n}", service=Orders()) for n in range(2)]
    serving = [asyncio.create_task(mesh.serve_forever()) for mesh in meshes]
    await eventually(lambda: all(mesh.state is State.READY for mesh in meshes))
    kill()
    await asyncio.gather(*serving)
    assert [mesh.state for mesh in meshes] == [State.STOPPED, State.STOPPED]


async def test_handlers_of_the_program_are_back_behind_it() -> None:
    def mine(number: int, frame: Any) -> None:
        """Never called."""

    before = signal.signal(signal.SIGTERM, mine), signal.getsignal(signal.SIGINT)
    try:
        mesh = Mesh("memory://serve", service=Orders())
        serving = asyncio.create_task(mesh.serve_forever())
        await mesh_is(mesh, State.READY)
        assert signal.getsignal(signal.SIGTERM) is not mine
        kill()
        await serving
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is before[1]
    finally:
        signal.signal(signal.SIGTERM, before[0])


async def mesh_is(mesh: Mesh, state: State) -> None:
    await eventually(lambda: mesh.state is state)


async def test_a_signal_during_a_drain_cuts_nothing_short() -> None:
    """The drain was begun by a cancellation."""
    orders = Orders()
    mesh = Mesh("memory://serve", service=orders)
    serving = asyncio.create_task(mesh.serve_forever())
    await mesh_is(mesh, State.READY)
    async with Mesh("memory://serve") as client:
        await client.command("orders", "slow")
        await orders.begun.wait()
        serving.cancel()
        await mesh_is(mesh, State.DRAINING)
        kill()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert orders.done
        assert mesh.state is State.STOPPED


async def test_a_signal_during_the_start() -> None:
    mesh = Mesh("amqp://guest:guest@127.0.0.1:1/", service=Orders(), start_timeout=60)
    serving = asyncio.create_task(mesh.serve_forever())
    await mesh_is(mesh, State.CONNECTING)
    kill(signal.SIGINT)
    await serving
    assert mesh.state is State.STOPPED


async def test_stop_ends_it() -> None:
    mesh = Mesh("memory://serve", service=Orders())
    serving = asyncio.create_task(mesh.serve_forever())
    await mesh_is(mesh, State.READY)
    await mesh.stop()
    await serving


async def test_a_mesh_that_is_started_already() -> None:
    mesh = Mesh("memory://serve", service=Orders())
    await mesh.start()
    serving = asyncio.create_task(mesh.serve_forever())
    await asyncio.sleep(0)
    kill()
    await serving
    assert mesh.state is State.STOPPED


def test_in_another_thread_it_can_be_stopped() -> None:
    """There are no signals: they are left to the main thread."""
    mesh = Mesh("memory://serve", service=Orders())

    async def serve() -> None:
        serving = asyncio.create_task(mesh.serve_forever())
        await mesh_is(mesh, State.READY)
        await mesh.stop()
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert mesh.state is State.STOPPED


async def test_run_in_an_event_loop_says_so() -> None:
    with pytest.raises(NuropbTransportError, match="await serve_forever"):
        Mesh("memory://serve", service=Orders()).run()
