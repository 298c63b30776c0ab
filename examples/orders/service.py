"""The orders service: an object whose public methods are called from elsewhere.

python -m examples.orders.service
"""

from __future__ import annotations

import asyncio
import sys
import uuid

from nuropb_rmq import Mesh, NuropbContextManager, NuropbValidationError, nuropb_context

from .interface import Order
from .running import broker, run, until_stopped

PRICES = {"lamp": 29.90, "chair": 89.00}


class Orders:
    """Orders in memory. A method returns its answer, or raises the error that its caller gets.

    Parameters are checked against the hints before a method is called. Asynchronous methods share
    the event loop, so that they may share what is in memory as well; a service that runs more
    than once would keep it in a database.
    """

    _service_name = "orders"

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}

    @nuropb_context
    async def place(self, ctx: NuropbContextManager, item: str, count: int) -> Order:
        """A new order. Its event is published when this has succeeded, and not otherwise."""
        if item not in PRICES:
            raise NuropbValidationError(f"item: there is no {item!r}")
        order = Order(uuid.uuid4().hex[:8], item, count)
        self._orders[order.order_id] = order
        ctx.add_event({"topic": "orders.placed", "event": order})
        return order

    async def get(self, order_id: str) -> Order:
        """An order as it is now."""
        return self._order(order_id)

    async def total(self, order_id: str) -> float:
        """Return the price of an order."""
        order = self._order(order_id)
        return round(order.count * PRICES[order.item], 2)

    async def pack(self, order_id: str, seconds: float = 0.5) -> Order:
        """Work that takes its time; many orders are packed at once.

        It bears being done again, as everything must that is delivered at least once.
        """
        order = self._order(order_id)
        print(f"packing {order_id}", flush=True)
        await asyncio.sleep(seconds)
        order.packed = True
        return order

    @nuropb_context
    async def cancel(self, ctx: NuropbContextManager, order_id: str) -> None:
        """Sent as a command: nobody waits for it. Cancelling twice is cancelling once."""
        if self._orders.pop(order_id, None) is not None:
            ctx.add_event({"topic": "orders.cancelled", "event": {"order_id": order_id}})

    def _order(self, order_id: str) -> Order:
        if order_id not in self._orders:
            raise LookupError(f"there is no order {order_id}")
        return self._orders[order_id]


async def main() -> None:
    """Be the orders service until told to stop."""
    async with Mesh(broker(), service=Orders()) as mesh:
        print("ready", flush=True)
        await until_stopped(mesh)


if __name__ == "__main__":
    sys.exit(run(main()))
