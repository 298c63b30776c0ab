"""A client: it calls the orders service, and copes when that says no.

python -m examples.orders.client
"""

from __future__ import annotations

import asyncio
import sys

from nuropb_rmq import Mesh, NuropbNotDeliveredError, NuropbRemoteError, NuropbValidationError

from .interface import OrdersClient
from .running import broker, run


async def main() -> None:
    """Place, pack and cancel an order. Times are in seconds."""
    async with Mesh(broker(), request_timeout=5) as mesh:
        orders = mesh.client(OrdersClient)
        order_id = (await orders.place(item="lamp", count=2)).order_id
        print(f"placed {order_id}")

        total, packed = await asyncio.gather(
            orders.total(order_id), mesh.client(OrdersClient, timeout=10).pack(order_id, 0.2)
        )
        print(f"{total:.2f}, packed: {packed.packed}")

        untyped = mesh.client("orders")
        for call in (untyped.place(item="lamp", count="many"), orders.get("none")):
            try:
                await call
            except NuropbValidationError as e:
                print(f"it does not take this: {e}")
            except NuropbRemoteError as e:
                print(f"it has failed: {e}")

        await mesh.command("orders", "cancel", {"order_id": order_id})  # the broker has it
        print("will be cancelled")
        await mesh.publish_event("orders.asked", {"order_id": order_id})
        try:
            await mesh.request("invoices", "send", {"order_id": order_id})
        except NuropbNotDeliveredError as e:
            print(f"nobody does it: {e}")


if __name__ == "__main__":
    sys.exit(run(main()))
