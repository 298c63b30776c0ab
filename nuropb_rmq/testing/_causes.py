"""Why a node did not start, from what it wrote before it gave up."""

from __future__ import annotations

import re

__all__ = ["first_cause", "port_was_taken"]

MOST_LINES = 8
"""Of the first error: what follows are reports of who failed because of it."""
LONGEST_LINE = 200

_CLASH = re.compile(r"eaddrinuse|address (is )?already in use|in use by", re.IGNORECASE)
_LISTENER = re.compile(r"listener \[[^\]\s]*\]:(\d+)")
_ERROR = re.compile(r"^\S+ \S+ \[(?:error|critical)\] <[\d.]+> ?(.*)$", re.MULTILINE)
_REPORT = ("supervisor:", "BOOT FAILED", "crasher:")
"""How a report begins that tells of somebody else's error."""


def port_was_taken(text: str) -> bool:
    """Return whether it tells of a port that somebody else listens on."""
    return _CLASH.search(text) is not None


def first_cause(log: str) -> str:
    """The first error of a log, without times and process ids; the log's end when it has none."""
    if port_was_taken(log):
        listener = _LISTENER.search(log)
        which = "one of its ports" if listener is None else f"port {listener[1]}"
        return f"{which} is taken by another process (eaddrinuse)"
    found: list[str] = []
    for line in _ERROR.findall(log):
        if line.strip().startswith(_REPORT) and found:
            break
        if line.strip():
            found.append(line.rstrip())
    lines = found[:MOST_LINES] or [line for line in log.splitlines() if line.strip()][-MOST_LINES:]
    return "\n".join(line[:LONGEST_LINE] for line in lines)
