"""Values that JSON lacks: what a Mesh sends for them, what it refuses to send, and what is read."""

from __future__ import annotations

import array
import asyncio
import dataclasses
import datetime
import enum
import json
import uuid
from collections import OrderedDict, deque, namedtuple
from collections.abc import Iterator
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec
import orjson
import pydantic
import pytest

from nuropb_rmq.exceptions import NuropbSerializationError
from nuropb_rmq.protocol import serialization
from nuropb_rmq.protocol.serialization import encode, encode_strictly
from nuropb_rmq.protocol.values import READ

UTC = datetime.UTC
IN_PARIS = datetime.timezone(datetime.timedelta(hours=2))
Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 3


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Line:
    price: Any
    when: Any = None


class Model(pydantic.BaseModel):
    value: Any
    at: datetime.datetime | None = None


class Struct(msgspec.Struct):
    value: Any


@pytest.fixture(params=["json", "orjson"], autouse=True, scope="module")
def _codec(request: pytest.FixtureRequest) -> Iterator[None]:
    """All of it holds with orjson, and without."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "json":
            patch.setattr(serialization, "orjson", None)
        else:
            assert serialization.__dict__["orjson"] is orjson
        yield


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05Z"),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006Z"),
        (datetime.datetime(2026, 1, 2, 1, 4, tzinfo=IN_PARIS), "2026-01-01T23:04:00Z"),
        (datetime.date(2026, 1, 2), "2026-01-02Z"),
        (datetime.time(3, 4), "03:04:00Z"),
        (datetime.time(3, 4, tzinfo=UTC), "03:04:00Z"),
        (datetime.time(3, 4, tzinfo=IN_PARIS), "03:04:00+02:00"),
        (datetime.timedelta(days=1, seconds=2), "1 day, 0:00:02"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.10"), "0.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Level.LOW, 3),
        (Rights.READ | Rights.WRITE, 3),
        (b"\x00\xff", "AP8="),
        (bytearray(b"ab"), "YWI="),
        (memoryview(b"ab"), "YWI="),
        ({1}, [1]),
        (frozenset({Colour.RED}), ["red"]),
        (deque([1, 2]), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": 1}.items(), [["a", 1]]),
        (MappingProxyType({"a": {1}}), {"a": [1]}),
        (OrderedDict(a=1), {"a": 1}),
        (Point(1, {2}), [1, [2]]),
        (Line({Decimal(1)}, b"x"), {"price": ["1"], "when": "eA=="}),
        (Model(value=1, at=datetime.datetime(2026, 1, 2, tzinfo=UTC)), None),
        (Struct({1}), {"value": [1]}),
    ],
)
def test_values_as_a_mesh_sends_them(value: Any, sent: Any) -> None:
    if isinstance(value, Model):
        sent = {"value": 1, "at": "2026-01-02T00:00:00Z"}
    assert json.loads(encode_strictly({"v": [value]})) == {"v": [sent]}


def generate() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "object has no JSON form"),
        (generate(), "generator has no JSON form"),
        (iter([1]), "list_iterator has no JSON form"),
        (array.array("i", [1]), "array has no JSON form"),
        (complex(1, 2), "complex has no JSON form"),
        (Line, "type has no JSON form"),
        (len, "builtin_function_or_method has no JSON form"),
        (ValueError("hush-hush"), "ValueError has no JSON form"),
        (range(3), "range has no JSON form"),
        (json, "module has no JSON form"),
    ],
)
def test_what_has_no_json_form_is_named_by_its_path(value: Any, says: str) -> None:
    for payload, path in (
        ({"result": value}, "result"),
        ({"result": {"items": [1, 2, 3, {"when": value}]}}, "result.items[3].when"),
        ({"params": {"order": Line(price={"a": (1, value)})}}, "params.order.price.a[1]"),
        ({"event": MappingProxyType({"a": deque([value])})}, "event.a[0]"),
    ):
        with pytest.raises(NuropbSerializationError) as caught:
            encode_strictly(payload)
        assert str(caught.value) == f"cannot be sent as JSON: {says}, at {path}"
        assert encode(payload), "as nuropb does: RMQAPI"


def test_a_coroutine_was_perhaps_not_awaited() -> None:
    async def when() -> None: ...

    loop = asyncio.new_event_loop()
    for awaitable in (coroutine := when(), loop.create_future()):
        with pytest.raises(NuropbSerializationError) as caught:
            encode_strictly({"result": [awaitable]})
        assert "has no JSON form (was it awaited?), at result[0]" in str(caught.value)
    coroutine.close()
    loop.close()


@pytest.mark.parametrize("value", [{(1, 2): 3}, {b"k": 1}, {uuid.UUID(int=1): 1}, {Colour.RED: 1}])
def test_a_key_is_a_string_or_number(value: Any) -> None:
    for payload in ({"v": [value]}, {"v": [MappingProxyType(value)]}):
        with pytest.raises(
            NuropbSerializationError, match=r"keys must be .*, at v\[0\]<key of type"
        ):
            encode_strictly(payload)


def test_a_circle_through_values_is_told() -> None:
    line = Line(price=1)
    line.when = {"line": [line]}
    with pytest.raises(NuropbSerializationError, match="Circular reference"):
        encode_strictly({"result": line})


def test_a_time_at_the_end_of_all_times_is_a_typed_error() -> None:
    with pytest.raises(NuropbSerializationError, match="OverflowError, at v"):
        encode_strictly({"v": datetime.datetime.min.replace(tzinfo=IN_PARIS)})


def aware(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (datetime.datetime, "2026-01-02T03:04:05Z", aware(2026, 1, 2, 3, 4, 5)),
        (datetime.datetime, "2026-01-02T03:04:05+00:00Z", aware(2026, 1, 2, 3, 4, 5)),
        (datetime.datetime, "2026-01-02T03:04:05.5+00:00Z", aware(2026, 1, 2, 3, 4, 5, 500_000)),
        (datetime.datetime, "2026-01-02T03:04:05+02:00Z", aware(2026, 1, 2, 1, 4, 5)),
        (datetime.datetime, "2026-01-02T03:04:05-02:00", aware(2026, 1, 2, 5, 4, 5)),
        (datetime.datetime, "2026-01-02 03:04", datetime.datetime(2026, 1, 2, 3, 4)),
        (datetime.date, "2026-01-02Z", datetime.date(2026, 1, 2)),
        (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
        (datetime.time, "03:04:00Z", datetime.time(3, 4, tzinfo=UTC)),
        (datetime.time, "03:04:00+00:00Z", datetime.time(3, 4, tzinfo=UTC)),
        (datetime.time, "03:04:00+02:00", datetime.time(3, 4, tzinfo=IN_PARIS)),
        (datetime.time, "03:04", datetime.time(3, 4)),
        (datetime.timedelta, "1 day, 0:00:02", datetime.timedelta(days=1, seconds=2)),
        (datetime.timedelta, "-1 day, 23:00:00", datetime.timedelta(hours=-1)),
        (datetime.timedelta, "2:00:00.000001", datetime.timedelta(hours=2, microseconds=1)),
        (datetime.timedelta, "P1DT2S", datetime.timedelta(days=1, seconds=2)),
        (datetime.timedelta, "-PT1H30M0.5S", -datetime.timedelta(hours=1, minutes=30, seconds=0.5)),
        (datetime.timedelta, "P2W", datetime.timedelta(weeks=2)),
        (Decimal, "0.10", Decimal("0.10")),
        (Decimal, "-1e3", Decimal(-1000)),
        (uuid.UUID, "00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
        (bytes, "AP8=", b"\x00\xff"),
        (bytes, "", b""),
        (bytearray, "YWI=", bytearray(b"ab")),
    ],
)
def test_texts_are_read(kind: type, text: str, value: Any) -> None:
    read: Any = READ[kind][0](text)
    assert read == value
    assert type(value) is kind
    assert type(read) is type(value)
    assert (getattr(read, "tzinfo", None) is None) is (getattr(value, "tzinfo", None) is None)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (datetime.datetime, ["", "Z", "now", "2026-01-02", "2026-01-02Z", "2026-13-01T00:00:00Z",
                             "2026-01-02T03:04:05ZZ", "2026-01-02T03:04:05+00:00ZZ",
                             "\ud800" * 20]),
        (datetime.date, ["", "Z", "2026-02-30", "2026-01-02T03:04:05Z", "2026-01-02ZZ", "1"]),
        (datetime.time, ["", "Z", "25:00", "2026-01-02", "03:04:00+00:00ZZ"]),
        (datetime.timedelta, ["", "P", "PT", "1 day", "1:2", "P1Y", "1e9", "P999999999DT999999999H",
                              "999999999 days, 99:99:99", "-", "PT1.S", "1\u0664:00:00 x"]),
        (Decimal, ["", "x", "NaN", "sNaN", "Infinity", "-inf", "1e5000", "1e-5000",
                   "1e999999999999999999999", "0e999999999", "9" * 4301]),
        (uuid.UUID, ["", "1", "g" * 32, "\ud800" * 32]),
        (bytes, ["a", "YWI", "Y W I =", "b'ab'", "é", "YWI=YWI=", "\ud800"]),
    ],
)  # fmt: skip
def test_texts_that_are_none_are_refused(kind: type, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError):  # noqa: PT011 - whichever; its text is not shown
            READ[kind][0](text)


@pytest.mark.parametrize(
    "value",
    [
        aware(2026, 1, 2, 3, 4, 5, 6),
        datetime.date(1, 1, 1),
        datetime.time(23, 59, 59, 999_999, tzinfo=UTC),
        datetime.time(3, 4, tzinfo=IN_PARIS),
        datetime.timedelta(days=-3, microseconds=1),
        datetime.timedelta.max,
        datetime.timedelta.min,
        Decimal("-1.50E-10"),
        uuid.uuid4(),
        bytes(range(256)),
    ],
)
def test_what_a_mesh_sends_is_read_as_it_was(value: Any) -> None:
    sent = json.loads(encode_strictly({"v": value}))["v"]
    read = READ[type(value)][0](sent)
    assert read == value
    assert repr(read) == repr(value)


def test_a_naive_time_is_taken_for_utc() -> None:
    """It is written with a Z, as nuropb writes it, and Z means UTC."""
    naive = datetime.datetime(2026, 1, 2, 3, 4)
    sent = json.loads(encode_strictly({"v": naive}))["v"]
    assert READ[datetime.datetime][0](sent) == naive.replace(tzinfo=UTC)
