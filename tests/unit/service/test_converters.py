"""Hints as converters: what fits, what it becomes, and what a refusal says."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import json
import pathlib
import sys
import typing
import uuid
from collections import abc, deque
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, TypedDict, Union

import pytest
import typing_extensions

from nuropb_rmq.protocol.serialization import decode, encode_strictly
from nuropb_rmq.service.converters import Converters
from nuropb_rmq.service.type_hints import Converter, Mismatch, Uncheckable, label

UTC = datetime.UTC
WHEN = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
DAY = datetime.date(2026, 1, 2)
ID = uuid.UUID(int=1)


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2
    NONE = None


class Level(enum.IntEnum):
    LOW = 3


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Of(enum.Enum):
    PAIR = (1, 2)


@dataclasses.dataclass
class Line:
    article: str
    price: Decimal
    when: datetime.datetime | None = None
    tags: set[str] = dataclasses.field(default_factory=set)
    total: Decimal = dataclasses.field(init=False, default=Decimal(0))

    def __post_init__(self) -> None:
        if self.price < 0:
            raise ValueError("price must be at least 0")
        self.total = 2 * self.price


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    id: uuid.UUID
    lines: list[Line] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node] = dataclasses.field(default_factory=list)


class Address(TypedDict):
    street: str
    since: NotRequired[datetime.date]


class Partly(Address, total=False):
    floor: int


class Point(NamedTuple):
    x: float
    day: datetime.date = DAY


Untyped = collections.namedtuple("Untyped", "a b")


class Extended(typing_extensions.TypedDict):
    street: typing_extensions.Required[str]
    since: typing_extensions.NotRequired[datetime.date]


UserId = typing.NewType("UserId", int)

# hint, values that are taken as they are, values that are refused
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
    (list[list[int]], [[[1], []]], [[1], [["a"]]]),
    (Optional[int], [1, None], ["1", 1.5]),  # noqa: UP045
    (Union[int, str], [1, "a"], [None, 1.5, []]),  # noqa: UP007
    (str | None, ["a", None], [1]),
    (list[int] | None, [[1], None], [["a"], "a"]),
    (Annotated[int, "a comment"], [1], ["1"]),
    (Annotated[list[int], "a comment"], [[1]], [["1"]]),
    (dict[str, Any], [{"a": object}], [[]]),
    (list[Any], [[object]], [{}]),
    (dict[Any, int], [{"a": 1}], [{"a": "1"}]),
    (typing.List[int], [[1]], [["a"]]),  # noqa: UP006
    (typing.Dict[str, int], [{"a": 1}], [{"a": "b"}]),  # noqa: UP006
    (abc.Sequence[int], [[1]], [["a"], "ab"]),
    (abc.Iterable[int], [[1]], [["a"], 1]),
    (abc.Mapping[str, int], [{"a": 1}], [{"a": "b"}, []]),
    (abc.Mapping, [{"a": 1}], [[]]),
    (date_or_text := datetime.date | str, ["2026-01-02", "soon"], [1, []]),
    (Literal["a", 1, None], ["a", 1, None], ["b", 2, True, 1.0, [], {}]),
    (Literal[True], [True], [1, "true"]),
    (typing.LiteralString, ["a"], [1]),
    (UserId, [7], ["7"]),
    (Address, [{"street": "a"}], [{}, {"street": 1}, {"street": "a", "town": "b"}, []]),
    (Partly, [{"street": "a", "floor": 1}], [{"floor": 1}, {"street": "a", "floor": "1"}]),
]

# hint, a value of JSON, what it becomes
CONVERTED: list[tuple[Any, Any, Any]] = [
    (datetime.datetime, "2026-01-02T03:04:00Z", WHEN),
    (datetime.datetime, "2026-01-02T03:04:00+00:00Z", WHEN),
    (datetime.date, "2026-01-02Z", DAY),
    (datetime.time, "03:04:00Z", datetime.time(3, 4, tzinfo=UTC)),
    (datetime.timedelta, "0:00:02", datetime.timedelta(seconds=2)),
    (Decimal, "12.50", Decimal("12.50")),
    (Decimal, 12, Decimal(12)),
    (Decimal, 0.1, Decimal("0.1")),
    (uuid.UUID, str(ID), ID),
    (bytes, "AP8=", b"\x00\xff"),
    (Colour, "red", Colour.RED),
    (Colour, "Colour.RED", Colour.RED),
    (Colour, 2, Colour.BLUE),
    (Colour, None, Colour.NONE),
    (Level, 3, Level.LOW),
    (Rights, 3, Rights.READ | Rights.WRITE),
    (Literal[Colour.RED], "red", Colour.RED),
    (set[int], [1, 2, 1], {1, 2}),
    (frozenset[str], ["a"], frozenset({"a"})),
    (abc.Set[datetime.date], ["2026-01-02"], frozenset({DAY})),
    (abc.MutableSet[int], [1], {1}),
    (set, [1], {1}),
    (deque[int], [1], deque([1])),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[datetime.date, ...], ["2026-01-02"], (DAY,)),
    (tuple[()], [], ()),
    (tuple, [1, "a"], (1, "a")),
    (typing.Tuple, [1, "a"], (1, "a")),  # noqa: UP006
    (typing.Tuple[int, ...], [1, 2], (1, 2)),  # noqa: UP006
    (list[datetime.date], ["2026-01-02"], [DAY]),
    (abc.Sequence[datetime.date], ["2026-01-02"], [DAY]),
    (dict[str, datetime.date], {"a": "2026-01-02"}, {"a": DAY}),
    (abc.MutableMapping[str, bytes], {"a": "YQ=="}, {"a": b"a"}),
    (dict[int, str], {"1": "a", "-20": "b", "0": "c"}, {1: "a", -20: "b", 0: "c"}),
    (dict[uuid.UUID, int], {str(ID): 1}, {ID: 1}),
    (dict[datetime.date, list[Colour]], {"2026-01-02": ["red"]}, {DAY: [Colour.RED]}),
    (dict[Literal["a"], int], {"a": 1}, {"a": 1}),
    (datetime.date | None, "2026-01-02", DAY),
    (datetime.date | datetime.datetime, "2026-01-02T03:04:00Z", WHEN),
    (Annotated[datetime.date, "a comment"], "2026-01-02", DAY),
    (Point, [1, "2026-01-03"], Point(1, datetime.date(2026, 1, 3))),
    (Point, [1.5], Point(1.5)),
    (Untyped, [1, []], Untyped(1, [])),
    (Address, {"street": "a", "since": "2026-01-02"}, {"street": "a", "since": DAY}),
    (Extended, {"street": "a", "since": "2026-01-02"}, {"street": "a", "since": DAY}),
    (Extended, {"street": "a"}, {"street": "a"}),
    (
        Line,
        {"article": "a", "price": "1.5", "when": "2026-01-02T03:04:00Z", "tags": ["x"]},
        Line("a", Decimal("1.5"), WHEN, {"x"}),
    ),
    (Line, {"article": "a", "price": 1, "total": "99"}, Line("a", Decimal(1))),
    (
        Order,
        {"id": str(ID), "lines": [{"article": "a", "price": "1"}]},
        Order(id=ID, lines=[Line("a", Decimal(1))]),
    ),
    (Line | None, {"article": "a", "price": 1}, Line("a", Decimal(1))),
    (Node, {"value": 1, "children": [{"value": 2}]}, Node(1, [Node(2)])),
    (list[Node] | Line, [{"value": 1}], [Node(1)]),
]

# hint, a value that does not fit, what is said of it
SAID: list[tuple[Any, Any, str]] = [
    (int, "1", "params.a: expected an integer, got a string"),
    (int, True, "params.a: expected an integer, got true or false"),
    (float, "1", "params.a: expected a number, got a string"),
    (str, None, "params.a: expected a string, got null"),
    (list[int], [1, "x"], "params.a[1]: expected an integer, got a string"),
    (dict[str, list[int]], {"a": [1, None]}, "params.a['a'][1]: expected an integer, got null"),
    (int | str | None, [], "params.a: expected an integer or a string or null, got a list"),
    (list[int] | None, ["x"], "params.a[0]: expected an integer, got a string"),
    (list[int] | None, "x", "params.a: expected a list or null, got a string"),
    (datetime.date | None, 1, "params.a: expected a date (YYYY-MM-DD) or null, got an integer"),
    (datetime.date, 1, "params.a: expected a date (YYYY-MM-DD) as a string, got an integer"),
    (datetime.date, "hush", "params.a: expected a date (YYYY-MM-DD), got another string"),
    (datetime.datetime, "hush", "expected a date and time (ISO 8601), got another string"),
    (Decimal, "hush", "params.a: expected a decimal number, got another string"),
    (Decimal, True, "params.a: expected a decimal number as a string, got true or false"),
    (uuid.UUID, "hush", "params.a: expected a UUID, got another string"),
    (bytes, "b'hush'", "params.a: expected bytes (base64), got another string"),
    (Literal["a", 1], "hush", "params.a: expected one of 'a', 1, got another value"),
    (Literal["a", 1], [], "params.a: expected one of 'a', 1, got a list"),
    (Colour, "hush", "params.a: expected one of 'red', 2, None, got another value"),
    (Rights, 8, "params.a: expected a Rights, got another number"),
    (Rights, -1, "params.a: expected the number of a Rights, got an integer"),
    (Rights, "READ", "params.a: expected the number of a Rights, got a string"),
    (set[int], ["hush"], "params.a[0]: expected an integer, got a string"),
    (set, [[]], "params.a: expected values that a set can hold, got others"),
    (tuple[int, str], [1], "params.a: expected a list of 2, got one of 1"),
    (tuple[int, str], ["hush", "a"], "params.a[0]: expected an integer, got a string"),
    (tuple[int, str], {}, "params.a: expected a list of 2, got an object"),
    (Point, [], "params.a: expected a list of 1 to 2, got one of 0"),
    (Point, [1, "hush"], "params.a.day: expected a date (YYYY-MM-DD), got another string"),
    (
        dict[int, str],
        {"01": "a"},
        "params.a['01']: expected a key that is an integer, got another",
    ),
    (dict[str, str], {"x": 1}, "params.a['x']: expected a string, got an integer"),
    (Line, [], "params.a: expected an object, got a list"),
    (Line, {"article": "a"}, "params.a.price: missing"),
    (Line, {}, "params.a.article: missing; params.a.price: missing"),
    (
        Line,
        {"article": "a", "price": 1, "tag": []},
        "params.a.tag: no such field; did you mean tags?",
    ),
    (Line, {"article": "a", "price": "-1"}, "params.a: price must be at least 0"),
    (
        Order,
        {"id": str(ID), "lines": [{"article": "a", "price": 1}, {"article": 1, "price": 1}]},
        "params.a.lines[1].article: expected a string, got an integer",
    ),
    (
        list[Order],
        [{"id": str(ID), "lines": [{"article": "a", "price": None}]}],
        "params.a[0].lines[0].price: expected a decimal number as a string, got null",
    ),
    (Node, {"value": 1, "children": [{"value": "hush"}]}, "params.a.children[0].value: expected"),
    (Address, {"street": 1}, "params.a.street: expected a string, got an integer"),
]


class Plain:
    """Any other class."""


class Sized(typing.Protocol):
    def size(self) -> int: ...


T = typing.TypeVar("T")


@dataclasses.dataclass
class Generic(typing.Generic[T]):
    item: T


@dataclasses.dataclass
class WithInitVar:
    a: dataclasses.InitVar[int]


@dataclasses.dataclass(init=False)
class OwnInit:
    a: int

    def __init__(self) -> None: ...


@dataclasses.dataclass
class Lost:
    a: Nowhere  # type: ignore[name-defined]  # noqa: F821


UNCHECKABLE: list[tuple[Any, str]] = [
    (Plain, "Plain cannot be checked"),
    (list[Plain], "Plain cannot be checked"),
    (dict[str, Plain | None], "Plain cannot be checked"),
    (Callable[[int], str], r"Callable\[\[int\], str\] cannot be checked"),
    (type[int], r"type\[int\] cannot be checked"),
    (T, "T cannot be checked"),
    (Generic, "T cannot be checked"),
    (Generic[int], r"Generic\[int\] cannot be checked"),
    (WithInitVar, "WithInitVar cannot be checked: its a is an InitVar"),
    (OwnInit, "OwnInit cannot be checked: it is a dataclass with init=False"),
    (Lost, "Lost cannot be checked: NameError in its hints: name 'Nowhere' is not defined"),
    (list["Lost"], "Lost cannot be checked: no such name where the method is defined"),
    ("Lost", "Lost cannot be checked: no such name"),
    (Of, "Of cannot be checked: its values are not all strings, numbers"),
    (Literal[b"a"], r"Literal\[b'a'\] cannot be checked"),
    (dict[float, int], "float cannot be checked: a key of JSON is a string"),
    (pathlib.Path, "Path cannot be checked"),
    (complex, "complex cannot be checked"),
    (range, "range cannot be checked"),
    (abc.Iterator[int], r"Iterator\[int\] cannot be checked"),
    (collections.OrderedDict, "OrderedDict cannot be checked"),
    (Sized, "Sized cannot be checked"),
    (typing.Never, "Never cannot be checked"),
    (5, "5 cannot be checked"),
    (["no", "hint"], "cannot be checked: it is not a type"),
]


def converter(hint: Any) -> Converter:
    made = Converters().of(hint)
    assert made is not None
    return made


@pytest.mark.parametrize(("hint", "taken", "refused"), PLAIN, ids=lambda each: str(each)[:30])
def test_values_of_json_are_taken_as_they_are(
    hint: Any, taken: list[Any], refused: list[Any]
) -> None:
    convert = converter(hint)
    for value in taken:
        assert convert(value) is value
    for value in refused:
        with pytest.raises(Mismatch):
            convert(value)


@pytest.mark.parametrize(("hint", "value", "made"), CONVERTED, ids=lambda each: str(each)[:30])
def test_values_that_json_lacks_are_made(hint: Any, value: Any, made: Any) -> None:
    before = json.dumps(value)
    taken = converter(hint)(value)
    assert taken == made
    assert type(taken) is type(made)
    assert json.dumps(value) == before, "what came is not changed"


@pytest.mark.parametrize(("hint", "value", "says"), SAID, ids=lambda each: str(each)[:30])
def test_what_a_refusal_says(hint: Any, value: Any, says: str) -> None:
    with pytest.raises(Mismatch) as caught:
        converter(hint)(value)
    told = caught.value.describe("params.a")
    assert says in told
    assert "hush" not in told
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(("hint", "says"), UNCHECKABLE, ids=lambda each: str(each)[:30])
def test_a_hint_that_cannot_be_checked_is_an_error(hint: Any, says: str) -> None:
    hints = [hint] if isinstance(hint, int | list) else [hint, Optional[hint]]  # noqa: UP045
    for each in hints:
        with pytest.raises(Uncheckable, match=says):
            Converters().of(each)


@pytest.mark.parametrize("hint", [Any, object, Any | None, Annotated[Any, "x"], list[Any] | object])
def test_what_says_nothing_is_not_checked(hint: Any) -> None:
    assert Converters().of(hint) is None


def test_the_order_of_a_unions_members_counts() -> None:
    """Equal for Python: int | str == str | int. So nothing is remembered of one for the other."""
    made = Converters()
    hints = datetime.date | Decimal, Decimal | datetime.date
    assert hints[0] == hints[1]
    days = [made.of(hint) for hint in hints]
    assert [each("20260102") for each in days if each] == [DAY, Decimal(20260102)]


def test_a_long_key_is_not_repeated_in_full() -> None:
    for hint in (dict[str, int], Line):
        with pytest.raises(Mismatch) as caught:
            converter(hint)({"k" * 10_000: "x"})
        assert len(caught.value.describe("field")) < 300


def test_an_error_of_a_class_is_the_services_own() -> None:
    @dataclasses.dataclass
    class Broken:
        def __post_init__(self) -> None:
            raise LookupError("hush")

    with pytest.raises(LookupError):
        converter(Broken)({})


if sys.version_info >= (3, 12):  # `type` statements are new there

    def test_type_aliases() -> None:
        namespace: dict[str, Any] = {"date": datetime.date}
        exec("type Days = list[date]\ntype Tree = int | list[Tree]", namespace)
        assert converter(namespace["Days"])(["2026-01-02"]) == [DAY]
        tree = converter(namespace["Tree"])
        assert tree([1, [2, [3]]]) == [1, [2, [3]]]
        with pytest.raises(Mismatch):
            tree([1, ["x"]])


ROUND_TRIPS: list[tuple[Any, Any]] = [
    (Order, Order(id=ID, lines=[Line("a", Decimal("1.50"), WHEN, {"x", "y"})])),
    (list[Point], [Point(1.5), Point(2, datetime.date.max)]),
    (dict[str, set[Colour]], {"a": {Colour.RED, Colour.BLUE}}),
    (tuple[bytes, datetime.timedelta], (b"\xff", datetime.timedelta(days=-1, seconds=7))),
    (Rights, Rights.READ | Rights.WRITE),
    (datetime.time, datetime.time(1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=-5)))),
    (deque[frozenset[int]], deque([frozenset({1, 2})])),
    (Partly, {"street": "a", "since": DAY, "floor": 1}),
]


@pytest.mark.parametrize(("hint", "value"), ROUND_TRIPS, ids=lambda each: str(each)[:30])
def test_what_one_mesh_sends_another_takes(hint: Any, value: Any) -> None:
    body = encode_strictly({"v": value})
    assert converter(hint)(decode(body, max_depth=20)["v"]) == value


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
    (typing.ForwardRef("Unresolvable"), "Unresolvable"),
]


@pytest.mark.parametrize(("hint", "text"), LABELS, ids=[text for _, text in LABELS])
def test_labels(hint: Any, text: str) -> None:
    assert label(hint) == text
