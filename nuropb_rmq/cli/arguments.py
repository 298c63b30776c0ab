"""Values of arguments: JSON, text, files, standard input, durations."""

from __future__ import annotations

import json
import math
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Final

import typer

from .conventions import INTERRUPTED, CommandError

_STANDARD_INPUT: Final = "-"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])")


def mapping(option: str, parts: list[str] | None) -> dict[str, Any]:
    """Return the values of repeated NAME=VALUE and @FILE arguments. Raises CommandError."""
    values: dict[str, Any] = {}
    for part in parts or ():
        if part.startswith("@"):
            found = _from_file(option, part[1:])
            if not isinstance(found, dict):
                raise CommandError(f"{option}: {part}: expected a JSON object, like {{...}}")
            values |= found
            continue
        name, sign, text = part.partition("=")
        if not (name and sign):
            raise CommandError(f"{option}: expected NAME=VALUE or @FILE.json, got {part!r}")
        values[name] = _value(f"{option}: {name}", text)
    return values


def value(argument: str, text: str) -> Any:
    """Return one value: JSON, or else text; of @FILE and -, the JSON there. Raises CommandError."""
    if text == _STANDARD_INPUT:
        return _from_file(argument, _STANDARD_INPUT)
    return _from_file(argument, text[1:]) if text.startswith("@") else _value(argument, text)


def duration(text: str) -> float:
    """Return the seconds of 90s, 10m, 2h or 3d, for the broker. Raises typer.BadParameter."""
    return _seconds(text, 49)


def age(text: str) -> float:
    """Return the seconds of such a time, however long ago. Raises typer.BadParameter."""
    return _seconds(text, 36_500)


def _seconds(text: str, most: int) -> float:
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else math.nan
    if not 0 < seconds <= most * _UNITS["d"]:
        expected = f"a time like 90s, 10m, 2h or 3d, at most {most}d"
        raise typer.BadParameter(f"expected {expected}, got {text!r}")
    return seconds


def _typed() -> str:
    """Return what is at standard input; one Ctrl-C ends it."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        return sys.stdin.read()
    # asyncio would only note the first Ctrl-C, for a loop that does not run now.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if sys.stdin.isatty():
            sys.stderr.write("JSON, please; Ctrl-D ends it\n")
            sys.stderr.flush()
        return sys.stdin.read()
    except KeyboardInterrupt:
        raise CommandError("", INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, before)


def _value(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        if text.startswith(("{", "[", '"')):
            raise CommandError(f"{where}: is no JSON: {e}; did the shell take its quotes?") from e
        return text


def _from_file(option: str, name: str) -> Any:
    if name == _STANDARD_INPUT and sys.stdin is None:
        raise CommandError(f"{option}: standard input is closed: name a file, like @params.json")
    where = "standard input" if name == _STANDARD_INPUT else f"@{name}"
    try:
        text = _typed() if name == _STANDARD_INPUT else Path(name).read_text("utf-8")
    except (OSError, ValueError) as e:
        raise CommandError(f"{option}: {where}: {e}") from e
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        what = "is empty: expected JSON" if not text.strip() else f"is no JSON: {e}"
        raise CommandError(f"{option}: {where} {what}") from e
