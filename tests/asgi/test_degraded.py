"""Started without the broker: the application is there, and the mesh follows by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from nuropb_rmq import (
    Mesh,
    NuropbConfigurationError,
    ServiceNotConfigured,
    State,
    TransportClosedError,
    TransportConfig,
    configure,
)
from nuropb_rmq.asgi import health_routes, lifespan

from ..faults.proxy import Proxy, Wire
from ..mesh.support import Meshes
from ..support import eventually
from .support import Served, StartupFailed


class Orders:
    async def echo(self, **params: Any) -> Any:
        return params


@pytest.fixture
async def wire(mesh_url: str) -> AsyncIterator[Proxy]:
    """Yield the proxy between the mesh and the broker; it refuses everything at first."""
    async with Proxy(mesh_url) as made:
        made.set(Wire.REFUSE)
        yield made


def behind(wire: Proxy, **settings: Any) -> TransportConfig:
    return TransportConfig(amqp_url=wire.url, service_name="orders", **settings)


def app_of(mesh: Mesh) -> FastAPI:
    run = lifespan(mesh, grace=1, start_degraded=True)
    return FastAPI(lifespan=run, routes=health_routes(mesh))


async def test_it_starts_without_the_broker_and_connects_later(
    meshes: Meshes, wire: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nuropb_rmq.asgi")
    mesh = meshes.mesh(Orders(), amqp_url=behind(wire, reconnect_cap=0.5))
    async with Served(app_of(mesh)) as served:
        assert await served.get("/livez") == (200, {"alive": True})
        status, told = await served.get("/readyz")
        assert (status, told["ready"]) == (503, False)
        assert "guest:***@127.0.0.1" in told["reason"]
        with pytest.raises(
            TransportClosedError, match=r"is stopped: amqp://guest:\*\*\*@127.0.0.1"
        ):
            await mesh.request("orders", "echo", {"n": 1})
        tries = wire.accepted
        await eventually(lambda: wire.accepted >= tries + 3)
        wire.set(Wire.PASS)
        await eventually(lambda: mesh.state is State.READY)
        status, told = await served.get("/readyz")
        assert (status, told["state"]) == (200, "READY")
        assert await mesh.request("orders", "echo", {"n": 1}, timeout=5) == {"n": 1}
    assert mesh.state is State.STOPPED
    said = [each.message for each in caplog.records if each.name == "nuropb_rmq.asgi"]
    assert said[0].startswith("starting without the broker: amqp://guest:***@127.0.0.1")
    assert said[-1] == "the mesh has started"
    assert len(said) == len(set(said)) <= 4, "every try is logged"


async def test_with_the_broker_it_is_ready_at_once(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())
    async with Served(app_of(mesh)) as served:
        status, told = await served.get("/readyz")
        assert (status, told["state"]) == (200, "READY")
    assert mesh.state is State.STOPPED


@pytest.mark.parametrize("mode", [Wire.REFUSE, Wire.HOLE])
async def test_it_ends_promptly_while_it_connects(meshes: Meshes, wire: Proxy, mode: Wire) -> None:
    mesh = meshes.mesh(Orders(), amqp_url=behind(wire))
    async with Served(app_of(mesh)):
        wire.set(mode)
        before = wire.accepted
        await eventually(lambda: wire.accepted > before)
        assert mode is Wire.REFUSE or mesh.state is State.CONNECTING
        started = time.monotonic()
    assert time.monotonic() - started < 3
    assert mesh.state.over


async def test_what_an_operator_mends_is_noticed(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders(), configure=False)
    async with Served(app_of(mesh)) as served:
        _, told = await served.get("/readyz")
        assert "exchange 'nuropb-rpc-exchange'" in told["reason"]
        assert isinstance(mesh.error, ServiceNotConfigured)
        await configure(meshes.config())
        await eventually(lambda: mesh.state is State.READY)
        assert (await served.get("/readyz"))[0] == 200


async def test_a_setting_that_is_wrong_fails_all_the_same(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders(), amqp_url=f"{meshes.url}-missing", management_url="nowhere")
    with pytest.raises(NuropbConfigurationError, match="api_url"):
        async with lifespan(mesh, start_degraded=True)(None):
            pytest.fail("it has started")
    with pytest.raises(StartupFailed, match="api_url"):
        async with Served(app_of(mesh)):
            pytest.fail("it has started")
    assert mesh.state.over


async def test_a_bug_in_start_does_not_end_the_tries(
    meshes: Meshes, wire: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mesh = meshes.mesh(Orders(), amqp_url=behind(wire))
    start = mesh.start
    broken = asyncio.Event()

    async def start_badly() -> None:
        broken.set()
        raise AssertionError("a bug")

    async with Served(app_of(mesh)):
        monkeypatch.setattr(mesh, "start", start_badly)
        await broken.wait()
        monkeypatch.setattr(mesh, "start", start)
        wire.set(Wire.PASS)
        await eventually(lambda: mesh.state is State.READY)
    assert "AssertionError: a bug" in caplog.text
