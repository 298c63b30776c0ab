"""Suggest the name that a misspelt one was meant to be."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise
from typing import Final

__all__ = ["nearest"]

_LONGEST: Final = 100
_COMPARED: Final = 8
"""Names that are compared letter by letter, which takes up to 0.1 ms for each: anybody may send a
wrong name, again and again."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of these names that is like it, if there is one."""
    if len(name) > _LONGEST:
        return None
    pairs = frozenset(pairwise(name))

    def alike(each: str) -> int:
        return len(pairs.intersection(pairwise(each))) - abs(len(each) - len(name))

    found = get_close_matches(name, heapq.nlargest(_COMPARED, names, key=alike), n=1)
    return found[0] if found else None
