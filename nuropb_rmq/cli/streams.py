"""Standard streams that are closed, full, or whose encoding lacks characters."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Final

_ERRORS: Final = "nuropb-rmq"
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a file that takes no more."""
_PLAIN: Final = {"…": "...", "─": "-", "│": "|"} | dict.fromkeys("╭╮╰╯", "+")
"""In place of the command's own characters, where there is nothing but ASCII."""


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char) or _escaped(char) for char in lacking), error.end


def _escaped(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode()


def prepare() -> None:
    """Make standard output and error output take every text."""
    codecs.register_error(_ERRORS, _replaced)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it is closed: nobody reads it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the end
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks is no traceback
            stream.reconfigure(errors=_ERRORS)


def full(error: OSError) -> str:
    """Return the line for a standard output that takes no more, and write nothing more to it."""
    give_up_output()
    return f"standard output: {error.strerror}"


def give_up_output() -> None:
    """Write nothing more to standard output: Python would complain at its end, as it flushes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def encodable(text: str) -> str:
    """Return a text as standard output shows it: its length is that of what is seen."""
    if text.isascii():
        return text
    encoding = sys.stdout.encoding
    if not encoding:  # no file, but an object of a program that calls the command
        return text
    return text.encode(encoding, getattr(sys.stdout, "errors", None) or _ERRORS).decode(encoding)
