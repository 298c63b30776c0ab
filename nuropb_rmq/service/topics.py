"""Topics of events, as a topic exchange compares them: words between dots.

In a pattern `*` stands for exactly one word and `#` for any number of words, none included
(AMQP 0-9-1, section 3.1.3.3).
"""

from __future__ import annotations

__all__ = ["matcher", "matches"]


def matcher(pattern: str) -> tuple[str, ...]:
    """The pattern as `matches` takes it."""
    return _words(pattern)


def matches(pattern: tuple[str, ...], topic: str) -> bool:
    """Compare a topic with a pattern; takes at most the product of their words in steps.

    Behind a `#` the rest of the pattern is tried at each word in turn. Where it fails only the
    last `#` before that can help: what an earlier one would take, the last one can take as well.
    """
    words = _words(topic)
    at = taken = 0
    last, resume = -1, 0  # the last `#`, and the word at which the rest behind it was tried
    while taken < len(words):
        wanted = pattern[at] if at < len(pattern) else ""
        if wanted == "#":
            last, resume = at, taken
            at += 1
        elif at < len(pattern) and wanted in ("*", words[taken]):
            at += 1
            taken += 1
        elif last >= 0:
            resume += 1
            at, taken = last + 1, resume
        else:
            return False
    return all(rest == "#" for rest in pattern[at:])


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(".")) if text else ()
