"""The orders service as its clients see it; `nuropb-rmq stubs orders` writes such a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass
class Order:
    """One order."""

    order_id: str
    item: str
    count: int
    packed: bool = False


class OrdersClient(Protocol):
    """The methods that are called from elsewhere."""

    _service_name: ClassVar[str] = "orders"

    async def place(self, item: str, count: int) -> Order: ...

    async def get(self, order_id: str) -> Order: ...

    async def total(self, order_id: str) -> float: ...

    async def pack(self, order_id: str, seconds: float = 0.5) -> Order: ...
