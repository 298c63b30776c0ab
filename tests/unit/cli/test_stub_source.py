# mypy: disable-error-code="empty-body"
"""The source of an interface: of every type, of hostile descriptions, with hidden names."""

from __future__ import annotations

import ast
import datetime
import json
import sys
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from types import ModuleType
from typing import Any, Literal, NotRequired, Protocol, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuropb_rmq import publish_to_mesh
from nuropb_rmq.cli.stub_source import StubSource
from nuropb_rmq.service.methods import Published
from nuropb_rmq.service.type_hints import class_hints

from ...encrypting import private_key


@dataclass
class Line:
    item: str
    price: Decimal
    under: list[Line] = field(default_factory=list)


Keys = TypedDict("Keys", {"from": str, "to": NotRequired[int]})


ID = uuid.UUID(int=0)


class Orders:
    '''Says """ and \\N{BULLET}.'''

    _private_key = private_key(1)

    async def place(
        self,
        number: int,
        day: datetime.date | None = None,
        kind: Literal["a", "b"] = "a",
        *,
        lines: list[Line],
        ratio: float = 0.5,
        keys: Keys,
        anything: Any = None,
    ) -> Line:
        """Place an order.

        In two paragraphs."""

    async def pair(self, key: uuid.UUID = ID) -> tuple[int, bytes]: ...

    @publish_to_mesh(requires_encryption=True)
    async def secret(self, **others: int) -> dict[str, bool]: ...


SOURCE = '''\
"""The service `orders`, as its clients call it."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any, ClassVar, Literal, NotRequired, Protocol, TypedDict


class Line(TypedDict):
    item: str
    price: decimal.Decimal
    under: list[Line]


class LineInput(TypedDict):
    item: str
    price: decimal.Decimal
    under: NotRequired[list[LineInput]]


Keys = TypedDict("Keys", {
    "from": "str",
    "to": "NotRequired[int]",
})


class OrderDesk(Protocol):
    """Says \'\'\' and \\\\N{BULLET}."""

    _service_name: ClassVar[str] = "orders"

    async def pair(self, key: uuid.UUID = ...) -> tuple[int, bytes]: ...

    async def place(
        self,
        number: int,
        day: datetime.date | None = None,
        kind: Literal["a", "b"] = "a",
        *,
        lines: list[LineInput],
        ratio: float = 0.5,
        keys: Keys,
        anything: Any = ...,
    ) -> Line:
        """Place an order.

        In two paragraphs.
        """
        ...

    async def secret(self, **others: Any) -> dict[str, bool]:
        # Encrypted: the service requires it.
        ...
'''


def described(service: object) -> dict[str, Any]:
    """The description as it arrives."""
    found: dict[str, Any] = json.loads(json.dumps(Published(service, "orders").describe()))
    return found


DAY = {"type": "string", "format": "date"}


def run(source: str) -> dict[str, Any]:
    """The names that a source defines, as a module."""
    module = sys.modules["stubs"] = ModuleType("stubs")
    try:
        exec(compile(source, "stubs", "exec", dont_inherit=True), vars(module))
        for value in vars(module).values():
            if getattr(value, "__module__", "") == "stubs":
                class_hints(value)
    finally:
        del sys.modules["stubs"]
    return vars(module)


def test_every_kind_of_type() -> None:
    assert StubSource("orders", described(Orders()), blocking=False).text("OrderDesk") == SOURCE


def test_without_await() -> None:
    source = StubSource("orders", described(Orders()), blocking=True).text("Orders")
    assert "    def place(" in source
    assert "async" not in source


class Plain:
    async def get(self, key: str | None, kind: int | str = 0) -> float | None: ...


@pytest.mark.parametrize(
    "description",
    [
        described(Plain()),
        {"methods": {"get": {"params_schema": {"properties": {"from": {}, "day": DAY}}}}},
    ],
)
def test_only_what_is_used_is_imported(description: dict[str, Any]) -> None:
    source = StubSource("orders", description, blocking=False).text("Orders")
    imports = [line for line in source.splitlines() if line.startswith(("import", "from typing"))]
    used = ["ClassVar", "Protocol"] + (["Any"] if ": Any" in source or "> Any" in source else [])
    assert imports == [f"from typing import {', '.join(sorted(used))}"]


