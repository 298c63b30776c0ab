"""The programs whose deployment `doctor` looks at: tests.cli.deployed:Orders, and others."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from nuropb_rmq import Mesh, Retry, TransportConfig, mesh_event, publish_to_mesh


class Orders:
    _service_name = "orders"

    async def get(self, number: int) -> int:
        return number

    @publish_to_mesh(retry=Retry(attempts=2, delays=(0.1,)))
    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def fail(self) -> None:
        raise RuntimeError("the database is away")

    @mesh_event("shop.*")
    async def on_shop(self, event: object) -> None: ...


PROGRAMS: dict[str, dict[str, Any]] = {
    "quorum": {"queue_type": "quorum"},
    "limited": {"queue_type": "quorum", "delivery_limit": 20},
    "single": {"single_active_consumer": True},
    "large": {"max_body_bytes": 2**30},
    "patient": {"handler_timeout": 3600},
}


def __getattr__(name: str) -> Mesh:
    """Return the service with other settings, at the address of the environment."""
    if name not in PROGRAMS:
        raise AttributeError(name)
    url = os.environ["NUROPB_RMQ_URL"]
    config = TransportConfig(amqp_url=url, service_name="orders", **PROGRAMS[name])
    return Mesh(config, service=Orders())
