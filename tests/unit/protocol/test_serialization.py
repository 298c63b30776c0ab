"""Bodies: nuropb's rules for values, and typed errors for what cannot be carried."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import json
import uuid
from collections import namedtuple
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuropb_rmq.exceptions import MalformedMessageError, NuropbSerializationError
from nuropb_rmq.protocol import serialization
from nuropb_rmq.protocol.serialization import decode, encode

CAPTURES: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "nuropb-0.1.8.json").read_text()
)
UTC = datetime.UTC
Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 3


class Kind(enum.StrEnum):
    A = "a"


@dataclasses.dataclass
class Inner:
    price: Decimal


@dataclasses.dataclass(frozen=True, slots=True)
class Outer:
    inner: Inner
    when: datetime.date


class Broken:
    def __str__(self) -> str:
        raise LookupError("secret-text")


class Refusing:
    """Its error is of a kind that json raises, too."""

    def __str__(self) -> str:
        raise ValueError("secret-text")


class Shown:
    def __str__(self) -> str:
        return "shown"


@pytest.fixture(params=["json", "orjson"], autouse=True, scope="module")
def _codec(request: pytest.FixtureRequest) -> Iterator[None]:
    """All of it holds with orjson, and without."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "json":
            patch.setattr(serialization, "orjson", None)
        else:
            assert serialization.__dict__["orjson"] is orjson
        yield


def roundtrip(value: Any) -> Any:
    return decode(encode({"v": value}), max_depth=100)["v"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05Z"),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006+00:00Z"),
        (datetime.date(2026, 1, 2), "2026-01-02Z"),
        (datetime.time(3, 4), "03:04:00Z"),
        (datetime.timedelta(days=1, seconds=2), "1 day, 0:00:02"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.10"), "0.10"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("NaN"), "NaN"),
        (
            Outer(Inner(Decimal(1)), datetime.date(1, 2, 3)),
            {"inner": {"price": "1"}, "when": "0001-02-03Z"},
        ),
        (Inner, str(Inner)),
        ({1}, "{1}"),
        (frozenset(), "frozenset()"),
        (b"ab", "b'ab'"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "Colour.RED"),
        (Level.LOW, 3),
        (Kind.A, "a"),
        (Point(1, 2), [1, 2]),
        ((1, 2), [1, 2]),
        (Shown(), "shown"),
        (2**70, 2**70),
        (float("inf"), float("inf")),
        ("\ud800", "\ud800"),
        ("é☃😀", "é☃😀"),
        ({1: 1, None: 2, False: 3, 0.5: 4}, {"1": 1, "null": 2, "false": 3, "0.5": 4}),
        (MappingProxyType({"a": 1}), "{'a': 1}"),
    ],
)
def test_values_as_nuropb_sends_them(value: Any, expected: Any) -> None:
    assert roundtrip(value) == expected


def test_not_a_number_is_carried() -> None:
    assert encode({"v": float("nan")}) == b'{"v":NaN}'


def test_bodies_are_compact_ascii() -> None:
    assert encode({"a": [1, "é"], "b": {}}) == b'{"a":[1,"\\u00e9"],"b":{}}'
    assert encode(MappingProxyType({"a": 1})) == b'{"a":1}'


def test_captured_bodies_are_read_and_written_with_equal_values() -> None:
    bodies = [
        base64.b64decode(message["body_b64"])
        for capture in CAPTURES.values()
        for message in (capture if isinstance(capture, list) else [capture])
        if isinstance(message, dict) and "body_b64" in message
    ]
    plain = [body for body in bodies if body.startswith(b"{")]
    assert len(plain) >= 15
    for body in plain:
        payload = decode(body, max_depth=100)
        assert payload == json.loads(body)
        assert decode(encode(payload), max_depth=100) == payload


@pytest.mark.parametrize(
    "payload",
    [
        {"v": None, "w": float("nan")},
        {"v": [float("nan")], "w": None},
        {"v": {"w": None}},
        {"v": "null"},
        {"v": 2**64, "w": -(2**63) - 1},
        {"v": 1e22, "w": -0.0, "x": 5e-324},
        {"v": [Colour.RED], "w": Level.LOW, "x": Kind.A},
        {"v": uuid.UUID(int=1), "w": datetime.date(2026, 1, 2)},
        {"v": {1: "x"}},
        {"v": "\x7f\u2028\ud800"},
        {"v": '/\b\f\n\r\t\x1f"\\'},
    ],
)
def test_a_payload_says_the_same_with_and_without_orjson(
    payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = encode(payload)
    monkeypatch.setattr(serialization, "orjson", None)
    assert repr(decode(body, max_depth=9)) == repr(decode(encode(payload), max_depth=9))


class Loud(str):
    def __add__(self, other: str) -> str:
        return "!" + other

    __radd__ = __add__


LONG = "x" * 5000


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        Loud(LONG),
        *(LONG + odd + LONG for odd in ('"', "\\", "\x7f", "\x1f", "\n", "é", "\ud800", "😀")),
        "".join(map(chr, range(32, 127))) * 60,
    ],
    ids=lambda text: ascii(text[4999:5001]),
)
def test_long_texts_are_written_as_json_writes_them(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serialization, "orjson", None)
    payload = {"params": {text: [text, "short"]}}
    expected = json.dumps(payload, separators=(",", ":")).encode()
    for _ in range(2):  # a body after a large one is made in another way
        assert encode(payload) == expected
    small = {"params": {"a": '"'}}
    for _ in range(2):
        assert encode(small) == b'{"params":{"a":"\\""}}'