class Hiding:
    """Its methods have the names of what annotations need."""

    async def list(self, count: int) -> set[str]: ...

    async def str(self) -> int: ...

    async def uuid(self) -> uuid.UUID: ...

    async def Any(self) -> Any: ...  # noqa: N802

    async def Line(self) -> Line: ...  # noqa: N802


def test_names_that_methods_hide() -> None:
    source = StubSource("orders", described(Hiding()), blocking=False).text("Orders")
    for line in (
        "    async def list(self, count: int) -> builtins.list[builtins.str]: ...",
        "    async def str(self) -> int: ...",
        "    async def uuid(self) -> uuid_.UUID: ...",
        "    async def Any(self) -> Any_: ...",
        "    async def Line(self) -> Line_2: ...",
    ):
        assert line in source
    run(source)


OPEN = {"additionalProperties": True}
OBJECT = {"type": "object", "properties": {"x": {}}}


@pytest.mark.parametrize(
    ("methods", "line"),
    [
        ({"get": {}}, "    async def get(self) -> Any: ..."),
        ({"class": {}}, "    # class cannot be called from Python by this name"),
        ({"x\n    import os": {}}, "    # x\\n    import os cannot be called from Python by this"),
        ({"__debug__": {}}, "    # __debug__ cannot be called from Python by this name"),
        ({"_own": {}}, "    # _own cannot be called from Python by this name"),
        (
            {"get": {"params_schema": {"properties": {"from": {}}}}},
            "    # get: 'from' cannot be the name of a parameter in Python",
        ),
        (
            {"get": {"parameters": {"properties": [["a", {"type": "int"}], ["b", {"type": "A"}]]}}},
            "    async def get(self, a: int = ..., b: Any = ...) -> Any: ...",
        ),
        (
            {"get": {"result_schema": {"enum": ['")\nimport os', None]}}},
            '    async def get(self) -> Literal["\\")\\nimport os", None]: ...',
        ),
        (
            {"get": {"params_schema": {**OBJECT, "properties": {"others": {}}, **OPEN}}},
            "    async def get(self, others: Any = ..., **others_: Any) -> Any: ...",
        ),
        ({"get": {"result_schema": {"enum": [1.5]}}}, "    async def get(self) -> Any: ..."),
        (
            {"get": {"result_schema": {**OBJECT, "title": "a\nb"}}},
            "    async def get(self) -> a_b: ...",
        ),
        (
            {"get": {"result_schema": {**OBJECT, "title": "int"}}},
            "    async def get(self) -> int_2: ...",
        ),
    ],
)
def test_descriptions_of_others(methods: dict[str, Any], line: str) -> None:
    source = StubSource("orders", {"methods": methods}, blocking=False).text("Orders")
    ast.parse(source)
    assert any(each.startswith(line) for each in source.splitlines())


NAMES = st.one_of(
    st.sampled_from(["get", "place", "class", "self", "list", "Any", "Line", "Orders", "ß"]),
    st.text(max_size=8),
)
WORDS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "anyOf",
        "enum",
        "const",
        "$ref",
        "$defs",
        "title",
        "default",
        "params_schema",
        "result_schema",
        "parameters",
        "description",
        "format",
        "prefixItems",
        "minItems",
        "additionalProperties",
        "contentEncoding",
        "requires_encryption",
    ]
)
KINDS = st.sampled_from(["object", "array", "string", "integer", "null", "#/$defs/Line", "date"])
VALUES = st.recursive(
    st.one_of(KINDS, NAMES, st.integers(), st.floats(), st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(WORDS, NAMES), inner, max_size=4),
    ),
    max_leaves=25,
)


@given(
    service=NAMES,
    methods=st.dictionaries(NAMES, st.dictionaries(WORDS, VALUES, max_size=5), max_size=4),
    description=VALUES,
)
def test_any_description_makes_source_that_runs(
    service: str, methods: dict[str, Any], description: Any
) -> None:
    """A peer writes none of the code: the module has imports, TypedDicts and one Protocol."""
    whole = {"methods": methods, "description": description}
    source = StubSource(service, whole, blocking=False).text("Orders")
    tree = ast.parse(source)
    allowed = ast.Expr, ast.Import, ast.ImportFrom, ast.ClassDef, ast.Assign
    assert all(isinstance(statement, allowed) for statement in tree.body)
    protocol = run(source)["Orders"]
    assert Protocol in protocol.__mro__
