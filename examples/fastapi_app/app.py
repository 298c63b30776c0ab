"""The application: a mesh in its lifespan, at hand in every call, and its health on two routes."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from nuropb_rmq import (
    Mesh,
    NuropbException,
    NuropbNotDeliveredError,
    NuropbOutcomeUnknownError,
    NuropbRemoteError,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbValidationError,
)
from nuropb_rmq.asgi import get_mesh, health_routes, lifespan

TIMEOUT = 5.0  # seconds that a call to the mesh may take, and so, about, a call to this front

logger = logging.getLogger("examples.fastapi_app")

mesh = Mesh(
    os.environ.get("AMQP_URL", "amqp://guest:guest@localhost/"),
    service_name="front",
    request_timeout=TIMEOUT,
)
app = FastAPI(
    title="Orders",
    lifespan=lifespan(mesh, start_degraded=os.environ.get("START_DEGRADED") == "1"),
    routes=health_routes(mesh),
)

TheMesh = Annotated[Mesh, Depends(get_mesh)]


class NewOrder(BaseModel):
    """What a customer wants."""

    item: str
    count: int = 1


@app.post("/orders", status_code=201)
async def place(order: NewOrder, mesh: TheMesh) -> Any:
    """Place an order."""
    return await mesh.request("orders", "place", order.model_dump())


@app.get("/orders/{order_id}")
async def get(order_id: str, mesh: TheMesh) -> Any:
    """An order as it is now."""
    try:
        return await mesh.request("orders", "get", {"order_id": order_id})
    except NuropbRemoteError as e:
        if e.error != "LookupError":
            raise
        raise HTTPException(404, e.description) from e


@app.post("/orders/{order_id}/packing")
async def pack(order_id: str, mesh: TheMesh, seconds: float = 0.5) -> Any:
    """Have an order packed, and wait for it."""
    return await mesh.request("orders", "pack", {"order_id": order_id, "seconds": seconds})


@app.delete("/orders/{order_id}", status_code=202)
async def cancel(order_id: str, mesh: TheMesh) -> None:
    """Have an order cancelled, without waiting: 202 says that the broker has the command."""
    await mesh.command("orders", "cancel", {"order_id": order_id}, timeout=TIMEOUT)


# -- errors of the mesh, as HTTP puts them. The first class that fits counts. ------------------

ANSWERS: dict[type[NuropbException], tuple[int, str | None]] = {
    NuropbValidationError: (422, None),  # the service's own words, as with the next
    NuropbRemoteError: (502, None),
    NuropbTimeoutError: (504, "the orders service has not answered in time"),
    NuropbOutcomeUnknownError: (504, "the connection was lost: it may or may not have been done"),
    NuropbNotDeliveredError: (503, "there is no orders service"),
    NuropbTransportError: (503, "the orders service cannot be reached"),
}


@app.exception_handler(NuropbException)
async def not_done(request: Request, error: NuropbException) -> JSONResponse:
    """What a caller may know. Hosts and users, which some texts name, go to the log only."""
    logger.warning("%s %r: %s", request.method, request.url.path, error)
    for kind, (status, text) in ANSWERS.items():
        if isinstance(error, kind):
            return JSONResponse({"detail": text or error.description}, status)
    return JSONResponse({"detail": "the orders service has failed"}, 500)
