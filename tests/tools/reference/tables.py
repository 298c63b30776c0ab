"""Tables of Markdown, and docstrings of what has none at run time."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty one."""
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(each.replace('|', chr(92) + '|') for each in row)} |"
    yield ""


def code(text: object) -> str:
    """Return a text as code; nothing for nothing."""
    return f"`{text}`" if text not in ("", None) else ""


def prose(text: str) -> str:
    """Return a docstring as one paragraph."""
    return " ".join(text.split())


def attribute_docs(kind: type) -> dict[str, str]:
    """Return the strings that stand below the attributes of a class, by their names."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(before, ast.AnnAssign) or not isinstance(before.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[before.target.id] = prose(str(after.value.value))
    return found


def argument_docs(kind: type) -> dict[str, str]:
    """Return the `name: text` items of a class's docstring, by their names."""
    found: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(kind) or "").splitlines():
        if not line:
            name = ""
        elif line.startswith("    ") and name:
            found[name] += " " + line.strip()
        elif ": " in line:
            names, _, text = line.partition(": ")
            name = names if all(each.isidentifier() for each in names.split(", ")) else ""
            if name:
                found[name] = text
    return {each: prose(text) for names, text in found.items() for each in names.split(", ")}
