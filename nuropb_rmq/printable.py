"""Texts that come from elsewhere, as one line of a log."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 1000
"""Characters of a text from elsewhere that a log shows."""


def printable(text: str, most: int = LONGEST) -> str:
    """The text without line breaks and control characters, which are escaped, and cut.

    So it can neither make a line of its own in a log nor change what a terminal shows.
    """
    if len(text) > most:
        text = text[:most] + "…"
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
