"""Suggest the name that was meant by a misspelt one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise
from typing import Final

_LONGEST: Final = 100
_COMPARED: Final = 8
"""Names that are compared letter by letter. Each takes up to 0.1 ms, and anybody may send a wrong
name, again and again."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is most like `name`; None when none is like it."""
    if len(name) > _LONGEST:
        return None
    pairs = frozenset(pairwise(name))

    def alike(known: str) -> int:
        return len(pairs.intersection(pairwise(known))) - abs(len(known) - len(name))

    found = get_close_matches(name, heapq.nlargest(_COMPARED, names, key=alike), n=1)
    return found[0] if found else None
