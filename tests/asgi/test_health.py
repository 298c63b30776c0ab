"""/livez and /readyz: what the mesh knows, without asking the broker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from nuropb_rmq import Mesh, NuropbRemoteError, Outage, State, TransportConfig
from nuropb_rmq.asgi import health_routes, lifespan
from nuropb_rmq.testing import RabbitMQNode

from ..faults.proxy import Proxy, Wire
from ..mesh.support import Meshes
from ..support import eventually
from .support import Served

ALIVE = (200, {"alive": True})


class Orders:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.release = asyncio.Event()

    async def wait(self) -> str:
        self.begun.set()
        await self.release.wait()
        return "done"


def app_of(mesh: Mesh, grace: float = 1) -> Starlette:
    return Starlette(lifespan=lifespan(mesh, grace=grace), routes=health_routes(mesh))


async def ready(served: Served, prefix: str = "") -> None:
    """Check that /readyz is 200, and says so of each part."""
    status, told = await served.get(f"{prefix}/readyz")
    parts = told.pop("parts")
    assert (status, told) == (200, {"ready": True, "state": "READY"})
    assert {"outage", "outbox", "consuming", "event_loop"} < set(parts)
    assert set(parts.values()) == {None}


async def unready(served: Served, state: State, within: float = 10) -> str:
    """Wait until /readyz is 503 for being in this state; its reason. /livez stays 200.

    But when it is FAILED: it takes a restart to go on.
    """
    deadline = time.monotonic() + within
    while True:
        alive = await served.get("/livez")
        status, told = await served.get("/readyz")
        if told["state"] == state.name:
            break
        assert alive == ALIVE
        assert time.monotonic() < deadline, f"{told}, not {state.name} within {within} s"
        await asyncio.sleep(0.01)
    assert (status, told["ready"]) == (503, False)
    assert set(told) == {"ready", "state", "reason", "parts"}
    assert any(told["parts"].values()) or state is State.DRAINING
    dead = (503, {"alive": False, "reason": told["reason"]})
    assert await served.get("/livez") == (dead if state is State.FAILED else ALIVE)
    return str(told["reason"])


async def test_in_an_application(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())
    routes = health_routes(mesh)
    apps = (
        FastAPI(lifespan=lifespan(mesh), routes=routes),
        Starlette(lifespan=lifespan(mesh), routes=routes),
        Starlette(lifespan=lifespan(mesh), routes=[Mount("/health", routes=routes)]),
    )
    for app, prefix in zip(apps, ("", "", "/health"), strict=True):
        async with Served(app) as served:
            assert await served.get(f"{prefix}/livez") == ALIVE
            await ready(served, prefix)
            head = await served.http.head(f"{prefix}/readyz")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["cache-control"] == "no-store"
            assert (await served.http.post(f"{prefix}/readyz")).status_code == 405
            if isinstance(app, FastAPI):
                assert app.openapi()["paths"] == {}


async def test_readyz_of_a_mesh_that_nobody_has_started(meshes: Meshes) -> None:
    async with Served(Starlette(routes=health_routes(meshes.mesh(Orders())))) as served:
        assert await unready(served, State.STOPPED) == "not started, or stopped"


async def test_readyz_while_the_connection_is_lost(meshes: Meshes) -> None:
    async with Proxy(meshes.url) as wire:
        config = TransportConfig(amqp_url=wire.url, service_name="orders", reconnect_cap=0.5)
        mesh = meshes.mesh(Orders(), amqp_url=config)
        async with Served(app_of(mesh)) as served:
            await ready(served)
            wire.set(Wire.REFUSE)
            wire.reset()
            reason = await unready(served, State.RECOVERING)
            assert reason.startswith("the connection was lost, and is being restored: ")
            wire.set(Wire.PASS)
            await mesh.wait_for(State.READY, timeout=10)
            await ready(served)
        assert mesh.state is State.STOPPED


async def test_readyz_while_the_mesh_drains(meshes: Meshes) -> None:
    orders = Orders()
    mesh = meshes.mesh(orders)
    client = await meshes.client()
    async with Served(app_of(mesh)) as served:
        call = asyncio.create_task(client.request("orders", "wait", timeout=5))
        await orders.begun.wait()
        stopping = asyncio.create_task(mesh.stop(grace=5))
        assert await unready(served, State.DRAINING) == "shutting down"
        orders.release.set()
        assert await call == "done"
        await stopping
        assert (await unready(served, State.STOPPED)).startswith("not started, or stopped")


async def test_readyz_of_a_mesh_that_takes_no_more_work(meshes: Meshes) -> None:
    """An operator's way to empty a process before it is stopped: what it has begun goes on."""
    mesh = meshes.mesh(Orders())
    async with Served(app_of(mesh)) as served:
        await ready(served)
        await mesh.transport.stop_consuming()
        assert await unready(served, State.READY) == "stopped consuming"
    async with Served(app_of(mesh)) as served:
        await ready(served)


