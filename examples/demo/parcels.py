"""Two services, parcels and warehouse, on RabbitMQ or on memory://, all in one process.

The demo shows by them how a trace id travels, how a retry waits, and how a dead letter is read and
sent back. A URL is all that differs between the two brokers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nuropb_rmq import (
    Mesh,
    Message,
    NuropbContextManager,
    Observer,
    Retry,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)

__all__ = ["DELAY", "Cast", "Received", "playing"]

DELAY = 1.0  # seconds that a booking waits for its next try
WITHIN = 10.0  # seconds that we wait for a message


@dataclass(frozen=True, slots=True)
class Received:
    """A message that has reached a service."""

    service: str
    kind: str
    name: str
    """The method, or the topic of an event."""
    trace_id: str | None


class Watch(Observer):
    """Hears of every message that a mesh receives."""

    def __init__(self, service: str, received: asyncio.Queue[Received]) -> None:
        self._service = service
        self._received = received

    def received(self, message: Message) -> None:
        name = message.payload.get("method") or message.payload.get("topic") or ""
        if not name.startswith("nuropb_"):  # the question which methods there are
            kind = str(message.payload["tag"])
            self._received.put_nowait(Received(self._service, kind, name, message.trace_id))


class Warehouse:
    """It picks, books a carrier, and prints labels."""

    _service_name = "warehouse"

    def __init__(self) -> None:
        self._busy = True
        self.tries: asyncio.Queue[float] = asyncio.Queue()
        self.has_labels = False
        self.printed: asyncio.Queue[str] = asyncio.Queue()

    async def pick(self, order: str) -> None:
        """A command of parcels."""

    @mesh_event("parcels.sent")
    async def on_sent(self, event: dict[str, Any]) -> None:
        """An event of parcels."""

    @publish_to_mesh(retry=Retry(attempts=3, delays=(DELAY,), only=(ConnectionError,)))
    async def book(self, order: str) -> None:
        """The first try fails, as if the carrier's server restarted."""
        self.tries.put_nowait(time.monotonic())
        if self._busy:
            self._busy = False
            raise ConnectionError("the carrier does not answer")

    async def label(self, order: str) -> None:
        """It fails until somebody brings labels."""
        if not self.has_labels:
            raise RuntimeError("the printer has no labels")
        self.printed.put_nowait(order)


class Parcels:
    """It sends what was ordered."""

    _service_name = "parcels"

    def __init__(self) -> None:
        self.mesh: Mesh | None = None  # a service that calls others has the mesh it is on

    async def price(self, kilograms: int) -> dict[str, Any]:
        """Fails for what is too heavy."""
        if kilograms > 30:
            raise ValueError(f"{kilograms} kg are too heavy")
        return {"kilograms": kilograms, "price": f"{4 + kilograms}.90"}

    @nuropb_context
    async def send(self, ctx: NuropbContextManager, order: str) -> dict[str, Any]:
        """Sends a command and adds an event; both carry the trace id of the request."""
        assert self.mesh is not None
        await self.mesh.command("warehouse", "pick", {"order": order})
        ctx.add_event({"topic": "parcels.sent", "event": {"order": order}})
        return {"order": order, "parcel": "P-1"}


@dataclass(slots=True)
class Cast:
    """The client's mesh, the services, and the messages that they received."""

    url: str
    client: Mesh
    warehouse: Warehouse
    messages: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)

    async def received(self, number: int) -> list[Received]:
        """Return the next so many messages; TimeoutError when they do not come."""
        async with asyncio.timeout(WITHIN):
            return [await self.messages.get() for _ in range(number)]

    def forget(self) -> None:
        """Drop what came so far."""
        while not self.messages.empty():
            self.messages.get_nowait()


@asynccontextmanager
async def playing(url: str) -> AsyncIterator[Cast]:
    """Run both services and a client until the end of the block."""
    parcels, warehouse = Parcels(), Warehouse()
    async with (
        Mesh(url, service=warehouse) as behind,
        Mesh(url, service=parcels) as front,
        Mesh(url) as client,
    ):
        parcels.mesh = front
        cast = Cast(url, client, warehouse)
        front.observe(Watch("parcels", cast.messages))
        behind.observe(Watch("warehouse", cast.messages))
        yield cast
