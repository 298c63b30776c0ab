"""Pages that are run as they stand, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .pages import ROOT, URL, blocks, is_as_shown, reader

DOCS = ROOT / "docs"
IN_MEMORY = ["reference/wire.md", "reference/values.md"]
ON_A_BROKER = ["getting-started.md"]


@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_page_in_memory(name: str, tmp_path: Path) -> None:
    page = (DOCS / name).read_text(encoding="utf-8")
    assert URL not in page
    with reader(tmp_path, URL) as one:
        assert one.read(page)


@pytest.mark.parametrize("name", ON_A_BROKER)
def test_a_page_on_a_broker(name: str, tmp_path: Path, mesh_url: str) -> None:
    with reader(tmp_path, mesh_url) as one:
        assert one.read((DOCS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [*IN_MEMORY, *ON_A_BROKER])
def test_no_python_is_left_out(name: str) -> None:
    for language, text in blocks((DOCS / name).read_text(encoding="utf-8")):
        assert language != "python" or re.match(r"# \w+\.py\n", text), text


def test_what_is_printed_is_compared() -> None:
    assert is_as_shown("1 passed in 0.25s\n", "1 passed in 0.19s")
    assert is_as_shown("a\nb\nc\n", "a\n…\nc")
    assert not is_as_shown("a\n", "b\n")
