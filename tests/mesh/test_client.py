"""Typed clients: a Protocol, an ABC or the service's class in place of names in strings."""

from __future__ import annotations

import asyncio
import datetime
import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Protocol

import pytest

from nuropb_rmq import (
    Mesh,
    NuropbConfigurationError,
    NuropbContextManager,
    NuropbRemoteError,
    NuropbTimeoutError,
    UnexpectedResultError,
    nuropb_context,
    publish_to_mesh,
)
from nuropb_rmq.testing import MemoryMesh


@dataclass
class Line:
    item: str
    price: Decimal


@dataclass
class Order:
    number: int
    day: datetime.date
    lines: list[Line]


class Orders:
    """The service. Its class is an interface, too."""

    _service_name = "orders"

    async def order(self, number: int, day: datetime.date | None = None) -> Order:
        lines = [Line("lamp", Decimal("12.50"))]
        return Order(number, day or datetime.date(2026, 1, 2), lines)

    async def count(self, *, item: str = "lamp") -> Any:
        return f"no number of {item}s"

    async def fail(self) -> None:
        raise LookupError("no order")

    async def slow(self) -> None:
        await asyncio.sleep(10)

    def recount(self, day: str) -> int:
        """Synchronous."""
        return len(day)


class Sharing:
    _service_name = "sharing"

    @nuropb_context
    async def share(self, ctx: NuropbContextManager, of: int) -> str:
        return f"{ctx.context['user']}: {of}"

    @publish_to_mesh(max_concurrency=1)
    @nuropb_context
    async def also(self, ctx: NuropbContextManager, *, of: int = 2) -> str:
        return f"{ctx.context['user']}, {of}"


class OrdersAPI(Protocol):
    """As a client sees it: of some methods only, and of one that is not there."""

    _service_name: ClassVar[str] = "orders"

    async def order(self, number: int, day: datetime.date | None = None) -> Order: ...

    async def count(self, *, item: str = "lamp") -> int: ...

    async def recount(self, day: str) -> int: ...

    async def cancel(self, number: int) -> None: ...


class Abstract(ABC):
    """Without a name of its own."""

    @abstractmethod
    async def order(self, number: int) -> Order:
        """An order."""


EXPECTED = Order(7, datetime.date(2026, 1, 2), [Line("lamp", Decimal("12.50"))])


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    async with Mesh("memory://clients", service=Orders()) as served:
        yield served


async def test_a_protocol(mesh: Mesh) -> None:
    orders = mesh.client(OrdersAPI)
    assert await orders.order(number=7) == EXPECTED
    assert await orders.order(7) == EXPECTED
    day = datetime.date(2026, 3, 4)
    assert (await orders.order(7, day)).day == day
    assert (await orders.order(day=day, number=8)).number == 8
    assert await orders.recount(day="Monday") == 6  # what is synchronous there is awaited here


async def test_an_abc_with_a_name(mesh: Mesh) -> None:
    orders = mesh.client(Abstract, "orders")
    assert await orders.order(number=7) == EXPECTED


async def test_the_class_of_the_service(mesh: Mesh) -> None:
    orders = mesh.client(Orders)
    assert await orders.order(7) == EXPECTED
    with pytest.raises(TypeError, match=r"orders\.recount is not async: declare it with"):
        orders.recount  # noqa: B018


async def test_the_class_of_a_service_with_contexts(memory_mesh: MemoryMesh) -> None:
    mesh = await memory_mesh(Sharing())
    client: Any = mesh.client(Sharing, context={"user": "u1"})
    assert await client.share(1) == "u1: 1"
    assert await client.also(of=3) == "u1, 3"
    with pytest.raises(TypeError, match="ctx"):
        await client.share(ctx=1, of=1)


class Wrapped:
    _service_name = "wrapped"

    def plain(self) -> str:
        return "in a thread"

    @functools.wraps(plain)
    async def wrapped(self) -> str:
        return "awaited"


