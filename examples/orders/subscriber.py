"""An event subscriber: a service that hears of every order.

python -m examples.orders.subscriber
"""

from __future__ import annotations

import sys
from typing import Any

from nuropb_rmq import Mesh, mesh_event

from .running import broker, run, until_stopped


class Audit:
    """Its name owns the queue: what happens while it is away waits there for its return.

    Several of one name share the events; every name gets its own copy.
    """

    _service_name = "audit"

    @mesh_event("orders.*")
    async def note(self, topic: str, event: dict[str, Any]) -> None:
        """It is awaited, and then the event is acknowledged."""
        print(f"{topic} {event['order_id']}", flush=True)


async def main() -> None:
    """Hear of orders until told to stop."""
    async with Mesh(broker(), service=Audit()) as mesh:
        print("ready", flush=True)
        await until_stopped(mesh)


if __name__ == "__main__":
    sys.exit(run(main()))
