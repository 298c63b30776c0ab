# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Never run: what type checkers see of typed calls.

scripts/check lets mypy and pyright read it. Each fails where it does not find one of the errors
that are expected here.
"""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Protocol

from nuropb_rmq import Mesh


@dataclass
class Order:
    number: int
    price: Decimal


class OrdersAPI(Protocol):
    _service_name: ClassVar[str] = "orders"

    async def order(self, number: int, day: datetime.date | None = None) -> Order: ...

    async def count(self, *, item: str = "lamp") -> int: ...


class Abstract(ABC):
    @abstractmethod
    async def order(self, number: int) -> Order:
        """An order."""


class Service:
    async def order(self, number: int) -> Order:
        """An order."""
        return Order(number, Decimal(1))


async def a_protocol(mesh: Mesh) -> None:
    orders = mesh.client(OrdersAPI)
    price: Decimal = (await orders.order(7)).price
    number: int = await orders.count(item="chair")
    text: str = await orders.count()  # type: ignore[assignment]
    await orders.order(number="7")  # type: ignore[arg-type]
    await orders.ordr(7)  # type: ignore[attr-defined]
    await orders.order()  # type: ignore[call-arg]
    await mesh.client(OrdersAPI, timeout="5").count()  # type: ignore[call-overload]
    print(price, number, text)


async def other_interfaces(mesh: Mesh) -> None:
    of_an_abc: Order = await mesh.client(Abstract, "orders").order(7)
    of_a_class: Order = await mesh.client(Service, "orders", timeout=5).order(7)
    of_none: object = await mesh.client("orders").whatever(n=1)
    await mesh.check(OrdersAPI)
    await mesh.check(Abstract, "orders")
    print(of_an_abc, of_a_class, of_none)
