"""Parameters by signature and hints: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

import datetime
import enum
import time
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union

import msgspec
import pydantic
import pytest

from nuropb_rmq import serialization
from nuropb_rmq.exceptions import NuropbSerializationError, NuropbValidationError
from nuropb_rmq.hints import Mismatch, check_of, label
from nuropb_rmq.parameters import Parameters

if TYPE_CHECKING:
    from nowhere import Unresolvable  # type: ignore[import-not-found]


class Line(pydantic.BaseModel):
    """A pydantic model."""

    article: str
    count: int = pydantic.Field(gt=0, alias="n")
    secret: str = "hush"


class Point(msgspec.Struct):
    """A msgspec struct."""

    x: int
    at: datetime.date | None = None


class Colour(enum.Enum):
    """Any other type."""

    RED = "red"


@pydantic.dataclasses.dataclass
class Box:
    """A pydantic dataclass."""

    width: int


# hint, values that it takes as they are, values that it refuses
PLAIN: list[tuple[Any, list[Any], list[Any]]] = [
    (str, ["", "é"], [None, 1, True, [], {}]),
    (int, [0, -5, 10**30], [None, "1", 1.0, True, False, []]),
    (float, [0.5, 1], [None, "1", True]),
    (bool, [True, False], [None, 0, 1, "true"]),
    (None, [None], [0, "", False]),
    (list, [[], [1, "a"]], [None, {}, "ab"]),
    (dict, [{}, {"a": [1]}], [None, [], "ab"]),
    (list[int], [[], [1, 2]], [["1"], [1, None], [True], None]),
    (dict[str, int], [{}, {"a": 1}], [{"a": "1"}, [], None]),
    (dict[str, list[str | None]], [{"a": ["b", None]}], [{"a": [1]}, {"a": None}]),
    (Optional[int], [1, None], ["1", 1.5]),  # noqa: UP045
    (Union[int, str], [1, "a"], [None, 1.5, []]),  # noqa: UP007
    (str | None, ["a", None], [1]),
    (list[int] | None, [[1], None], [["a"], "a"]),
    (Annotated[int, "a comment"], [1], ["1"]),
    (dict[str, Any], [{"a": object}], [[]]),
    (list[Any], [[object]], [{}]),
    (list[int, str], [[1]], [["a"], [True]]),  # type: ignore[misc]
]
# Any other hint lets everything pass.
OPEN: list[Any] = [
    Any,
    object,
    datetime.datetime,
    Decimal,
    Colour,
    tuple[int, ...],
    set[int],
    dict[int, str],
    Literal["a", "b"],
    Callable[[int], str],
    int | datetime.date,
    5,
    ["no", "hint"],
]
ANYTHING = [None, True, 0, 1.5, "text", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize(("hint", "taken", "refused"), PLAIN, ids=lambda each: str(each)[:30])
def test_plain_hints(hint: Any, taken: list[Any], refused: list[Any]) -> None:
    check = check_of(hint)
    assert check is not None
    for value in taken:
        assert check(value) is value
    for value in refused:
        with pytest.raises(Mismatch):
            check(value)


@pytest.mark.parametrize("hint", OPEN, ids=str)
def test_other_hints_let_everything_pass(hint: Any) -> None:
    assert check_of(hint) is None


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (int, "1", "field: text, an integer is needed"),
        (int, True, "field: true or false, an integer is needed"),
        (str, None, "field: null, text is needed"),
        (list[int], [1, "x"], "field[1]: text, an integer is needed"),
        (dict[str, list[int]], {"a": [1, None]}, "field['a'][1]: null, an integer is needed"),
        (int | str | None, [], "field: a list, an integer or text or null is needed"),
        (list[int] | None, ["x"], "field[0]: text, an integer is needed"),
        (list[int] | None, "x", "field: text, a list or null is needed"),
    ],
)
def test_what_a_refusal_says(hint: Any, value: Any, says: str) -> None:
    check = check_of(hint)
    assert check is not None
    with pytest.raises(Mismatch) as caught:
        check(value)
    assert caught.value.told("field") == says


def test_a_long_key_is_not_repeated_in_full() -> None:
    check = check_of(dict[str, int])
    assert check is not None
    with pytest.raises(Mismatch) as caught:
        check({"k" * 10_000: "x"})
    assert len(caught.value.told("field")) < 200


LABELS = [
    (str, "str"),
    (None, "None"),
    (type(None), "None"),
    (Any, "Any"),
    (list[int], "list[int]"),
    (dict[str, list[str]], "dict[str, list[str]]"),
    (Optional[str], "str | None"),  # noqa: UP045
    (str | None, "str | None"),
    (Union[int, None, Line], "int | None | Line"),  # noqa: UP007
    (Literal["a", 1], "Literal['a', 1]"),
    (Annotated[int, "x"], "int"),
    (Callable[[int], str], "Callable[[int], str]"),
    (tuple[int, ...], "tuple[int, ...]"),
    (datetime.datetime, "datetime"),
    ("Unresolvable", "Unresolvable"),
]


@pytest.mark.parametrize(("hint", "text"), LABELS, ids=[text for _, text in LABELS])
def test_labels(hint: Any, text: str) -> None:
    assert label(hint) == text


# -- pydantic and msgspec -------------------------------------------------------------------


def test_pydantic_models_are_made_wherever_they_stand() -> None:
    line = {"article": "book", "n": 2}
    made = Line.model_validate(line)
    for hint, value, expected in [
        (Line, line, made),
        (list[Line], [line, line], [made, made]),
        (dict[str, Line | None], {"a": line, "b": None}, {"a": made, "b": None}),
        (Box, {"width": 3}, Box(width=3)),
        (Annotated[int, pydantic.Field(gt=0)], 5, 5),
        (pydantic.AwareDatetime, "2026-01-02T03:04:05Z", None),
    ]:
        check = check_of(hint)
        assert check is not None
        taken = check(value)
        assert expected is None or taken == expected


def test_pydantics_refusal_names_every_field_and_no_value() -> None:
    check = check_of(list[Line])
    assert check is not None
    with pytest.raises(Mismatch) as caught:
        check([{"article": 7, "n": "hush-hush"}, {"n": -1}, 3])
    said = caught.value.told("lines")
    assert "lines.0.article: Input should be a valid string" in said
    assert "lines.0.n: Input should be a valid integer" in said
    assert "and 2 more" in said
    assert "hush" not in said
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_msgspec_structs_are_made_wherever_they_stand() -> None:
    check = check_of(dict[str, list[Point]])
    assert check is not None
    value = {"a": [{"x": 1, "at": "2026-01-02"}]}
    assert check(value) == {"a": [Point(1, datetime.date(2026, 1, 2))]}
    with pytest.raises(Mismatch) as caught:
        check({"a": [{"x": "hush"}]})
    assert caught.value.told("field") == "field[...][0].x: Expected `int`, got `str`"


def test_results_of_both_libraries_become_json() -> None:
    line = Line.model_validate({"article": "book", "n": 2})
    point = Point(1, datetime.date(2026, 1, 2))
    body = serialization.encode({"result": [line, {"point": point}]})
    decoded = serialization.decode(body, max_depth=10)["result"]
    assert decoded == [
        {"article": "book", "n": 2, "secret": "hush"},
        {"point": {"x": 1, "at": "2026-01-02"}},
    ]
    assert Line.model_validate(decoded[0]) == line
    assert msgspec.convert(decoded[1]["point"], Point) == point


def test_a_model_that_cannot_become_json_is_a_typed_error() -> None:
    class Odd(pydantic.BaseModel):
        value: Any

    with pytest.raises(NuropbSerializationError, match=r"\.result"):
        serialization.encode({"result": Odd(value=object())})


# -- whole signatures -----------------------------------------------------------------------


class Service:
    def get(self, order_id: str, currency: str = "EUR", *, at: float | None = None) -> None: ...

    def later(self, line: Line, missing: Unresolvable = None, price: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    def open(self, first: int, **others: int) -> None: ...

    def nothing(self) -> None: ...

    def with_context(self, ctx: Any, order_id: str, **others: Any) -> None: ...

    def defaults(self, a: Any = Colour.RED, b: Any = object, c: Any = {1: object()}) -> None: ...  # noqa: B006, B008

    def positional(self, a: int, /, b: int) -> None: ...


def parameters(name: str, without: str | None = None) -> Parameters:
    return Parameters(getattr(Service(), name), without=without)


def test_params_that_fit_are_passed_on_as_they_are() -> None:
    get = parameters("get")
    for params in ({"order_id": "A"}, {"order_id": "A", "currency": "USD", "at": 1}):
        assert get.checked(params) is params


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "order_id: missing"),
        ({"currency": "USD"}, "order_id: missing"),
        ({"order_id": 7}, "order_id: an integer, text is needed"),
        ({"order_id": "A", "curency": "USD"}, "curency: no such parameter; did you mean currency?"),
        ({"order_id": "A", "xyz": 1}, "no such parameter; known are: order_id, currency, at"),
        ({"order_id": "A", "self": 1}, "self: no such parameter"),
        ({"order_id": "A", "at": "now"}, "at: text, a number or null is needed"),
    ],
)
def test_params_that_do_not_fit(params: dict[str, Any], says: str) -> None:
    with pytest.raises(NuropbValidationError) as caught:
        parameters("get").checked(params)
    assert says in caught.value.description


def test_a_name_that_is_no_parameter_is_not_repeated_in_full() -> None:
    started = time.perf_counter()
    with pytest.raises(NuropbValidationError) as caught:
        parameters("get").checked({"x" * 1_000_000: 1})
    assert len(caught.value.description) < 200
    assert time.perf_counter() - started < 1


def test_what_is_converted_is_converted_in_a_copy() -> None:
    params = {"line": {"article": "book", "n": 1}, "missing": object()}
    taken = parameters("later").checked(params)
    assert isinstance(taken["line"], Line)
    assert isinstance(params["line"], dict)
    assert taken["missing"] is params["missing"]


def test_a_default_of_none_allows_null_and_a_hint_that_is_lost_allows_all() -> None:
    later = parameters("later")
    line = {"article": "book", "n": 1}
    later.checked({"line": line, "price": None, "missing": 7})
    with pytest.raises(NuropbValidationError, match="price"):
        later.checked({"line": line, "price": "7"})


def test_names_that_are_not_listed() -> None:
    open_ = parameters("open")
    params = {"first": 1, "second": 2}
    assert open_.checked(params) is params
    with pytest.raises(NuropbValidationError, match="second: text, an integer"):
        open_.checked({"first": 1, "second": "x"})
    with pytest.raises(NuropbValidationError, match="first: missing"):
        open_.checked({"second": 1})


def test_the_context_is_not_the_callers_to_give() -> None:
    with_context = parameters("with_context", without="ctx")
    assert with_context.names == {"order_id"}
    with pytest.raises(NuropbValidationError, match="ctx: no such parameter"):
        with_context.checked({"order_id": "A", "ctx": {}})


def test_nothing_is_taken_by_a_method_without_parameters() -> None:
    nothing = parameters("nothing")
    assert nothing.checked({}) == {}
    with pytest.raises(NuropbValidationError, match="known are: none"):
        nothing.checked({"a": 1})


def test_a_positional_parameter_cannot_be_given() -> None:
    assert parameters("positional").uncallable == "a"
    assert parameters("get").uncallable is None


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
    assert later["line"]["type"] == "Line"
    assert later["missing"]["type"] == "Unresolvable"


def test_any_default_can_be_described() -> None:
    described = parameters("defaults").describe()
    serialization.encode(described)
    assert described["required"] == []
