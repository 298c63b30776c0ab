"""Services as the rest of a program sees them: a class for each, one method per call.

They need a Transport, started elsewhere, and hide payloads and timeouts from whoever uses them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nuropb_rmq import Transport

__all__ = ["Orders", "RemoteError", "Service", "Suppliers"]


class RemoteError(Exception):
    """The service answered with an error: its class name and its text."""

    def __init__(self, name: str, description: str | None) -> None:
        super().__init__(f"{name}: {description}")


class Service:
    """A client of one service. Times are in seconds.

    A request raises RemoteError when the service failed, and a NuropbException when there is no
    answer: NuropbNotDeliveredError, NuropbTimeoutError, NuropbOutcomeUnknownError.
    """

    name: ClassVar[str]

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def _ask(
        self,
        method: str,
        params: dict[str, Any],
        *,
        service: str = "",
        timeout: float = 5.0,
        encrypted: bool = False,
    ) -> Any:
        call = {"service": service or self.name, "method": method, "params": params}
        response = await self._transport.request(
            {"tag": "request", **call}, timeout=timeout, encrypted=encrypted
        )
        error = response["error"]
        if error is not None:
            raise RemoteError(error["error"], error["description"])
        return response["result"]


class Suppliers(Service):
    """A service on nuropb 0.1.8: it is called like any other."""

    name = "suppliers"

    async def offer(self, item: str, count: int) -> Any:
        """Return the price of so many."""
        return await self._ask("offer", {"item": item, "count": count})


class Orders(Service):
    """The orders service."""

    name = "orders"

    async def total(self, order: str) -> Any:
        """Return the price of an order."""
        return await self._ask("total", {"order": order})

    async def place(self, item: str, count: int) -> Any:
        """A new order."""
        return await self._ask("place", {"item": item, "count": count})

    async def pack(self, order: str, seconds: float, timeout: float) -> Any:
        """Work that takes so many seconds, and for how long we wait for it."""
        return await self._ask("pack", {"order": order, "seconds": seconds}, timeout=timeout)

    async def quote(self, number: int, timeout: float) -> Any:
        """The same number, after a while."""
        return await self._ask("quote", {"number": number}, timeout=timeout)

    async def pay(self, order: str, card: str) -> Any:
        """Encrypted with the service's public key; so is the answer."""
        return await self._ask("pay", {"order": order, "card": card}, encrypted=True)

    async def pay_in_plain_text(self, order: str, card: str) -> Any:
        """Ask for something that the service refuses."""
        return await self._ask("pay", {"order": order, "card": card})

    async def invoice(self, order: str) -> Any:
        """Asks a service that nobody runs."""
        return await self._ask("invoice", {"order": order}, service="invoices")

    async def stock(self, item: str) -> Any:
        """Return the number of an item in stock."""
        return await self._ask("stock", {"item": item})

    async def restock(self, delivery: str, item: str, count: int) -> None:
        """A command: returns when the broker has it."""
        params = {"delivery": delivery, "item": item, "count": count}
        await self._transport.send(
            {"tag": "command", "service": "orders", "method": "restock", "params": params}
        )

    async def shipped(self, order: str) -> None:
        """An event, for whoever subscribes: returns when the broker has it."""
        body = {"order": order}
        await self._transport.send(
            {"tag": "event", "topic": "orders.shipped", "event": body, "target": None}
        )
