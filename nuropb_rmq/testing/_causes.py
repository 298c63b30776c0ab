"""Find the reason in the log of a node that did not start."""

from __future__ import annotations

import re

MOST_LINES = 8
"""Lines of the first error; later errors are its consequences."""
LONGEST_LINE = 200

_CLASH = re.compile(r"eaddrinuse|address (is )?already in use|in use by", re.IGNORECASE)
_LISTENER = re.compile(r"listener \[[^\]\s]*\]:(\d+)")
_ERROR = re.compile(r"^\S+ \S+ \[(?:error|critical)\] <[\d.]+> ?(.*)$", re.MULTILINE)
_REPORT = ("supervisor:", "BOOT FAILED", "crasher:")
"""Beginnings of reports about an error of another process."""


def port_was_taken(text: str) -> bool:
    """Return whether a log has the error that another process listens on a port."""
    return _CLASH.search(text) is not None


def first_cause(log: str) -> str:
    """Return the first error of a log, without times and process ids; or else the log's end."""
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
