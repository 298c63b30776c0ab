"""A mesh that starts and stops with its application, and is at hand in every request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, TypedDict

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from nuropb_rmq import (
    InstanceInUseError,
    Mesh,
    NuropbConfigurationError,
    NuropbTimeoutError,
    NuropbTransportError,
    State,
)
from nuropb_rmq.asgi import MeshState, get_mesh, lifespan

from ..mesh.support import Meshes
from .support import Served, StartupFailed

TheMesh = Annotated[Mesh, Depends(get_mesh)]


class Orders:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended: list[str] = []

    async def echo(self, **params: Any) -> Any:
        return params

    async def wait(self, seconds: float) -> str:
        self.begun.set()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.ended.append("cut off")
            raise
        self.ended.append("finished")
        return "finished"


async def ask(request: Request[MeshState]) -> JSONResponse:
    mesh = request.state["mesh"]
    assert get_mesh(request) is mesh
    return JSONResponse(await mesh.request("orders", "echo", {"n": 1}, timeout=5))


async def test_starlette(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())
    inner = Starlette(routes=[Route("/ask", ask)])
    app = Starlette(routes=[Route("/ask", ask), Mount("/in", inner)], lifespan=lifespan(mesh))
    for _ in range(2):  # a lifespan can be run again
        async with Served(app) as served:
            assert served.state == {"mesh": mesh}
            assert mesh.state.up
            assert await served.get("/ask") == (200, {"n": 1})
            assert await served.get("/in/ask") == (200, {"n": 1})
        assert mesh.state.over


async def test_fastapi(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())
    app = FastAPI(lifespan=lifespan(mesh))
    router = APIRouter()

    @router.get("/ask/{n}")
    async def ask_for(n: int, mesh: TheMesh) -> Any:
        return await mesh.request("orders", "echo", {"n": n}, timeout=5)

    @router.get("/sync")
    def in_a_thread(mesh: TheMesh) -> str:
        return mesh.service_name

    @router.websocket("/ws")
    async def ws(websocket: WebSocket, mesh: TheMesh) -> None:
        await websocket.accept()
        await websocket.send_text(str(await mesh.request("orders", "echo", {"n": 3}, timeout=5)))
        await websocket.close()

    app.include_router(router)
    async with Served(app) as served:
        assert await served.get("/ask/2") == (200, {"n": 2})
        assert await served.get("/sync") == (200, "orders")
        assert await served.websocket("/ws") == "{'n': 3}"
        assert [each["name"] for each in parameters(app)] == ["n"]
    assert mesh.state is State.STOPPED


def parameters(app: FastAPI) -> list[dict[str, Any]]:
    """Return the parameters of /ask/{n} in the description of the API."""
    found: list[dict[str, Any]] = app.openapi()["paths"]["/ask/{n}"]["get"]["parameters"]
    return found


class MoreState(MeshState):
    number: int


class Number(TypedDict):
    number: int


async def test_it_composes_with_another_lifespan(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())
    order: list[str] = []

    @asynccontextmanager
    async def number(app: Any) -> AsyncIterator[Number]:
        order.append(f"number begins, the mesh is {mesh.state.name}")
        yield {"number": 7}
        order.append(f"number ends, the mesh is {mesh.state.name}")

    @asynccontextmanager
    async def both(app: Starlette) -> AsyncIterator[MoreState]:
        async with number(app) as other, lifespan(mesh)(app) as state:
            yield {**state, **other}

    async with Served(Starlette(lifespan=both)) as served:
        assert served.state == {"mesh": mesh, "number": 7}
    assert order == ["number begins, the mesh is STOPPED", "number ends, the mesh is STOPPED"]


async def test_a_router_of_fastapi_may_bring_it(meshes: Meshes) -> None:
    """FastAPI merges the lifespans of its routers, and their states."""

    @asynccontextmanager
    async def number(app: FastAPI) -> AsyncIterator[Number]:
        yield {"number": 7}

    mesh = meshes.mesh(Orders())
    app = FastAPI(lifespan=number)
    app.include_router(APIRouter(lifespan=lifespan(mesh)))
    async with Served(app) as served:
        assert served.state == {"mesh": mesh, "number": 7}
    assert mesh.state is State.STOPPED


@pytest.mark.parametrize("url", ["amqp://guest:guest@127.0.0.1:1/", "wrong password"])
async def test_without_the_broker_it_fails_and_says_why(meshes: Meshes, url: str) -> None:
    if url == "wrong password":
        url = meshes.url.replace("guest:guest@", "guest:hunter2@")
    mesh = meshes.mesh(Orders(), amqp_url=url)
    closed: list[str] = []

    @asynccontextmanager
    async def other(app: Any) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(closed.append, "other")
            yield

    @asynccontextmanager
    async def both(app: Any) -> AsyncIterator[MeshState]:
        async with other(app), lifespan(mesh)(app) as state:
            yield state

    for run in (lifespan(mesh), both):
        started = time.monotonic()
        with pytest.raises(StartupFailed) as caught:
            async with Served(FastAPI(lifespan=run)):
                pytest.fail("it has started")
        assert time.monotonic() - started < 8
        *trace, last = str(caught.value).rstrip().split("\n")
        assert "127.0.0.1" in last
        assert "refused" in last.lower()
        assert "aiormq" not in "".join(trace), "causes bury the text"
        assert "hunter2" not in str(caught.value)
        assert mesh.state.over
    assert closed == ["other"]


async def test_other_errors_at_the_start_are_told_too(meshes: Meshes) -> None:
    first = await meshes.serve(Orders(), instance_id="1")
    config = meshes.config(instance_id="1", instance_retry=0.2)
    second = meshes.mesh(Orders(), amqp_url=config)
    with pytest.raises(InstanceInUseError):
        async with lifespan(second)(None):
            pytest.fail("it has started")
    assert first.state is State.READY


async def test_a_mesh_that_runs_already_is_refused_and_left_alone(meshes: Meshes) -> None:
    mesh = await meshes.serve(Orders())
    for degraded in (False, True):
        with pytest.raises(NuropbTransportError, match="READY already: only lifespan"):
            async with lifespan(mesh, start_degraded=degraded)(None):
                pytest.fail("it has started")
    assert await mesh.request("orders", "echo", {"n": 1}) == {"n": 1}


async def test_it_finishes_what_is_in_hand(meshes: Meshes) -> None:
    orders = Orders()
    client = await meshes.client()
    mesh = meshes.mesh(orders)
    async with Served(FastAPI(lifespan=lifespan(mesh, grace=5))):
        call = asyncio.create_task(client.request("orders", "wait", {"seconds": 0.5}, timeout=5))
        await orders.begun.wait()
    assert orders.ended == ["finished"]
    assert await call == "finished"


async def test_it_waits_no_longer_than_its_grace(meshes: Meshes) -> None:
    orders = Orders()
    client = await meshes.client()
    mesh = meshes.mesh(orders)
    async with Served(FastAPI(lifespan=lifespan(mesh, grace=0.2))):
        call = asyncio.create_task(client.request("orders", "wait", {"seconds": 60}, timeout=2))
        await orders.begun.wait()
        started = time.monotonic()
    assert time.monotonic() - started < 4
    assert orders.ended == ["cut off"]
    with pytest.raises(NuropbTimeoutError):  # back in the queue, and nobody takes it
        await call


async def test_a_lifespan_that_is_cancelled_stops_the_mesh(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())

    async def run() -> None:
        async with lifespan(mesh)(None):
            await asyncio.Event().wait()

    for after in (State.CONNECTING, State.READY):
        running = asyncio.create_task(run())
        while mesh.state is not after:  # noqa: ASYNC110 - CONNECTING is not told while configuring
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert mesh.state.over


async def test_the_body_s_own_error_goes_on(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())
    with pytest.raises(LookupError):
        async with lifespan(mesh)(None):
            raise LookupError
    assert mesh.state is State.STOPPED


async def test_without_a_lifespan_get_mesh_says_what_to_do() -> None:
    scope = {"type": "http", "state": {"other": 1}}
    for given in (scope, {"type": "http"}):
        with pytest.raises(NuropbConfigurationError, match=r"lifespan=lifespan\(mesh\)") as caught:
            get_mesh(Request(given))
        assert caught.value.field == "lifespan"
