"""Standard streams that bear anything: closed ones, and encodings that lack characters."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Final

_ERRORS: Final = "nuropb-rmq"
_PLAIN: Final = {"…": "...", "─": "-", "│": "|"} | dict.fromkeys("╭╮╰╯", "+")
"""What the command itself writes, where there is nothing but ASCII."""


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char) or _escaped(char) for char in lacking), error.end


def _escaped(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode()


def prepare() -> None:
    """Make standard output and error output take every text."""
    codecs.register_error(_ERRORS, _in_ascii)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it is closed: nobody reads it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the end
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks is no traceback
            stream.reconfigure(errors=_ERRORS)


def encodable(text: str) -> str:
    """Return a text as standard output shows it: its length is that of what is seen."""
    if text.isascii():
        return text
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, getattr(sys.stdout, "errors", None) or "strict").decode(encoding)
