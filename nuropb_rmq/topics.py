"""Topics of events, as a topic exchange compares them: words between dots.

In a pattern `*` stands for exactly one word and `#` for any number of words, none included
(AMQP 0-9-1, section 3.1.3.3).
"""

from __future__ import annotations

import re

__all__ = ["matcher"]

_ONE = r"[^.]*\."
_WILD = {"*": _ONE, "#": f"(?:{_ONE})*"}


def matcher(pattern: str) -> re.Pattern[str]:
    """An expression for `matches`: every word of a topic is followed by a dot there."""
    words = pattern.split(".") if pattern else []
    return re.compile("".join(_WILD.get(word) or re.escape(word) + r"\." for word in words))


def matches(expression: re.Pattern[str], topic: str) -> bool:
    """Whether the topic belongs to the pattern that the expression was made of."""
    return expression.fullmatch(f"{topic}." if topic else "") is not None
