"""Hints that name what is defined later, or only for type checkers: the same on each Python.

The sources below are run as they stand from Python 3.14 on, which computes annotations when they
are asked for, and with annotations as text before.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from nuropb_rmq.exceptions import NuropbConfigurationError
from nuropb_rmq.service.methods import Published
from nuropb_rmq.service.signatures import hints_of, signature_of
from nuropb_rmq.service.type_hints import label

LATER = """
import dataclasses
import typing
from collections.abc import Sequence
from nuropb_rmq import NuropbContextManager, mesh_event, nuropb_context, publish_to_mesh

if typing.TYPE_CHECKING:
    from nowhere import Claims, Result

class Orders:
    @nuropb_context
    @publish_to_mesh(description="Adds")
    def add(self, ctx: NuropbContextManager, line: Line, lines: Sequence[Line] = ()) -> list[Line]:
        return [line, *lines]

    @nuropb_context
    def seen(self, ctx: Claims, count: int) -> Result:
        return count

    @mesh_event("orders.*")
    def on_order(self, event: Line | None) -> None: ...

@dataclasses.dataclass
class Line:
    count: int
    next: Line | None = None
"""
LOST = """
import typing

if typing.TYPE_CHECKING:
    from nowhere import Line

class Orders:
    def add(self, line: {hint}) -> None: ...
"""


Run = Callable[[str], dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a source as a module, in which dataclasses and typing look names up."""

    def run(source: str) -> dict[str, Any]:
        if sys.version_info < (3, 14):
            source = f"from __future__ import annotations\n{source}"
        module = ModuleType(f"{__name__}.later")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        # Not with the annotations of this file, as exec() alone would have it.
        code = compile(source, module.__name__, "exec", dont_inherit=True)
        exec(code, module.__dict__)
        return module.__dict__

    return run


def test_a_hint_may_name_what_is_defined_later(run: Run) -> None:
    names = run(LATER)
    published = Published(names["Orders"](), "orders")
    assert set(published.methods) == {"add", "seen"}
    taken = published.methods["add"].parameters.fields.checked(
        {"line": {"count": 1, "next": {"count": 2}}, "lines": [{"count": 3}]}
    )
    line = names["Line"]
    assert taken == {"line": line(1, line(2)), "lines": [line(3)]}
    (handler,) = published.handlers("orders.new")
    assert handler.parameters.fields.checked({"event": {"count": 1}}) == {"event": line(1)}
    assert published.methods["seen"].parameters.fields.checked({"count": 1}) == {"count": 1}
    described = published.describe()["methods"]["add"]["parameters"]["properties"]
    assert [each["type"] for _, each in described] == ["Line", "Sequence[Line]"]


@pytest.mark.parametrize("hint", ["Line", "list[Line]", "dict[str, Line | None]"])
def test_a_hint_for_type_checkers_alone_is_named(run: Run, hint: str) -> None:
    service = run(LOST.format(hint=hint))["Orders"]()
    with pytest.raises(NuropbConfigurationError) as caught:
        Published(service, "orders")
    assert "add: parameter 'line'" in str(caught.value)
    assert "cannot be checked: no such name" in str(caught.value)
    assert "TYPE_CHECKING" in str(caught.value)
    described = Published(service, "orders", checks=False).describe()  # RMQAPI checks nothing
    ((name, said),) = described["methods"]["add"]["parameters"]["properties"]
    assert (name, said["type"].replace("'", "")) == ("line", hint)


def test_text_in_hints_is_resolved() -> None:
    class Service:
        def get(self, a: "list[str]", b: list["int"], c: Nowhere = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037

    call = Service().get
    hints = hints_of(call, signature_of(call))
    assert (hints["a"], hints["b"]) == (list[str], list[int])
    assert label(hints["c"]) == "Nowhere"


def test_names_of_the_class_are_seen_behind_those_of_the_module() -> None:
    class Service:
        @dataclasses.dataclass
        class Line:
            count: int

        def add(self, line: Line, lines: list[Line], other: sys) -> None: ...  # type: ignore[valid-type]

        def sys(self) -> None: ...

        @classmethod
        def make(cls, line: Line) -> None: ...

    for name, expected in (
        ("add", {"line": Service.Line, "lines": list[Service.Line], "other": sys}),
        ("make", {"line": Service.Line}),
    ):
        call = getattr(Service(), name)
        assert hints_of(call, signature_of(call)) == expected


def test_a_signature_is_that_of_what_is_wrapped(run: Run) -> None:
    names = run(LATER)
    assert list(signature_of(names["Orders"].add).parameters) == ["self", "ctx", "line", "lines"]
    assert dataclasses.is_dataclass(names["Line"])
