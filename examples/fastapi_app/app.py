"""The application: a mesh in its lifespan, at hand in every call, and its health on two routes."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel

from examples.orders.interface import Order, OrdersClient
from nuropb_rmq import Mesh, NuropbRemoteError
from nuropb_rmq.asgi import exception_handlers, get_mesh, health_routes, lifespan

TIMEOUT = 5.0  # seconds that a call to the mesh may take, and so, about, a call to this front

mesh = Mesh(
    os.environ.get("AMQP_URL", "amqp://guest:guest@localhost/"),
    service_name="front",
    request_timeout=TIMEOUT,
)
TheMesh = Annotated[Mesh, Depends(get_mesh)]

app = FastAPI(
    title="Orders",
    lifespan=lifespan(mesh, start_degraded=os.environ.get("START_DEGRADED") == "1"),
    routes=health_routes(mesh),
    exception_handlers=exception_handlers(),
)


def get_orders(mesh: TheMesh) -> OrdersClient:
    """Return a client of the orders service."""
    return mesh.client(OrdersClient)


TheOrders = Annotated[OrdersClient, Depends(get_orders)]


class NewOrder(BaseModel):
    """An order that a customer places."""

    item: str
    count: int = 1


@app.post("/orders", status_code=201)
async def place(order: NewOrder, orders: TheOrders) -> Order:
    """Place an order."""
    return await orders.place(order.item, order.count)


@app.get("/orders/{order_id}")
async def get(order_id: str, orders: TheOrders) -> Order:
    """An order as it is now."""
    try:
        return await orders.get(order_id)
    except NuropbRemoteError as e:
        if e.error != "LookupError":
            raise
        raise HTTPException(404, e.description) from e


@app.post("/orders/{order_id}/packing")
async def pack(order_id: str, orders: TheOrders, seconds: float = 0.5) -> Order:
    """Have an order packed, and wait for it."""
    return await orders.pack(order_id, seconds)


@app.delete("/orders/{order_id}", status_code=202)
async def cancel(order_id: str, mesh: TheMesh) -> None:
    """Have an order cancelled, without waiting: 202 says that the broker has the command."""
    await mesh.command("orders", "cancel", {"order_id": order_id}, timeout=TIMEOUT)
