"""A client: it calls the orders service, and copes when that says no.

python -m examples.orders.client
"""

from __future__ import annotations

import asyncio
import sys

from nuropb_rmq import Mesh, NuropbNotDeliveredError, NuropbRemoteError, NuropbValidationError

from .running import broker, run


async def main() -> None:
    """Place, pack and cancel an order. Times are in seconds."""
    async with Mesh(broker(), request_timeout=5) as mesh:
        order = await mesh.request("orders", "place", {"item": "lamp", "count": 2})
        order_id = order["order_id"]
        print(f"placed {order_id}")

        total, packed = await asyncio.gather(
            mesh.request("orders", "total", {"order_id": order_id}),
            mesh.request("orders", "pack", {"order_id": order_id, "seconds": 0.2}, timeout=10),
        )
        print(f"{total:.2f}, packed: {packed['packed']}")

        for method, params in (
            ("place", {"item": "lamp", "count": "many"}),
            ("get", {"order_id": "none"}),
        ):
            try:
                await mesh.request("orders", method, params)
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
