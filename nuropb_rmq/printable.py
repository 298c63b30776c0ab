"""Texts of peers and brokers, made safe and short for a line of a log."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 1000
"""Characters of a peer's or broker's text that a log shows."""


def shorten(text: str, most: int = 40) -> str:
    """Return at most `most` characters of a text, and … in place of the rest."""
    return text if len(text) <= most else text[:most] + "…"


def printable(text: str, most: int = LONGEST) -> str:
    """Shorten a text, and escape its line breaks and control characters.

    So it can neither begin a line of its own in a log nor control a terminal.
    """
    text = shorten(text, most)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def short(value: object) -> str:
    """Return a value for an error's text: text itself, shortened; of any other value, its type."""
    if value is None:
        return "missing"
    return repr(shorten(value)) if isinstance(value, str) else type_of(value)


def type_of(value: object) -> str:
    """Return the name of a value's type; the value itself may be secret."""
    return "null" if value is None else type(value).__name__
