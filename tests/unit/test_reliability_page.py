"""docs/operations/reliability.md: a row for each fault, with a test that is named after it.

And every test that any page names is there.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations" / "reliability.md"
FAULTS = 71
ROW = re.compile(r"^\| (\d+) \| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"\]\((?:\.\./)+(tests/faults/test_row_[a-z0-9_]+\.py)\)")
ROWS = {int(number): LINK.findall(rest) for number, rest in ROW.findall(PAGE.read_text())}


def test_every_fault_has_its_row() -> None:
    assert sorted(ROWS) == list(range(1, FAULTS + 1))


@pytest.mark.parametrize("number", range(1, FAULTS + 1))
def test_its_test_is_there(number: int) -> None:
    files = [ROOT / each for each in ROWS[number]]
    assert files
    named = re.compile(rf"^(?:async )?def test_rows?_(?:\d+_)*{number:02}_", re.MULTILINE)
    text = "".join(each.read_text() for each in files)
    assert named.search(text) or _in_a_range(number, text), f"no test named after row {number}"


def _in_a_range(number: int, text: str) -> bool:
    """Rows that one parametrized test proves together: its docstring says which."""
    found = re.search(r'^"""Rows (\d+)-(\d+):', text)
    return found is not None and int(found[1]) <= number <= int(found[2])


def test_every_file_is_named_on_the_page() -> None:
    there = {f"tests/faults/{each.name}" for each in (ROOT / "tests/faults").glob("test_row_*.py")}
    named = {each for files in ROWS.values() for each in files}
    assert there == named


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=str)
def test_what_a_page_names_is_there(page: Path) -> None:
    for each in set(re.findall(r"\b(?:tests|scripts|examples)/[\w./-]*\w", page.read_text())):
        assert (ROOT / each).exists(), f"{page.name} names {each}"
