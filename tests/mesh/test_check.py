# mypy: disable-error-code="empty-body"
"""Mesh.check: an interface against what a service says of itself, all differences at once."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import pydantic
import pytest

from nuropb_rmq import (
    InterfaceMismatchError,
    Mesh,
    Message,
    NuropbConfigurationError,
    NuropbContextManager,
    NuropbNotDeliveredError,
    Transport,
    TransportConfig,
    configure,
    nuropb_context,
)
from nuropb_rmq.mesh.compatibility import misfit
from nuropb_rmq.service.methods import Published

URL = "memory://check"


@dataclass
class Line:
    item: str
    price: Decimal
    count: int = 1


class Stock(pydantic.BaseModel):
    item: str
    left: int


class Orders:
    _service_name = "orders"

    @nuropb_context
    async def place(
        self, ctx: NuropbContextManager, number: int, lines: list[Line], day: datetime.date
    ) -> Line: ...

    async def stock(self, *, limit: float = 3, **labels: str) -> dict[str, list[Stock]]: ...

    async def ratio(self) -> float: ...

    def recount(self) -> None: ...


class Fits(Protocol):
    """Not the same, but every call can succeed."""

    async def place(
        self, number: bool | int, lines: list[Line], day: datetime.date | None
    ) -> dict[str, Any]: ...

    async def stock(self, *, limit: int = 3, colour: str) -> dict[str, list[Stock]]: ...

    async def ratio(self) -> Decimal: ...

    async def recount(self) -> None: ...


async def checked(mesh: Mesh, interface: type) -> InterfaceMismatchError | None:
    try:
        await mesh.check(interface, "orders")
    except InterfaceMismatchError as e:
        return e
    return None


async def problems(interface: type, service: object = None) -> tuple[str, ...]:
    """Return the problems of an interface."""
    async with Mesh(URL, service=service or Orders()) as mesh:
        found = await checked(mesh, interface)
        if found is None:
            return ()
        assert str(found).startswith(f"{interface.__name__} does not fit the service 'orders':\n  ")
        assert all(problem in str(found) for problem in found.problems)
        return found.problems


@pytest.mark.parametrize("interface", [Fits, Orders])
async def test_what_fits(interface: type) -> None:
    assert await problems(interface) == ()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"order_id": 1}, ("order_id", "an integer, and a string is expected")),
        ({"order_id": "1", "price": 1}, None),
        ({"order_id": None}, ("order_id", "null, and a string is expected")),
        ({"price": [1]}, None),
        ({"day": None, "unknown": 1, "lines": [{}]}, None),
        ({"lines": {}}, None),
        ({"day": True}, None),
    ],
)
def test_values_and_a_description(given: dict[str, Any], problem: tuple[str, str] | None) -> None:
    class Shop:
        async def put(
            self, order_id: str, price: float, lines: list[str], day: datetime.date | None = None
        ) -> None: ...

    described = Published(Shop(), "shop").describe()["methods"]["put"]
    assert misfit(given, described) == problem
    # nuropb's own form: its services take whatever comes.
    assert misfit(given, {"parameters": described["parameters"]}) is None


class Methods(Protocol):
    async def palce(self) -> int: ...

    async def zzz(self) -> int: ...


class Parameters(Protocol):
    async def place(self, numbr: int, lines: list[Line], day: str = "") -> Line: ...


class Types(Protocol):
    async def place(self, number: str, lines: list[Stock], day: datetime.date) -> list[Line]: ...

    async def stock(self, *, limit: list[int]) -> dict[str, Any]: ...

    async def recount(self) -> int | str: ...


class Result(pydantic.BaseModel):
    item: list[str]
    colour: str


class Nested(Protocol):
    async def place(self, number: int, lines: list[Line], day: datetime.date) -> Result: ...


@pytest.mark.parametrize(
    ("interface", "found"),
    [
        (
            Methods,
            [
                "palce: the service has no such method; did you mean place?",
                "zzz: the service has no such method; it has place, ratio, recount, stock",
            ],
        ),
        (
            Parameters,
            [
                "place: the service has no parameter 'numbr'; did you mean number?",
                "place: the service needs number, which the interface lacks",
                "place: 'day' has a default in the interface, and the service needs it",
            ],
        ),
        (
            Types,
            [
                "place: parameter number: the interface sends a string, and an integer is expected",
                "place: parameter lines[]: the interface sends an object without price, which is "
                "expected",
                "place: parameter lines[]: the interface sends an object with left; it has item, "
                "price, count",
                "place: result: the service sends an object, and a list is expected",
                "recount: result: the service sends null, and a string or an integer is expected",
                "stock: parameter limit: the interface sends a list, and a number is expected",
            ],
        ),
        (
            Nested,
            [
                "place: result: the service sends an object without colour, which is expected",
                "place: result.item: the service sends a string, and a list is expected",
            ],
        ),
    ],
)
async def test_what_does_not_fit(interface: type, found: list[str]) -> None:
    assert list(await problems(interface)) == found


async def test_what_cannot_be_asked() -> None:
    async with Mesh(URL) as mesh:
        with pytest.raises(NuropbNotDeliveredError):
            await mesh.check(Fits, "orders")
        with pytest.raises(NuropbConfigurationError, match="service: is missing"):
            await mesh.check(Fits)
        with pytest.raises(NuropbConfigurationError, match="interface: expected a class"):
            await mesh.check("orders")  # type: ignore[arg-type]


async def test_the_description_is_asked_for_anew() -> None:
    class Before:
        async def ratio(self) -> float: ...

    class After:
        async def ratio(self) -> str: ...

    class Interface(Protocol):
        async def ratio(self) -> float: ...

    async with Mesh(URL) as client:
        async with Mesh(URL, service=Before(), service_name="orders"):
            await client.check(Interface, "orders")
        async with Mesh(URL, service=After(), service_name="orders"):
            with pytest.raises(InterfaceMismatchError, match="ratio: result: the service sends a"):
                await client.check(Interface, "orders")


NUROPB: dict[str, Any] = {
    "type": "object",
    "properties": [["number", {"type": "int"}], ["day", {"type": "date"}], ["kwargs", {}]],
    "required": ["number", "kwargs"],
}


class OfNuropb(Protocol):
    async def get(self, numbr: int) -> int: ...


@pytest.mark.parametrize(
    ("method", "found"),
    [
        ({"parameters": NUROPB}, ["get: the service needs number, which the interface lacks"]),
        (
            {"parameters": {**NUROPB, "properties": NUROPB["properties"][:2]}},
            [
                "get: the service has no parameter 'numbr'; did you mean number?",
                "get: the service needs number, which the interface lacks",
            ],
        ),
        ({"parameters": {"properties": [["numbr", {"type": "str"}]]}}, ["get: parameter numbr: "]),
        ({}, []),
        ({"params_schema": 7, "result_schema": []}, []),
        ({"params_schema": {"properties": 7, "required": 3}}, []),
        ({"params_schema": {"properties": {"numbr": {"type": ["int", 7, {}]}}}}, []),
        ({"params_schema": {"properties": {"numbr": {"$ref": "#/$defs/A"}}, "$defs": 3}}, []),
        (
            {"result_schema": {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}},
            [],
        ),
        ({"result_schema": {"anyOf": [{"enum": [["a"]]}, {"const": {}}]}}, ["get: result: the s"]),
        ({"params_schema": {"required": ["\x1b[31m\n" + "x" * 999]}}, ["get: the service ne"]),
    ],
)  # fmt: skip
async def test_descriptions_of_others(method: Mapping[str, Any], found: list[str]) -> None:
    """nuropb's own, and rubbish: a description is a peer's message."""

    async def handle(message: Message) -> Any:
        return {"methods": {"get": method}, "service_name": "orders"}

    config = TransportConfig(amqp_url=URL, service_name="orders")
    async with Mesh(URL) as mesh:
        await configure(config)
        async with Transport(config, handle):
            error = await checked(mesh, OfNuropb)
            got = error.problems if error else ()
            assert "\x1b" not in str(error)
            assert len(got) == len(found)
            assert all(one.startswith(start) for one, start in zip(got, found, strict=True))
            assert all(len(one) < 200 for one in got)


def test_a_description_whose_references_branch_without_end() -> None:
    branches = [{"$ref": "#/$defs/A"}] * 30
    schema = {"anyOf": branches, "$defs": {"A": {"anyOf": branches}}}
    described = {"parameters": {"type": "object", "properties": {"order_id": schema}}}
    assert misfit({"order_id": 1}, described) is None
