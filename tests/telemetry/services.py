"""Two services that call each other in every way."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from nuropb_rmq import (
    Mesh,
    NuropbCallAgain,
    NuropbContextManager,
    Retry,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)

ONCE_MORE = Retry(attempts=2, delays=(0.05,))


def now() -> SpanContext:
    """The current span."""
    return trace.get_current_span().get_span_context()


class Orders:
    """Calls stock, adds events, fails."""

    _service_name = "orders"

    def __init__(self) -> None:
        self.mesh: Mesh
        self.seen: list[tuple[str, int]] = []
        self.fails = True
        self.release = asyncio.Event()

    def _note(self, name: str) -> None:
        self.seen.append((name, now().span_id))

    async def total(self, number: int) -> int:
        """Answer, and no more."""
        self._note("total")
        return number

    @nuropb_context
    async def place(self, ctx: NuropbContextManager, number: int) -> int:
        """Call, command, add an event."""
        self._note("place")
        count: int = await self.mesh.request("stock", "count", {"number": number})
        await self.mesh.command("stock", "reserve", {"number": number})
        ctx.add_event({"topic": "orders.placed", "payload": number})
        return count

    def in_thread(self, number: int) -> bool:
        """Tell whether it runs in a thread of its own."""
        self._note("in_thread")
        return threading.current_thread() is not threading.main_thread()

    async def fail(self, pin: str = "") -> None:
        """Fail as often as it is told."""
        self._note("fail")
        if self.fails:
            raise LookupError(f"no order for {pin}")

    async def again(self) -> None:
        """Be called again, once."""
        self._note("again")
        if len(self.seen) == 1:
            raise NuropbCallAgain

    async def wait(self) -> None:
        """Wait until it is released."""
        self._note("wait")
        await self.release.wait()

    @publish_to_mesh(retry=ONCE_MORE)
    async def flaky(self) -> None:
        """Work at the second time."""
        self._note("flaky")
        if len(self.seen) == 1:
            raise LookupError("not yet")


class Stock:
    """Is called, and listens."""

    _service_name = "stock"

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    async def count(self, number: int) -> int:
        """Answer."""
        self.seen.append(("count", number))
        return number

    async def reserve(self, number: int) -> None:
        """Note it."""
        self.seen.append(("reserve", number))

    @mesh_event("orders.*")
    async def on_order(self, topic: str, event: Any) -> None:
        """Note it."""
        self.seen.append((topic, event))