LONG_TEXTS = st.text(min_size=1, max_size=50).map(lambda text: text * (5000 // len(text) + 1))


@given(st.dictionaries(st.text(max_size=50), LONG_TEXTS, max_size=3))
def test_any_long_text_is_written_as_json_writes_it(payload: dict[str, Any]) -> None:
    encode({"params": LONG})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialization, "orjson", None)
        assert encode(payload) == json.dumps(payload, separators=(",", ":")).encode()


def circular() -> dict[str, Any]:
    inner: dict[str, Any] = {"ok": 1}
    inner["self"] = [inner]
    return {"ok": {}, "params": {"a": inner}}


def deep() -> dict[str, Any]:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return {"params": value}


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (circular(), "Circular reference detected, at params.a.self[0]"),
        ({"params": [1, {(1, 2): 3}]}, "params[1]<key of type tuple>"),
        ({"params": {"x": Outer(Broken(), 1)}}, "LookupError, at params.x.inner"),  # type: ignore[arg-type]
        ({"params": {"x": Refusing()}}, "JSON: ValueError, at params.x"),
        (
            {b"k": 1},
            "not bytes, at <key of type bytes>",
        ),
        ({"n": {"big": 10**5000}}, "Exceeds the limit (4300 digits)"),
        ({"n": {"big": 10**5000}}, "at n.big"),
        (deep(), "nested too deeply, at params[0][0]"),
    ],
)
def test_what_cannot_be_carried_is_named(payload: dict[str, Any], says: str) -> None:
    with pytest.raises(NuropbSerializationError) as caught:
        encode(payload)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.payload is payload
    assert caught.value.exception is caught.value.__cause__


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{}x", "not JSON: Extra data, character 2"),
        (b"[] []", "not JSON: Extra data"),
        (b'{"a":1,}', "not JSON"),
        (b"\xff", "not UTF-8: byte 0"),
        ("\ufeff{}".encode(), "not JSON"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b"9" * 5000, "digits"),
        (b"[" * 101, "deeper than 100"),
        (b"[" * 101 + b"]" * 101, "deeper than 100"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "deeper than 100"),
        (b"[" * 200_000, "deeper than 100"),
        (b'["]",' * 101 + b"1" + b"]" * 101, "deeper than 100"),
        (b'["\\"]",' * 101 + b"1" + b"]" * 101, "deeper than 100"),
    ],
)
def test_malformed_bodies(body: bytes, says: str) -> None:
    with pytest.raises(MalformedMessageError, match=says) as caught:
        decode(body, max_depth=100)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_the_interpreters_own_limit_is_a_typed_error() -> None:
    with pytest.raises(MalformedMessageError):
        decode(b"[" * 500_000 + b"]" * 500_000, max_depth=1_000_000)


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "[" * 500,
        [{}] * 500,
        [{"a": '[{"\\[', "b": [[]]}] * 300,
        ["\\", '"', "]" * 9] * 200,
    ],
)
def test_any_json_within_the_depth_is_read(value: Any) -> None:
    for body in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert decode(body.encode(), max_depth=100) == value


def test_space_around_a_value_is_no_part_of_it() -> None:
    for body in (b" {}", b"{}\r\n", b"\t{ }\n "):
        assert decode(body, max_depth=100) == {}


def test_depth_is_exact() -> None:
    wide = b",".join([b"[]"] * 50)
    for depth in (2, 5, 99):
        body = b"[" * (depth - 1) + wide + b"]" * (depth - 1)
        assert decode(body, max_depth=depth)
        with pytest.raises(MalformedMessageError):
            decode(body, max_depth=depth - 1)


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 2_000_000,
        b'"' * 4_000_001,
        b"[" * 200 + b'"' + b"\\" * 4_000_001,
        b"[" * 4_000_000,
    ],
)
def test_hostile_bodies_cost_no_more_than_linear_time(body: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode(b"[" * 200 + body, max_depth=100)  # else it would take hours


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)


@given(JSON_VALUES)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert roundtrip(value) == value


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(JSON_VALUES, st.integers(1, 6))
def test_depth_is_judged_like_a_parser_judges_it(value: Any, limit: int) -> None:
    body = encode({"v": value})
    if 1 + depth_of(value) <= limit:
        assert decode(body, max_depth=limit) == {"v": value}
    else:
        with pytest.raises(MalformedMessageError):
            decode(body, max_depth=limit)


@given(st.binary())
def test_any_bytes_are_read_or_refused_with_a_typed_error(body: bytes) -> None:
    try:
        decode(body, max_depth=3)
    except MalformedMessageError as error:
        assert error.description  # noqa: PT017 - either way is right
