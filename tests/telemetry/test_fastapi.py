"""One HTTP request is one trace, from the server's span down to the event's subscriber."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from nuropb_rmq import Mesh
from nuropb_rmq.asgi import get_mesh, lifespan
from nuropb_rmq.telemetry import Links

from ..asgi.support import Served
from ..support import eventually
from .services import Orders, Stock
from .support import Recorded, Traced, links_of, span_id, trace_id

TheMesh = Annotated[Mesh, Depends(get_mesh)]
LISTENER = "process nuropb-events-exchange:orders.*:nuropb-stock-sq"


@pytest.mark.parametrize("links", Links)
async def test_one_http_request_is_one_tree(
    meshes: Traced, recorded: Recorded, links: Links
) -> None:
    meshes.options = {"links": links}
    orders, stock = Orders(), Stock()
    orders.mesh = await meshes.serve(orders)
    await meshes.serve(stock)
    app = FastAPI(lifespan=lifespan(meshes.mesh(service_name="front")))

    @app.post("/orders/{number}")
    async def place(number: int, mesh: TheMesh) -> Any:
        return await mesh.request("orders", "place", {"number": number})

    FastAPIInstrumentor.instrument_app(app, tracer_provider=recorded.tracer_provider)
    async with Served(app) as served:
        answer = await served.http.post("/orders/7")
        assert (answer.status_code, answer.json()) == (200, 7)
        await eventually(lambda: len(stock.seen) == 3)
        await recorded.count(LISTENER)
        await recorded.count("POST /orders/{number}")
    FastAPIInstrumentor.uninstrument_app(app)
    http = recorded.named("POST /orders/{number}")
    listener = recorded.named(LISTENER)
    of_one_trace = {trace_id(each) for each in recorded.spans if each is not listener}
    assert of_one_trace == {trace_id(http)}
    assert (trace_id(listener) == trace_id(http)) is (links is Links.CHILD)
    if links is Links.LINK:
        published = recorded.named("publish nuropb-events-exchange:orders.placed")
        assert links_of(listener) == [span_id(published)]
    lines = recorded.tree.splitlines()
    assert lines[0] == "SERVER POST /orders/{number}"
    assert "  CLIENT orders/place" in lines
