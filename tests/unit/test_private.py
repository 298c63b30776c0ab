"""Tests reach private attributes of the package through tests/seams.py, and nowhere else.

What holds for any restructuring is then tested by what the package does, and one file of the tests
has to follow it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"

# Files that need not keep to it, by path or folder below tests.
EXEMPT = {
    "seams.py",
    "interop/programs",  # written as programs of nuropb are
    "interop/old_peer.py",  # looks into nuropb 0.1.8
}
OWN_NAMES = {
    # Attributes of service objects: nuropb's, and those of our tests that a mesh is not to publish.
    *("_service_name", "_instance_id", "_handle_event_", "_calls", "_release", "_odd"),
    # Attributes of nuropb's RMQTransport that programs read: they are public here.
    *("_rpc_bindings", "_event_bindings", "_response_queue", "_is_leader"),
    # Of other libraries: os, namedtuple, asyncio.
    *("_exit", "_replace", "_get_close_waiter"),
}


def found(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each private attribute that is not the object's own, and private import.

    Names in capitals are constants of a module, and not meant.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and not _is_own(node.value):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            private = name.startswith("_") and not name.startswith("__") and not name.isupper()
            if private and name not in OWN_NAMES:
                yield node.lineno, name


def _is_own(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name) and value.id in {"self", "cls", "super"}


def is_exempt(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in EXEMPT)


def test_private_attributes_are_reached_in_one_file() -> None:
    reached = [
        f"tests/{path}:{line}: {name}: reach it by a function of tests/seams.py"
        for file in sorted(TESTS.rglob("*.py"))
        if not is_exempt(path := file.relative_to(TESTS).as_posix())
        for line, name in found(file.read_text(encoding="utf-8"))
    ]
    assert not reached, "\n".join(reached)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("transport._links[0]", "_links"),
        ("links = self.client._links", "_links"),
        ("def f(): link._tries = 3", "_tries"),
        ("made()._links", "_links"),
        ("from nuropb_rmq.broker.quiet import _ours", "_ours"),
    ],
)
def test_an_offender_is_found(source: str, name: str) -> None:
    assert [each for _, each in found(source)] == [name]


@pytest.mark.parametrize(
    "source",
    [
        "self._made = cls._kind",
        "super()._send(1)",
        "exception.__cause__",
        "frames._FIELDS",
        "orders._service_name",
        "from nuropb_rmq.testing._install import free_ports",
    ],
)
def test_an_innocent_is_not(source: str) -> None:
    assert not list(found(source))
