"""In an event loop a blocking call is an error that says what to do, except in a notebook."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from nuropb_rmq import NuropbTransportError, State, blocking

from .conftest import Meshes
from .support import Orders

AWAIT = "running event loop, which it would block: use nuropb_rmq.Mesh there, and await its calls"
OWN = "thread of the mesh's own event loop, which would wait for itself"


async def test_a_running_loop(orders: Orders) -> None:
    mesh = orders.mesh
    with pytest.raises(NuropbTransportError, match=AWAIT):
        mesh.request("orders", "echo", {"n": 1})
    with pytest.raises(NuropbTransportError, match=AWAIT):
        mesh.stop()
    with pytest.raises(NuropbTransportError, match=AWAIT):
        blocking.Mesh("memory://other").start()
    assert mesh.state is State.READY
    assert await asyncio.to_thread(mesh.request, "orders", "echo", {"n": 1}) == 1


def test_its_own_loop(orders: Orders) -> None:
    assert OWN in orders.mesh.request("orders", "misuse")
    assert orders.mesh.request("orders", "echo", {"n": 1}) == 1


def test_the_loop_of_another_mesh(orders: Orders) -> None:
    with blocking.Mesh("memory://elsewhere", service=orders) as other:
        assert AWAIT in other.request("orders", "misuse")


def test_a_callback_in_its_own_loop(in_memory: Meshes) -> None:
    mesh = blocking.Mesh(in_memory.url)
    errors: list[NuropbTransportError] = []

    def stop(state: State, _: object) -> None:
        if state is State.READY:
            try:
                mesh.stop()
            except NuropbTransportError as e:
                errors.append(e)

    mesh.on_state_change(stop)
    with mesh:
        assert OWN in str(errors[0])


# -- notebooks: ipykernel runs cells in the event loop of its main thread -----------------------


class Kernel:
    """The part of ipykernel.kernelapp.IPKernelApp that tells its loop (6.29 and 7.4)."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop

    def initialized(self) -> bool:
        """False until the application was made."""
        return self._loop is not None

    def instance(self) -> Any:
        """The application."""
        return SimpleNamespace(io_loop=SimpleNamespace(asyncio_loop=self._loop))


def cells_run_in(loop: asyncio.AbstractEventLoop | None, monkeypatch: pytest.MonkeyPatch) -> None:
    kernelapp = SimpleNamespace(IPKernelApp=Kernel(loop))
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", kernelapp)


async def test_a_notebook(in_memory: Meshes, monkeypatch: pytest.MonkeyPatch) -> None:
    cells_run_in(asyncio.get_running_loop(), monkeypatch)
    mesh = in_memory.start(Orders())
    assert mesh.request("orders", "echo", {"n": 1}) == 1
    assert "orders" in repr(mesh)

    def elsewhere() -> None:
        async def call() -> None:
            mesh.request("orders", "echo", {"n": 1})

        asyncio.run(call())

    with pytest.raises(NuropbTransportError, match=AWAIT):
        await asyncio.to_thread(elsewhere)  # a loop that a cell has made
    mesh.stop()


async def test_a_kernel_without_this_loop(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    other = asyncio.new_event_loop()
    for loop in (other, None):
        cells_run_in(loop, monkeypatch)
        with pytest.raises(NuropbTransportError, match=AWAIT):
            orders.mesh.request("orders", "echo", {"n": 1})
    other.close()
    not_started = SimpleNamespace(initialized=lambda: True, instance=SimpleNamespace)
    kernelapp: Any = SimpleNamespace(IPKernelApp=not_started)
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", kernelapp)
    with pytest.raises(NuropbTransportError, match=AWAIT):
        orders.mesh.request("orders", "echo", {"n": 1})


def test_ipykernel_is_not_loaded() -> None:
    assert "ipykernel" not in sys.modules
    assert threading.current_thread() is threading.main_thread()