async def test_readyz_of_a_mesh_that_has_failed_for_good(
    mortal_node: RabbitMQNode, meshes: Meshes
) -> None:
    """Its user's password is changed, and its connection closed."""
    node = mortal_node
    await asyncio.to_thread(node.rabbitmqctl, "add_user", "front", "front")
    try:
        everything = (".*", ".*", ".*")
        await asyncio.to_thread(node.rabbitmqctl, "set_permissions", "front", *everything)
        url = node.amqp_url.replace("guest:guest@", "front:front@")
        mesh = meshes.mesh(None, amqp_url=url)
        async with Served(app_of(mesh)) as served:
            await ready(served)
            await asyncio.to_thread(node.rabbitmqctl, "change_password", "front", "other")
            await asyncio.to_thread(node.rabbitmqctl, "close_all_user_connections", "front", "bye")
            reason = await unready(served, State.FAILED, within=30)
            assert reason.startswith("failed: ")
            assert "front:***@" in reason
        assert mesh.state is State.FAILED
    finally:
        await asyncio.to_thread(node.rabbitmqctl, "delete_user", "front")


async def test_readyz_while_the_broker_takes_no_messages(
    mortal_node: RabbitMQNode, meshes: Meshes
) -> None:
    """A memory alarm: the broker blocks a connection when it next publishes."""
    watermark = "set_vm_memory_high_watermark"
    mesh = meshes.mesh(None, amqp_url=mortal_node.amqp_url)
    async with Served(app_of(mesh)) as served:
        await ready(served)
        publishing: asyncio.Task[Any]
        try:
            await asyncio.to_thread(mortal_node.rabbitmqctl, watermark, "0.0000001")
            publishing = asyncio.create_task(mesh.publish_event("nobody.listens", {}, timeout=20))
            reason = await unready(served, State.BLOCKED)
            assert "takes no messages" in reason
        finally:
            await asyncio.to_thread(mortal_node.rabbitmqctl, watermark, "0.4")
        await publishing
        await eventually(lambda: mesh.state is State.READY)
        await ready(served)


class Broken:
    _service_name = "orders"

    def __init__(self) -> None:
        self.error: Exception | None = ConnectionError("postgres://secret")

    async def get(self) -> int:
        if self.error is not None:
            raise self.error
        return 1


async def test_readyz_in_an_outage(meshes: Meshes) -> None:
    orders = Broken()
    mesh = meshes.mesh(orders, outage=Outage(after=2, probe_every=0.1))
    client = await meshes.client()
    async with Served(app_of(mesh)) as served:
        for _ in range(2):
            with pytest.raises(NuropbRemoteError):
                await client.request("orders", "get")
        assert await unready(served, State.OUTAGE) == (
            "handlers fail one after the other: 2 handlers in a row have failed, the last one with "
            "ConnectionError: one message is tried every 0.1 s"
        )
        orders.error = None
        assert await client.request("orders", "get") == 1
        await ready(served)


# -- Starlette is optional ------------------------------------------------------------------


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_importing_the_package_does_not_import_starlette() -> None:
    done = run_python("import nuropb_rmq, sys; print('starlette' in sys.modules)")
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_without_starlette_it_says_what_to_install() -> None:
    hidden = "import sys; sys.modules['starlette'] = None\n"
    done = run_python(f"{hidden}import nuropb_rmq\nimport nuropb_rmq.asgi")
    assert done.returncode == 1
    assert "pip install 'nuropb-rmq-aio[asgi]'" in done.stderr.rstrip().split("\n")[-1]
