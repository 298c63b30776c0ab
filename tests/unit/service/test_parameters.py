"""Parameters by signature and hints: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from nuropb_rmq.exceptions import NuropbConfigurationError
from nuropb_rmq.protocol import serialization
from nuropb_rmq.service.methods import Published
from nuropb_rmq.service.parameters import Parameters, Unfit
from nuropb_rmq.service.type_hints import Mismatch

if TYPE_CHECKING:
    from nowhere import Unresolvable  # type: ignore[import-not-found]


class Colour(enum.Enum):
    RED = "red"


class Service:
    def get(self, order_id: str, currency: str = "EUR", *, at: float | None = None) -> None: ...

    def later(self, day: date, price: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    def lost(self, missing: Unresolvable) -> None: ...

    def open(self, first: int, **others: int) -> None: ...

    def nothing(self) -> None: ...

    def with_context(self, ctx: Any, order_id: str, **others: Any) -> None: ...

    def defaults(self, a: Any = Colour.RED, b: Any = object, c: Any = {1: object()}) -> None: ...  # noqa: B006, B008

    def positional(self, a: int, /, b: int) -> None: ...


def parameters(name: str, without: str | None = None, *, checks: bool = True) -> Parameters:
    return Parameters(getattr(Service(), name), without=without, checks=checks)


def checked(name: str, params: Mapping[str, Any], without: str | None = None) -> Mapping[str, Any]:
    return parameters(name, without).fields.checked(params)


def refusal(name: str, params: Mapping[str, Any], without: str | None = None) -> str:
    """Return the text of the refusal of these params."""
    with pytest.raises(Mismatch) as caught:
        checked(name, params, without)
    return caught.value.describe("params")


def test_params_that_fit_are_passed_on_as_they_are() -> None:
    for params in ({"order_id": "A"}, {"order_id": "A", "currency": "USD", "at": 1}):
        assert checked("get", params) is params


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "params.order_id: missing"),
        ({"currency": "USD"}, "params.order_id: missing"),
        ({"order_id": 7}, "params.order_id: expected a string, got an integer"),
        (
            {"order_id": "A", "curency": "USD"},
            "params.curency: no such parameter; did you mean currency?",
        ),
        ({"order_id": "A", "xyz": 1}, "no such parameter; known are: order_id, currency, at"),
        ({"order_id": "A", "self": 1}, "params.self: no such parameter"),
        ({"order_id": "A", "at": "now"}, "params.at: expected a number or null, got a string"),
    ],
)
def test_params_that_do_not_fit(params: dict[str, Any], says: str) -> None:
    assert says in refusal("get", params)


def test_a_name_that_is_no_parameter_is_not_repeated_in_full() -> None:
    assert len(refusal("get", {"x" * 1_000_000: 1})) < 200


def test_what_is_converted_is_converted_in_a_copy() -> None:
    params = {"day": "2026-01-02", "price": 1}
    assert checked("later", params) == {"day": date(2026, 1, 2), "price": 1}
    assert params == {"day": "2026-01-02", "price": 1}


def test_a_default_of_none_allows_null() -> None:
    checked("later", {"day": "2026-01-02", "price": None})
    assert "params.price: expected" in refusal("later", {"day": "2026-01-02", "price": "7"})


def test_names_that_are_not_listed() -> None:
    params = {"first": 1, "second": 2}
    assert checked("open", params) is params
    says = "params.second: expected an integer, got a string"
    assert refusal("open", {"first": 1, "second": "x"}) == says
    assert refusal("open", {"second": 1}) == "params.first: missing"


def test_the_context_is_not_the_callers_to_give() -> None:
    assert set(parameters("with_context", "ctx").fields.converters) == {"order_id"}
    params = {"order_id": "A", "ctx": {}}
    assert "params.ctx: no such parameter" in refusal("with_context", params, "ctx")


def test_nothing_is_taken_by_a_method_without_parameters() -> None:
    assert checked("nothing", {}) == {}
    assert "known are: none" in refusal("nothing", {"a": 1})


def test_a_positional_parameter_cannot_be_given() -> None:
    for checks in (True, False):
        with pytest.raises(Unfit, match="parameter 'a' is positional-only"):
            parameters("positional", checks=checks)


class Plain:
    """No hint of its own."""


class Uncheckable:
    def lost(self, order: list[Unresolvable]) -> None: ...


class Uncheckable2:
    def callback(self, *, order: dict[str, Callable[[], int]]) -> None: ...


class Uncheckable3:
    async def plain(self, order: Plain | None = None) -> None: ...


class Uncheckable4:
    def other(self, **order: Plain) -> None: ...


@pytest.mark.parametrize(
    ("service", "says"),
    [
        (
            Uncheckable(),
            r"lost: parameter 'order': list\[Unresolvable\] cannot be checked: no such",
        ),
        (
            Uncheckable2(),
            r"callback: parameter 'order': dict\[str, Callable\[\[\], int\]\]: Callable",
        ),
        (Uncheckable3(), r"plain: parameter 'order': Plain \| None: Plain cannot be checked; use"),
        (
            Uncheckable4(),
            r"other: parameter 'order': Plain cannot be checked; use a type that can",
        ),
    ],
)
def test_a_hint_that_cannot_be_checked_is_an_error_of_the_service(
    service: object, says: str
) -> None:
    with pytest.raises(NuropbConfigurationError, match=says) as caught:
        Published(service, "orders")
    assert caught.value.field == "service"
    (method,) = Published(service, "orders", checks=False).methods.values()
    params = {"order": object()}
    assert method.parameters.fields.checked(params) is params, "RMQAPI checks nothing"


def test_the_description_is_truthful() -> None:
    assert parameters("get").describe() == {
        "type": "object",
        "properties": [
            ["order_id", {"type": "str", "description": "", "default": ""}],
            ["currency", {"type": "str", "description": "", "default": "EUR"}],
            ["at", {"type": "float | None", "description": "", "default": None}],
        ],
        "required": ["order_id"],
    }
    open_ = parameters("open").describe()
    assert [name for name, _ in open_["properties"]] == ["first"]
    assert open_["required"] == ["first"]
    assert open_["additionalProperties"] is True
    later = dict(parameters("later").describe()["properties"])
    assert later["day"]["type"] == "date"
    lost = dict(parameters("lost", checks=False).describe()["properties"])
    assert lost["missing"]["type"] == "Unresolvable"


def test_any_default_can_be_described() -> None:
    described = parameters("defaults").describe()
    serialization.encode_strictly(described)
    assert described["required"] == []
    defaults = {name: each["default"] for name, each in described["properties"]}
    assert defaults == {"a": "red", "b": "<type>", "c": "<dict>"}
    as_nuropb = dict(parameters("defaults", checks=False).describe()["properties"])
    assert as_nuropb["a"]["default"] == "Colour.RED"
