"""docs/guides/migration.md names every public name of the nuropb that is installed beside us."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import nuropb_rmq

from ..unit.test_migration import ELSEWHERE, HERE, names
from .process import ROOT

Modules = Mapping[str, Path]


def public(module: Path) -> Iterator[str]:
    """The names that a module defines itself; what it imports is another's."""
    for node in ast.parse(module.read_text()).body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Assign():
                yield from (each.id for each in node.targets if isinstance(each, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def members(module: Path) -> Iterator[tuple[str, str]]:
    """Its classes, with the public methods and properties of each."""
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield node.name, each.name


def test_every_public_name_is_in_a_table(nuropb_modules: Modules) -> None:
    document = (ROOT / "docs" / "guides" / "migration.md").read_text()
    told = names(HERE, document) + names(ELSEWHERE, document)
    assert len(set(told)) == len(told), "each once"
    there = {
        f"nuropb.*.{name}" if name == "logger" else f"{module}.{name}"
        for module, path in nuropb_modules.items()
        for name in public(path)
        if not name.startswith("_")
    }
    assert there == set(told)


def test_classes_have_the_members_that_nuropbs_have(nuropb_modules: Modules) -> None:
    """But for those of RMQTransport that its own table tells of."""
    document = (ROOT / "docs" / "guides" / "migration.md").read_text()
    missing = [
        f"{owner}.{name}"
        for path in nuropb_modules.values()
        for owner, name in members(path)
        if not name.startswith("_") and owner in nuropb_rmq.__all__
        if not hasattr(getattr(nuropb_rmq, owner), name)
        if f"| `{owner}.{name}` | gone |" not in document
    ]
    assert missing == []
