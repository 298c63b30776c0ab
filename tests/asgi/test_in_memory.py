"""An application whose mesh is on memory://: it needs no broker, and its health says so."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nuropb_rmq import Mesh
from nuropb_rmq.asgi import get_mesh, health_routes, lifespan
from nuropb_rmq.testing import MemoryBroker, MemoryMesh

from .support import Served


class Orders:
    _service_name = "orders"

    async def place(self, item: str) -> dict[str, str]:
        return {"item": item}


def fastapi_app(url: str) -> FastAPI:
    mesh = Mesh(url)
    app = FastAPI(lifespan=lifespan(mesh), routes=health_routes(mesh))

    @app.post("/orders")
    async def place(item: str, mesh: Annotated[Mesh, Depends(get_mesh)]) -> Any:
        return await mesh.request("orders", "place", {"item": item}, timeout=5)

    return app


def starlette_app(url: str) -> Starlette:
    mesh = Mesh(url)

    async def place(request: Request) -> JSONResponse:
        params = dict(request.query_params)
        return JSONResponse(await get_mesh(request).request("orders", "place", params, timeout=5))

    routes = [Route("/orders", place, methods=["POST"]), *health_routes(mesh)]
    return Starlette(lifespan=lifespan(mesh), routes=routes)


@pytest.mark.parametrize("make_app", [fastapi_app, starlette_app])
# Starlette's own: of versions since 1.1, and of 1.0.
@pytest.mark.filterwarnings("ignore:Using `httpx` with")
@pytest.mark.filterwarnings("ignore:The anyio.abc.BlockingPortal alias")
def test_under_test_client(make_app: Any, mesh_broker: MemoryBroker) -> None:
    """Twice: the broker is there for one event loop after the other."""
    from starlette.testclient import TestClient

    for _ in range(2):
        with TestClient(make_app(mesh_broker.url)) as http:
            assert http.portal is not None
            service = Mesh(mesh_broker.url, service=Orders())
            with http.portal.wrap_async_context_manager(service):
                answer = http.post("/orders", params={"item": "lamp"})
                assert (answer.status_code, answer.json()) == (200, {"item": "lamp"})
    assert [each.params for each in mesh_broker.requests("orders")] == [{"item": "lamp"}] * 2


async def test_under_httpx_with_a_mesh_of_the_test(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    await memory_mesh(Orders())
    client = await memory_mesh()
    app = fastapi_app(mesh_broker.url)
    app.dependency_overrides[get_mesh] = lambda: client
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        answer = await http.post("/orders", params={"item": "lamp"})
        assert (answer.status_code, answer.json()) == (200, {"item": "lamp"})


@pytest.mark.parametrize("make_app", [fastapi_app, starlette_app])
async def test_under_httpx_with_its_lifespan(
    make_app: Any, memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    await memory_mesh(Orders())
    async with Served(make_app(mesh_broker.url)) as served:
        answer = await served.http.post("/orders", params={"item": "lamp"})
        assert (answer.status_code, answer.json()) == (200, {"item": "lamp"})


async def test_health_says_that_the_broker_is_in_memory(mesh_broker: MemoryBroker) -> None:
    mesh = Mesh(mesh_broker.url)
    routes = health_routes(mesh)
    async with Served(Starlette(routes=routes)) as served:
        status, told = await served.get("/readyz")
        reason = "not started, or stopped"
        assert told.pop("parts")["connection"] == reason
        stopped = {"ready": False, "state": "STOPPED", "broker": "memory", "reason": reason}
        assert (status, told) == (503, stopped)
    async with Served(Starlette(lifespan=lifespan(mesh), routes=routes)) as served:
        status, told = await served.get("/readyz")
        assert set(told.pop("parts").values()) == {None}
        assert (status, told) == (200, {"ready": True, "state": "READY", "broker": "memory"})
        assert await served.get("/livez") == (200, {"alive": True})
