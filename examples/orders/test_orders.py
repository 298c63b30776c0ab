"""Tests of the programs in this folder. They need no broker.

python -m pytest examples/orders
"""

from __future__ import annotations

from dataclasses import asdict

import pytest

from nuropb_rmq import NuropbRemoteError, NuropbValidationError
from nuropb_rmq.testing import MemoryBroker, MemoryMesh

from . import client
from .interface import Order, OrdersClient
from .service import Orders
from .subscriber import Audit


async def test_an_order_is_placed(memory_mesh: MemoryMesh, mesh_broker: MemoryBroker) -> None:
    mesh = await memory_mesh(Orders())
    orders = mesh.client(OrdersClient)
    order = await orders.place("lamp", count=2)
    assert order == Order(order.order_id, "lamp", 2)
    assert await orders.get(order.order_id) == order
    assert await orders.total(order.order_id) == 59.80
    placed = await mesh_broker.event("orders.placed")
    assert placed.event == asdict(order)


async def test_clients_and_service_agree(memory_mesh: MemoryMesh) -> None:
    mesh = await memory_mesh(Orders())
    await mesh.check(OrdersClient)


async def test_an_order_is_cancelled_once(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    mesh = await memory_mesh(Orders())
    order = await mesh.client(OrdersClient).place("chair", count=1)
    order_id = {"order_id": order.order_id}
    await mesh.command("orders", "cancel", order_id)
    assert (await mesh_broker.event("orders.cancelled")).event == order_id
    await mesh.request("orders", "cancel", order_id)
    assert len(mesh_broker.events("orders.cancelled")) == 1
    assert mesh_broker.dead_letters("orders") == []


async def test_what_it_does_not_take(memory_mesh: MemoryMesh, mesh_broker: MemoryBroker) -> None:
    mesh = await memory_mesh(Orders())
    with pytest.raises(NuropbValidationError, match="there is no 'yacht'"):
        await mesh.request("orders", "place", {"item": "yacht", "count": 1})
    with pytest.raises(NuropbValidationError, match=r"params\.count: expected an integer"):
        await mesh.request("orders", "place", {"item": "lamp", "count": "many"})
    with pytest.raises(NuropbRemoteError, match="there is no order none"):
        await mesh.request("orders", "pack", {"order_id": "none"})
    assert mesh_broker.events() == []


async def test_the_subscriber_hears_of_every_order(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    subscriber = await memory_mesh(Audit())
    mesh = await memory_mesh()
    await mesh.publish_event("orders.placed", {"order_id": "A-1"})
    await mesh.publish_event("orders.placed", {"id": "A-2"})
    letter = await mesh_broker.dead_letter("audit")  # an order without its id
    assert letter.event == {"id": "A-2"}
    await subscriber.stop()  # it finishes what it has begun
    assert capsys.readouterr().out == "orders.placed A-1\n"


async def test_the_client(
    memory_mesh: MemoryMesh,
    mesh_broker: MemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AMQP_URL", mesh_broker.url)
    await memory_mesh(Orders())
    await client.main()
    assert [each.method for each in mesh_broker.requests("orders")] == [
        *("place", "total", "pack", "place", "get")
    ]
    cancel = await mesh_broker.command("orders", "cancel")
    (asked,) = mesh_broker.events("orders.asked")
    assert asked.event == cancel.params
    assert "nobody does it" in capsys.readouterr().out
