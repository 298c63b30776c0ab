"""Typed clients of a blocking mesh: interfaces of plain methods."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Protocol

import pytest

from nuropb_rmq import (
    NuropbConfigurationError,
    NuropbNotDeliveredError,
    NuropbRemoteError,
    UnexpectedResultError,
    blocking,
)

from .conftest import Meshes


@dataclass
class Order:
    number: int
    day: datetime.date
    price: Decimal


class Shop:
    """The service. Its class is an interface, too."""

    _service_name = "shop"

    async def order(self, number: int, day: datetime.date | None = None) -> Order:
        """Asynchronous there."""
        return Order(number, day or datetime.date(2026, 1, 2), Decimal("12.50"))

    def count(self, *, item: str = "lamp") -> Any:
        """Synchronous."""
        if item == "clock":
            raise LookupError("no clocks")
        return 3 if item == "lamp" else f"no number of {item}s"


class ShopAPI(Protocol):
    """As a synchronous program sees it."""

    _service_name: ClassVar[str] = "shop"

    def order(self, number: int, day: datetime.date | None = None) -> Order: ...

    def count(self, *, item: str = "lamp") -> int: ...


class Abstract(ABC):
    """Without a name of its own."""

    @abstractmethod
    def order(self, number: int) -> Order:
        """An order."""


EXPECTED = Order(7, datetime.date(2026, 1, 2), Decimal("12.50"))


@pytest.fixture
def mesh(meshes: Meshes) -> blocking.Mesh:
    """A client, on each of the two brokers."""
    meshes.start(Shop())
    return meshes.start()


@pytest.fixture
def alone(in_memory: Meshes) -> blocking.Mesh:
    """It serves, and calls itself."""
    return in_memory.start(Shop())


def test_a_protocol(mesh: blocking.Mesh) -> None:
    shop = mesh.client(ShopAPI)
    assert shop.order(7) == shop.order(number=7) == EXPECTED
    assert shop.order(7, datetime.date(2026, 3, 4)).day == datetime.date(2026, 3, 4)
    assert shop.count() == shop.count(item="lamp") == 3
    assert mesh.client(Abstract, "shop").order(number=7) == EXPECTED


def test_the_class_of_the_service(alone: blocking.Mesh) -> None:
    shop = alone.client(Shop)
    assert shop.count() == 3
    with pytest.raises(TypeError, match=r"^shop\.order is async: declare it with `def`"):
        shop.order(7)  # type: ignore[unused-coroutine]


def test_without_types(alone: blocking.Mesh) -> None:
    shop = alone.client("shop")
    assert shop.order(number=7)["price"] == "12.50"
    assert repr(shop) == "<client of service 'shop'>"


def test_errors(alone: blocking.Mesh) -> None:
    shop: Any = alone.client(ShopAPI)
    with pytest.raises(UnexpectedResultError, match=r"^shop.count: result: expected an integer"):
        shop.count(item="chair")
    with pytest.raises(NuropbRemoteError, match="no clocks"):
        shop.count(item="clock")
    with pytest.raises(TypeError, match="missing a required argument: 'number'"):
        shop.order()
    with pytest.raises(AttributeError, match=r"no such method; did you mean order\?"):
        shop.ordr(7)
    with pytest.raises(NuropbNotDeliveredError):
        alone.client(ShopAPI, "nobody", timeout=5, encrypted=False).count()


class Asynchronous(Protocol):
    async def get(self) -> int: ...


def test_an_interface_of_async_methods() -> None:
    says = r"^interface: Asynchronous.get is async: declare it with `def` in a Protocol, for calls"
    with pytest.raises(NuropbConfigurationError, match=says):
        blocking.Mesh("memory://clients").client(Asynchronous, "shop")


def what_type_checkers_see(mesh: blocking.Mesh) -> None:
    """Never run: scripts/check fails when one of these errors is not found."""
    shop = mesh.client(ShopAPI)
    number: int = shop.count()
    text: str = shop.count()  # type: ignore[assignment]
    shop.order(number="7")  # type: ignore[arg-type]
    shop.ordr(7)  # type: ignore[attr-defined]
    shop.order()  # type: ignore[call-arg]
    price: Decimal = mesh.client(Abstract, "shop").order(7).price
    anything: object = mesh.client("shop").whatever(n=1)
    with mesh as same:
        answer: int = same.request("shop", "count")
    del number, text, price, anything, answer
