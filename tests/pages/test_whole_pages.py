"""Pages that are run as they stand, from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

from .reading import URL, reader
from .support import blocks, is_as_shown, page

IN_MEMORY = ["index.md", "reference/wire.md", "reference/values.md"]
ON_A_BROKER = ["getting-started.md"]


@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_page_in_memory(name: str, tmp_path: Path) -> None:
    text = page(name)
    assert URL not in text
    with reader(tmp_path, URL) as one:
        assert one.read(text)


@pytest.mark.parametrize("name", ON_A_BROKER)
def test_a_page_on_a_broker(name: str, tmp_path: Path, mesh_url: str) -> None:
    with reader(tmp_path, mesh_url) as one:
        assert one.read(page(name))


@pytest.mark.parametrize("name", [*IN_MEMORY, *ON_A_BROKER])
def test_no_python_is_left_out(name: str) -> None:
    for block in blocks(page(name)):
        assert block.language != "python" or block.file is not None, block.text


def test_what_is_printed_is_compared() -> None:
    assert is_as_shown("1 passed in 0.25s\n", "1 passed in 0.19s")
    assert is_as_shown("a\nb\nc\n", "a\n…\nc")
    assert not is_as_shown("a\n", "b\n")