async def test_the_class_of_a_service_with_a_wrapper_of_its_own(memory_mesh: MemoryMesh) -> None:
    mesh = await memory_mesh(Wrapped())
    client: Any = mesh.client(Wrapped)
    assert await client.wrapped() == "awaited"
    with pytest.raises(TypeError, match="is not async"):
        client.plain  # noqa: B018


async def test_without_types(mesh: Mesh) -> None:
    orders = mesh.client("orders")
    order = await orders.order(number=7)
    assert order["lines"] == [{"item": "lamp", "price": "12.50"}]
    with pytest.raises(NuropbRemoteError, match=r"did you mean order\?"):
        await orders.ordr(number=7)
    with pytest.raises(AttributeError, match="no underscore"):
        getattr(orders, "_order")  # noqa: B009
    assert repr(orders) == "<client of service 'orders'>"


async def test_a_result_that_does_not_fit(mesh: Mesh) -> None:
    orders = mesh.client(OrdersAPI)
    says = "^orders.count: result: expected an integer, got a string$"
    with pytest.raises(UnexpectedResultError, match=says):
        await orders.count(item="lamp")


async def test_what_requests_raise(mesh: Mesh) -> None:
    with pytest.raises(NuropbRemoteError, match="no order"):
        await mesh.client(Orders).fail()
    with pytest.raises(NuropbRemoteError, match="does not publish it"):
        await mesh.client(OrdersAPI).cancel(number=1)
    with pytest.raises(NuropbTimeoutError):
        await mesh.client(Orders, timeout=0.05).slow()


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "missing a required argument: 'number'"),
        ((1, None, 3), {}, "too many positional arguments"),
        ((1,), {"number": 1}, "multiple values"),
        ((), {"number": 1, "dya": None}, "unexpected keyword argument 'dya'"),
    ],
)
async def test_wrong_arguments(
    mesh: Mesh, args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    """As the method itself would say; nothing is sent."""
    orders: Any = mesh.client(OrdersAPI)
    with pytest.raises(TypeError, match=says):
        await orders.order(*args, **kwargs)


async def test_a_method_that_the_interface_has_not(mesh: Mesh) -> None:
    orders: Any = mesh.client(OrdersAPI)
    with pytest.raises(AttributeError, match=r"no such method; did you mean order\?"):
        orders.ordr  # noqa: B018


class Open:
    _service_name = "open"

    async def put(self, a: int, **others: int) -> dict[str, int]:
        return {"a": a, **others}

    @staticmethod
    async def add(a: int, b: int) -> int:
        return a + b


async def test_other_names_and_static_methods() -> None:
    async with Mesh("memory://open", service=Open()) as mesh:
        client = mesh.client(Open)
        assert await client.put(1, b=2, c=3) == {"a": 1, "b": 2, "c": 3}
        assert await client.put(a=1) == {"a": 1}
        assert await client.add(1, b=2) == 3


class Synchronous(Protocol):
    def get(self) -> int: ...


class Several(Protocol):
    async def get(self, *numbers: int) -> int: ...


class Uncheckable(Protocol):
    async def get(self) -> Mesh: ...


class Empty(Protocol):
    """No methods."""


@pytest.mark.parametrize(
    ("interface", "says"),
    [
        (Synchronous, r"^interface: Synchronous.get is not async: declare it with `async def`"),
        (Several, r"^interface: Several.get: parameter 'numbers' cannot be passed by name"),
        (Uncheckable, r"^interface: Uncheckable.get: its result: Mesh cannot be checked; use a"),
        (Empty, r"^interface: Empty has no public methods"),
        (7, r"^interface: expected a class or the name of a service, got 7"),
    ],
)
def test_interfaces_that_cannot_be_called(interface: Any, says: str) -> None:
    with pytest.raises(NuropbConfigurationError, match=says):
        Mesh("memory://clients").client(interface, "orders")


def test_a_name_that_is_missing() -> None:
    with pytest.raises(NuropbConfigurationError, match="service: is missing: give it, or give Abs"):
        Mesh("memory://clients").client(Abstract)
