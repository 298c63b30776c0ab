# mypy: disable-error-code="empty-body"
"""Hints as JSON Schema: valid by the specification, and true of what converters take and send."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import json
import typing
import uuid
from collections import abc
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import jsonschema
import msgspec
import pydantic
import pytest

from nuropb_rmq.protocol.serialization import encode_strictly
from nuropb_rmq.service.converters import Converters
from nuropb_rmq.service.parameters import Parameters
from nuropb_rmq.service.schemas import Schemas
from nuropb_rmq.service.type_hints import Mismatch


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Line:
    item: str
    count: int = 1
    under: list[Line] = dataclasses.field(default_factory=list)
    checked: bool = dataclasses.field(init=False, default=False)


class Movie(TypedDict):
    name: str
    year: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: int = 0


class Model(pydantic.BaseModel):
    line: Line
    day: datetime.date


class Struct(msgspec.Struct):
    names: list[str]


Number = typing.NewType("Number", int)
DAY = datetime.date
WHEN = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
REF_LINE = {"$ref": "#/$defs/Line"}


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (Any, {}),
        (object, {}),
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (int | None, {"type": ["integer", "null"]}),
        (int | Any, {}),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (abc.Sequence[Any], {"type": "array"}),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        (dict, {"type": "object"}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (tuple, {"type": "array"}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (tuple[()], {"type": "array", "minItems": 0, "maxItems": 0}),
        (Annotated[int, "years"], {"type": "integer"}),
        (Number, {"type": "integer"}),
        (Literal["a", 1, None], {"enum": ["a", 1, None]}),
        (Rights, {"type": "integer", "minimum": 0}),
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (Decimal, {"type": ["string", "number"], "format": "decimal"}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
        (int | DAY, {"anyOf": [{"type": "integer"}, {"type": "string", "format": "date"}]}),
        (collections.OrderedDict, {}),
        ([int], {}),
        (7, {}),
    ],
)  # fmt: skip
def test_hints(hint: Any, schema: dict[str, Any]) -> None:
    assert Schemas(written=False).of(hint) == schema
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_class_may_contain_itself() -> None:
    read = Schemas(written=False)
    whole = read.whole(read.of(list[Line]))
    assert whole["items"] == REF_LINE
    line = whole["$defs"]["Line"]
    assert line["properties"]["under"] == {"type": "array", "items": REF_LINE}
    assert line["required"] == ["item"]


def test_what_is_written_has_all_fields() -> None:
    written = Schemas(written=True)
    line = written.whole(written.of(Line))["$defs"]["Line"]
    assert line["required"] == ["item", "count", "under", "checked"]
    assert written.of(Decimal) == {"type": "string", "format": "decimal"}


def test_two_classes_of_one_name() -> None:
    other = dataclasses.make_dataclass("Line", [("length", int)])

    class Both(pydantic.BaseModel):
        line: Line

    made = Schemas(written=False)
    refs = [made.of(Line), made.of(other), made.of(list[Both])["items"]]
    whole = made.whole({"prefixItems": refs})
    jsonschema.Draft202012Validator.check_schema(whole)
    assert refs[:2] == [REF_LINE, {"$ref": "#/$defs/Line_2"}]
    assert whole["$defs"]["Line_2"]["required"] == ["length"]
    texts = [json.dumps(whole["$defs"][name]) for name in whole["$defs"] if name.startswith("Line")]
    assert len(set(texts)) == 3


class Broken:
    """Has a hint that cannot be resolved."""

    async def get(self) -> Unknown: ...  # type: ignore[name-defined] # noqa: F821


class BrokenField(TypedDict):
    field: Unknown  # type: ignore[name-defined] # noqa: F821


def test_results_that_cannot_be_said() -> None:
    assert Parameters(Broken().get).schemas()["result_schema"] == {}
    made = Schemas(written=True)
    assert made.whole(made.of(BrokenField))["$defs"] == {"BrokenField": {}}


def method(
    number: int,
    day: datetime.date = datetime.date(2026, 1, 2),
    line: Line | None = None,
    *,
    anything: Any = object(),  # noqa: B008
) -> list[Line]: ...


def others(**numbers: int) -> None: ...


def test_parameters_and_result_of_a_method() -> None:
    schemas = Parameters(method).schemas()
    params = schemas["params_schema"]
    assert params["required"] == ["number"]
    assert params["properties"] == {
        "number": {"type": "integer"},
        "day": {"type": "string", "format": "date", "default": "2026-01-02Z"},
        "line": {"anyOf": [REF_LINE, {"type": "null"}], "default": None},
        "anything": {},
    }
    assert params["additionalProperties"] is False
    assert schemas["result_schema"]["items"] == REF_LINE
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert Parameters(others).schemas()["params_schema"]["additionalProperties"] is True


VALUES: list[tuple[Any, Any]] = [
    (int, 7),
    (float, 7),
    (str | None, None),
    (Colour, Colour.BLUE),
    (Rights, Rights.READ | Rights.WRITE),
    (Literal["a", 1], 1),
    (Line, Line("lamp", 2, [Line("bulb")])),
    (Movie, {"name": "Alien"}),
    (Point, Point(1)),
    (tuple[int, str], (1, "a")),
    (set[str], {"a"}),
    (dict[str, list[Line]], {"a": [Line("lamp")]}),
    (datetime.datetime, WHEN),
    (datetime.timedelta, datetime.timedelta(days=1, seconds=2)),
    (Decimal, Decimal("12.50")),
    (uuid.UUID, uuid.UUID(int=1)),
    (bytes, b"ab"),
    (Model, Model(line=Line("lamp"), day=WHEN.date())),
    (list[Struct], [Struct(["a"])]),
    (Annotated[int, pydantic.Field(gt=3)], 7),
]


@pytest.mark.parametrize(("hint", "value"), VALUES)
def test_what_is_sent_fits_both_schemas_and_is_read(hint: Any, value: Any) -> None:
    sent = json.loads(encode_strictly({"value": value}))["value"]
    for made in (Schemas(written=True), Schemas(written=False)):
        whole = made.whole(made.of(hint))
        jsonschema.Draft202012Validator.check_schema(whole)
        jsonschema.validate(sent, whole)
    convert = Converters().of(hint)
    assert convert is None or convert(sent) == value


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "7"),
        (str, 7),
        (bool, 1),
        (int | None, 1.5),
        (Colour, "green"),
        (Literal["a", 1], "b"),
        (list[int], ["a"]),
        (dict[str, int], {"a": "b"}),
        (tuple[int, str], [1]),
        (Movie, {}),
        (Movie, {"name": "Alien", "yaer": 1979}),
        (Line, {"item": 7}),
        (Line, {"item": "lamp", "cuont": 2}),
        (Point, [1, 2, 3]),
        (Annotated[int, pydantic.Field(gt=3)], 2),
    ],
)
def test_what_no_converter_takes_fits_no_schema(hint: Any, value: Any) -> None:
    made = Schemas(written=False)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, made.whole(made.of(hint)))
    convert = Converters().of(hint)
    assert convert is not None
    with pytest.raises(Mismatch):
        convert(value)
