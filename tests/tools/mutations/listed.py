"""The list of mutations, and how one is applied."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
LIST: Final = Path(__file__).with_name("mutations.toml")


class DoesNotApplyError(Exception):
    """The code has changed: the text of a mutation is not found, or more than once."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One entry of the list."""

    name: str
    """The fault that the code has then."""
    row: str
    """Of docs/operations/reliability.md, or the name of a subject."""
    file: str
    text: str
    becomes: str
    tests: tuple[str, ...]
    """Arguments of pytest: at least one test among them must fail."""

    def applied(self, source: str) -> str:
        """Return the source with the mutation. Raises DoesNotApplyError."""
        found = source.count(self.text)
        if found != 1:
            raise DoesNotApplyError(f"{self.file} has its text {found} times, not once")
        return source.replace(self.text, self.becomes)


def mutations() -> list[Mutation]:
    """Read the list. Raises TypeError for an entry that lacks a field, or has an unknown one."""
    entries = tomllib.loads(LIST.read_text())["mutation"]
    return [Mutation(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]
