"""The reference pages that are written from the code: settings, exceptions, command line.

`python -m tests.tools.reference` writes docs/reference/*.md anew; tests/unit/test_reference.py
compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from . import command_line, exceptions, settings

FOLDER: Final = Path(__file__).parents[3] / "docs" / "reference"
COMMAND: Final = "python -m tests.tools.reference"
NOTE: Final = f"<!-- Written by `{COMMAND}`, from the code. -->\n"

PAGES: Final[dict[str, Callable[[], Iterable[str]]]] = {
    "settings.md": settings.page,
    "exceptions.md": exceptions.page,
    "command-line.md": command_line.page,
}


def written(name: str) -> str:
    """Return the text of a page."""
    return NOTE + "\n" + "\n".join(PAGES[name]()).rstrip() + "\n"
