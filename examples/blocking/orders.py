"""The orders service, as these programs see it: editors and type checkers know its methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass
class Order:
    """An order as the service returns it; results are converted to this class."""

    order_id: str
    item: str
    count: int
    packed: bool


class OrdersAPI(Protocol):
    """Declared with `def`, for calls of a blocking mesh return the result itself."""

    _service_name: ClassVar[str] = "orders"

    def place(self, item: str, count: int) -> Order:
        """A new order."""

    def get(self, order_id: str) -> Order:
        """An order as it is now."""

    def total(self, order_id: str) -> float:
        """Return the price of an order."""

    def pack(self, order_id: str, seconds: float = 0.5) -> Order:
        """Work that takes its time."""
