"""Compare topics of events, words between dots, as a topic exchange does.

In a pattern `*` stands for exactly one word and `#` for zero or more words (AMQP 0-9-1, section
3.1.3.3).
"""

from __future__ import annotations


def matcher(pattern: str) -> tuple[str, ...]:
    """Split a pattern for `matches`."""
    return _words(pattern)


def matches(pattern: tuple[str, ...], topic: str) -> bool:
    """Compare a topic with a pattern, in at most the product of their words in steps.

    After a `#` the rest of the pattern is tried at each word in turn. On failure only the last `#`
    is tried again: it can match all words that an earlier one could.
    """
    words = _words(topic)
    at = taken = 0
    last, resume = -1, 0  # the last `#`, and the word at which the rest after it was tried
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
