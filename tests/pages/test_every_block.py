"""Every block of Python in the pages is Python, and imports what there is.

Most blocks are run, by the tests of their pages; this holds for the others, too.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import PAGES, ROOT, Block, blocks

OURS = "nuropb_rmq"


def named(block: Block) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import from this library."""
    tree = compile(
        block.text, "a block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == OURS:
            yield from ((node.module or "", each.name) for each in node.names)
        elif isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names if each.name.startswith(OURS))


def wrong(block: Block) -> list[str]:
    """Return the imports of a block that there are not."""
    found = []
    for module, name in named(block):
        try:
            there = importlib.import_module(module)
            if name and not hasattr(there, name):
                importlib.import_module(f"{module}.{name}")
        except ImportError as e:
            found.append(str(e))
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_it_is_python_and_its_imports_are_there(path: Path) -> None:
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.language == "python":
            assert wrong(block) == [], block.text


def test_what_is_wrong_is_found() -> None:
    assert wrong(Block("python", "await mesh.start()\nfrom nuropb_rmq import Mesh\n")) == []
    assert wrong(Block("python", "from nuropb_rmq import Mash\n"))
    assert wrong(Block("python", "import nuropb_rmq.mash\n"))
    with pytest.raises(SyntaxError):
        wrong(Block("python", "def f(:\n"))
