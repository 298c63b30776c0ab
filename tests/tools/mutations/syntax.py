"""Small mutations of a source, by its syntax.

A comparison at its bound, or its opposite; `and` for `or`; no `not`; no `raise`; the other truth
value; 1 more of a number.
"""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from typing import Final, NamedTuple

OTHERS: Final = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "is": "is not", "is not": "is", "in": "not in", "not in": "in", "and": "or", "or": "and",
}  # fmt: skip
OPERATOR: Final = re.compile(r"is\s+not|not\s+in|<=|>=|==|!=|<|>|\b(?:is|in|and|or)\b")


class Change(NamedTuple):
    """A part of a source, by two offsets of its UTF-8, and its replacement."""

    start: int
    end: int
    becomes: str

    def applied(self, source: bytes) -> str:
        """Return the source with the change."""
        return (source[: self.start] + self.becomes.encode() + source[self.end :]).decode()

    def told(self, source: bytes) -> str:
        """Return where it is, and what it is."""
        line = source[source.rfind(b"\n", 0, self.start) + 1 :].partition(b"\n")[0].decode()
        was = " ".join(source[self.start : self.end].decode().split())
        number = source.count(b"\n", 0, self.start) + 1
        return f"{number}: {line.strip()}  [{was:.50} → {self.becomes or 'nothing'}]"


class _Finder:
    """Collects the changes of one source."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self.found: set[Change] = set()

    def _of(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def _between(self, operands: list[ast.expr]) -> None:
        for left, right in pairwise(operands):
            start = self._of(left)[1]
            operator = OPERATOR.search(self._source[start : self._of(right)[0]].decode())
            assert operator is not None
            other = OTHERS[" ".join(operator[0].split())]
            self.found.add(Change(start + operator.start(), start + operator.end(), other))

    def _look(self, node: ast.AST) -> None:
        match node:
            case ast.Compare(left=left, comparators=others):
                self._between([left, *others])
            case ast.BoolOp(values=values):
                self._between(values)
            case ast.UnaryOp(op=ast.Not()):
                start, _ = self._of(node)
                self.found.add(Change(start, start + len("not"), ""))
            case ast.Raise():
                self.found.add(Change(*self._of(node), "pass"))
            case ast.Constant(value=bool(value)):
                self.found.add(Change(*self._of(node), str(not value)))
            case ast.Constant(value=int() | float() as number):
                self.found.add(Change(*self._of(node), str(number + 1)))

    def visit(self, node: ast.AST) -> None:
        """Look at a node, and at all below it, but not into an f-string: it is a text."""
        if isinstance(node, ast.JoinedStr):
            return
        self._look(node)
        for name, child in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list"):
                for each in child if isinstance(child, list) else [child]:
                    if isinstance(each, ast.AST):
                        self.visit(each)


def changes(source: bytes) -> list[Change]:
    """Return all changes of a source; annotations and decorators are left alone."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return sorted(finder.found)
