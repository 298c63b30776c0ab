"""Parameters that pydantic and msgspec check and convert, and results that they make JSON of."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import sys
import uuid
from typing import Annotated, Any, Literal, NamedTuple

import annotated_types
import msgspec
import pydantic
import pytest
from typing_extensions import TypedDict

from nuropb_rmq.exceptions import NuropbSerializationError
from nuropb_rmq.protocol import serialization
from nuropb_rmq.service.converters import Converters
from nuropb_rmq.service.type_hints import Converter, Mismatch, Uncheckable

UTC = datetime.UTC


class Line(pydantic.BaseModel):
    article: str
    count: int = pydantic.Field(gt=0, alias="n")
    secret: str = "hush"


class Point(msgspec.Struct):
    x: int
    at: datetime.date | None = None


@pydantic.dataclasses.dataclass
class Box:
    width: int


@dataclasses.dataclass
class Mixed:
    line: Line
    points: list[Point]


class Colour(enum.Enum):
    RED = "red"


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


def converter(hint: Any) -> Converter:
    made = Converters().of(hint)
    assert made is not None
    return made


def refusal(hint: Any, value: Any) -> str:
    with pytest.raises(Mismatch) as caught:
        converter(hint)(value)
    assert caught.value.__cause__ is None
    return caught.value.describe("params.a")


LINE = {"article": "book", "n": 2}
MADE = Line.model_validate(LINE)


@pytest.mark.parametrize(
    ("hint", "value", "made"),
    [
        (Line, LINE, MADE),
        (list[Line], [LINE, LINE], [MADE, MADE]),
        (dict[str, Line | None], {"a": LINE, "b": None}, {"a": MADE, "b": None}),
        (tuple[Line, ...], [LINE], (MADE,)),
        (Box, {"width": 3}, Box(width=3)),
        (Annotated[int, pydantic.Field(gt=0)], 5, 5),
        (Annotated[int, annotated_types.Gt(0)], 5, 5),
        (Cat | Dog, {"kind": "dog"}, Dog(kind="dog")),
        (
            Annotated[Cat | Dog, pydantic.Field(discriminator="kind")],
            {"kind": "dog"},
            Dog(kind="dog"),
        ),
        (Point, {"x": 1, "at": "2026-01-02"}, Point(1, datetime.date(2026, 1, 2))),
        (dict[str, list[Point]], {"a": [{"x": 1}]}, {"a": [Point(1)]}),
        (Point | None, None, None),
        (Annotated[int, msgspec.Meta(gt=0)], 5, 5),
        (pydantic.JsonValue, {"a": [1, None]}, {"a": [1, None]}),
        (Mixed, {"line": LINE, "points": [{"x": 1}]}, Mixed(MADE, [Point(1)])),
        (Line | Point | None, LINE, MADE),
    ],
    ids=lambda each: str(each)[:30],
)
def test_models_and_structs_are_made_wherever_they_stand(hint: Any, value: Any, made: Any) -> None:
    assert converter(hint)(value) == made


def test_pydantics_refusal_names_every_field_and_no_value() -> None:
    said = refusal(list[Line], [{**LINE, "n": 1}, {"article": 7, "n": "hush-hush", "secret": 1}])
    assert said == (
        "params.a[1].article: Input should be a valid string; params.a[1].n: Input should be a "
        "valid integer, unable to parse string as an integer; params.a[1].secret: Input should be "
        "a valid string"
    )

    class Page(pydantic.BaseModel):
        lines: list[Line]

    said = refusal(Page, {"lines": [{"article": 7, "n": "hush"}, {"n": -1}, 3]})
    assert "params.a.lines[0].n: Input should be a valid integer" in said
    assert "and 2 more" in said
    assert "hush" not in said


class Everything(pydantic.BaseModel):
    id: uuid.UUID
    at: datetime.datetime
    kind: Literal["a"]
    colour: Colour
    pattern: Annotated[str, pydantic.Field(pattern="^a$")]


class Chosen(msgspec.Struct):
    kind: Literal["a"]


class Coloured(msgspec.Struct):
    colour: Colour


class Tagged(msgspec.Struct, tag="a"): ...


class OtherTag(msgspec.Struct, tag="b"): ...


CHOICE = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
SECRET = "hush - at `$.hush`"


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (CHOICE, {"kind": SECRET}, "params.a: Input tag does not match any of the expected"),
        (uuid.UUID | pydantic.UUID4, SECRET, "params.a: expected"),
        (pydantic.UUID4, SECRET, "params.a: Input should be a valid UUID"),
        (
            Everything,
            dict.fromkeys(["id", "at", "kind", "colour", "pattern"], SECRET),
            "and 2 more",
        ),
        (
            Everything,
            {"kind": SECRET, "colour": SECRET, "pattern": SECRET},
            "params.a.id: Field req",
        ),
        (Chosen, {"kind": SECRET}, "params.a.kind: Invalid enum value"),
        (Coloured, {"colour": SECRET}, "params.a.colour: Invalid enum value"),
        (list[Tagged | OtherTag], [{"type": SECRET}], "params.a[0].type: Invalid value"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_no_refusal_shows_a_value(hint: Any, value: Any, says: str) -> None:
    said = refusal(hint, value)
    assert says in said
    assert "hush" not in said
    assert "`h`" not in said


def test_msgspecs_refusal_names_the_field() -> None:
    assert refusal(dict[str, list[Point]], {"k": [{"x": "hush"}]}) == (
        "params.a['k'][0].x: Expected `int`, got `str`"
    )


def test_constraints_of_pydantic_are_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pydantic")
    with pytest.raises(Uncheckable, match="for pydantic, which is not imported"):
        Converters().of(Annotated[int, annotated_types.Gt(0)])


# -- dates and times as nuropb writes them --------------------------------------------------

WHEN = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
DAY = datetime.date(2026, 1, 2)
LONG = datetime.timedelta(days=-1, hours=23)
WRITTEN: dict[str, Any] = {
    "when": "2026-01-02T03:04:00+00:00Z",
    "day": "2026-01-02Z",
    "at": "03:04:00+00:00Z",
    "long": "-1 day, 23:00:00",
    "text": "2026-01-02Z",
    "days": ["2026-01-02Z"],
    "by_name": {"a": "2026-01-02Z"},
    "perhaps": "2026-01-02Z",
    "either": "2026-01-02Z",
    "pair": [1, "2026-01-02Z"],
    "typed": {"since": "2026-01-02Z"},
    "named": ["2026-01-02Z"],
}
READ: dict[str, Any] = {
    "when": WHEN,
    "day": DAY,
    "at": datetime.time(3, 4, tzinfo=UTC),
    "long": LONG,
    "text": "2026-01-02Z",
    "days": [DAY],
    "by_name": {"a": DAY},
    "perhaps": DAY,
    "either": "2026-01-02Z",
    "pair": (1, DAY),
    "typed": {"since": DAY},
}


class Typed(TypedDict):
    since: datetime.date


class Named(NamedTuple):
    day: datetime.date


class Inner(pydantic.BaseModel):
    when: datetime.datetime
    day: datetime.date = pydantic.Field(alias="the-day")
    other: datetime.date = pydantic.Field(
        DAY, validation_alias=pydantic.AliasChoices("other_day", "another")
    )
    inner: list[Inner] = []


class Days(pydantic.RootModel[list[datetime.date]]):
    pass


class Rooted(pydantic.BaseModel):
    """A field that is only called so."""

    root: datetime.date
    x: int
    nothing: tuple[()] = ()


class Modelled(pydantic.BaseModel):
    when: datetime.datetime
    day: datetime.date
    at: datetime.time
    long: datetime.timedelta
    text: str
    days: list[datetime.date]
    by_name: dict[str, datetime.date]
    perhaps: datetime.date | None
    either: datetime.date | str
    pair: tuple[int, datetime.date]
    typed: Typed
    named: Named


class Structured(msgspec.Struct):
    when: datetime.datetime
    day: datetime.date
    at: datetime.time
    long: datetime.timedelta
    text: str
    days: list[datetime.date]
    by_name: dict[str, datetime.date]
    perhaps: datetime.date | None
    either: str
    pair: tuple[int, datetime.date]
    typed: Typed
    named: Named


class Renamed(msgspec.Struct, rename="camel"):
    the_day: datetime.date
    inner: Renamed | None = None


class Positional(msgspec.Struct, array_like=True):
    x: int
    day: datetime.date


@pytest.mark.parametrize("hint", [Modelled, Structured])
def test_dates_and_times_are_read_as_nuropb_writes_them(hint: Any) -> None:
    made = converter(list[hint])([WRITTEN])[0]
    read = {name: getattr(made, name) for name in READ}
    assert read == READ
    assert made.named == Named(DAY)
    said = refusal(hint, {**WRITTEN, "day": "hush"})
    assert "params.a.day: " in said
    assert "hush" not in said


@pytest.mark.parametrize(
    ("hint", "value", "made"),
    [
        (
            Inner,
            {"when": "2026-01-02T03:04:00+00:00Z", "the-day": "2026-01-02Z",
             "another": "2026-01-02Z",
             "inner": [{"when": "2026-01-02T03:04:00+00:00Z", "the-day": "2026-01-02Z"}]},
            Inner.model_validate({"when": WHEN, "the-day": DAY, "other_day": DAY,
                                  "inner": [{"when": WHEN, "the-day": DAY}]}),
        ),
        (Days, ["2026-01-02Z"], Days([DAY])),
        (Rooted, {"root": "2026-01-02Z", "x": 1}, Rooted(root=DAY, x=1)),
        (Renamed, {"theDay": "2026-01-02Z", "inner": {"theDay": "2026-01-02Z"}},
         Renamed(DAY, Renamed(DAY))),
        (Positional, [1, "2026-01-02Z"], Positional(1, DAY)),
        (list[pydantic.AwareDatetime], ["2026-01-02T03:04:00+00:00Z"], [WHEN]),
        (Annotated[datetime.date, pydantic.Field(gt=DAY + LONG)], "2026-01-02Z", DAY),
        (Inner | None, {"when": "2026-01-02T03:04:00+00:00Z", "the-day": "2026-01-02Z"},
         Inner.model_validate({"when": WHEN, "the-day": DAY})),
    ],
    ids=lambda each: str(each)[:20],
)  # fmt: skip
def test_dates_are_read_under_whatever_name_they_come(hint: Any, value: Any, made: Any) -> None:
    assert converter(hint)(value) == made


@pytest.mark.parametrize(
    ("hint", "says"),
    [
        (Point | Renamed, "msgspec says: .*all Struct types must be tagged"),
        (list[Point | Renamed], "msgspec says"),
        (Annotated[int, pydantic.Field(discriminator="x")], "pydantic says"),
    ],
)
def test_what_they_refuse_is_an_error_of_the_service(hint: Any, says: str) -> None:
    with pytest.raises(Uncheckable, match=says):
        Converters().of(hint)


def test_what_was_sent_is_not_changed() -> None:
    value = {"x": 1, "at": "2026-01-02Z"}
    assert converter(Point)(value) == Point(1, DAY)
    assert value == {"x": 1, "at": "2026-01-02Z"}


# -- results --------------------------------------------------------------------------------

ENCODERS = [serialization.encode, serialization.encode_strictly]


@pytest.mark.parametrize("encode", ENCODERS)
def test_results_of_both_libraries_become_json(encode: serialization.Encode) -> None:
    point = Point(1, DAY)
    body = encode({"result": [MADE, {"point": point}]})
    decoded = serialization.decode(body, max_depth=10)["result"]
    assert decoded == [
        {"article": "book", "n": 2, "secret": "hush"},
        {"point": {"x": 1, "at": "2026-01-02"}},
    ]
    assert Line.model_validate(decoded[0]) == MADE
    assert msgspec.convert(decoded[1]["point"], Point) == point


@pytest.mark.parametrize("encode", ENCODERS)
def test_a_model_that_cannot_become_json_is_a_typed_error(encode: serialization.Encode) -> None:
    class Odd(pydantic.BaseModel):
        value: Any

    with pytest.raises(NuropbSerializationError, match=r"at result\.items\[0\]$"):
        encode({"result": {"items": [Odd(value=object())]}})
