"""Values that JSON lacks: their form on the wire, and how that form is read.

| value | as nuropb 0.1.8 writes it | as a Mesh writes it | read |
|---|---|---|---|
| datetime | isoformat() + "Z" | the same; in UTC when it is aware | both: with "Z" it is aware |
| date, time | isoformat() + "Z" | the same | with "Z", and without |
| timedelta | str() | the same | that, and ISO 8601 (P1DT2S) |
| Decimal | fixed-point text | the same | text, and numbers |
| UUID | str() | the same | text |
| Enum | str(), Colour.RED | its value | both |
| bytes | str(), b'ab' | base64 | base64 |
| set, deque | str() | an array | an array |
| Mapping | str() | an object | an object |
| dataclass | an object | an object | an object |
| any other | str() | an error | |

pydantic models and msgspec structs take the form that these libraries give them for JSON.
"""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import re
import sys
import uuid
from binascii import a2b_base64, b2a_base64
from collections import deque
from collections.abc import Callable, Mapping, Set, ValuesView
from decimal import Decimal, DecimalException
from enum import Enum
from typing import Any, Final

_NO_TIME: Final = datetime.timedelta(0)
_LONGEST_NUMBER: Final = 4300
"""Digits of a Decimal, as Python limits an int's: 1e999999999 has a thousand million."""

_OFFSET_AND_Z: Final = re.compile(r"[+-]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z\Z", re.ASCII)
_TIMEDELTA: Final = re.compile(
    r"(?:(-?\d{1,9}) days?, )?(\d\d?):(\d\d):(\d\d(?:\.\d{1,6})?)", re.ASCII
)
_DURATION: Final = re.compile(
    r"([+-]?)P(?=.)(?:(\d{1,8})W)?(?:(\d{1,9})D)?"
    r"(?:T(?=.)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,6})?)S)?)?",
    re.ASCII,
)


class NoJSONForm(TypeError):  # noqa: N818 - as json's own TypeErrors
    """A value has no form in JSON. The text names its class, and quotes nothing of it."""


# -- to JSON --------------------------------------------------------------------------------


def as_nuropb(value: object) -> object:
    """Return the form of a value that json does not know; its str() if it has no other."""
    match value:
        case datetime.datetime() | datetime.date() | datetime.time():
            return f"{value.isoformat()}Z"
        case Decimal():
            return format(value, "f")
    form = _of_record(value)
    return str(value) if form is value else form


def strictly(value: object) -> object:  # noqa: PLR0911 - a table
    """Return the form of a value that json does not know.

    Raises NoJSONForm when it has none that could be read back.
    """
    match value:
        case Enum():
            return value.value
        case datetime.datetime():
            in_utc = value.replace(tzinfo=None) - (value.utcoffset() or _NO_TIME)
            return f"{in_utc.isoformat()}Z"
        case datetime.time() if value.utcoffset():
            return value.isoformat()  # without a date it cannot be converted to UTC
        case datetime.time():
            return f"{value.replace(tzinfo=None).isoformat()}Z"
        case datetime.date() | Decimal():
            return as_nuropb(value)
        case datetime.timedelta() | uuid.UUID():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return b2a_base64(value, newline=False).decode()
        case Set() | deque() | ValuesView():
            return list(value)
        case Mapping():
            return dict(value)
    form = _of_record(value)
    if form is value:
        hint = " (was it awaited?)" if inspect.isawaitable(value) else ""
        raise NoJSONForm(f"{type(value).__qualname__} has no JSON form{hint}")
    return form


def _of_record(value: object) -> object:
    """Return a dataclass, model or struct as an object of JSON, and any other value itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    # A process that has such a value has imported its library.
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, str_keys=True)
    return value


# -- from text ------------------------------------------------------------------------------
# These raise ValueError for a text that does not parse.


def _datetime(text: str) -> datetime.datetime:
    if len(text) <= len("2026-01-02"):  # fromisoformat takes a date alone
        raise ValueError
    return datetime.datetime.fromisoformat(_iso(text))


def _date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text.removesuffix("Z"))


def _time(text: str) -> datetime.time:
    return datetime.time.fromisoformat(_iso(text))


def _timedelta(text: str) -> datetime.timedelta:
    try:
        if found := _TIMEDELTA.fullmatch(text):
            days, hours, minutes, seconds = found.groups("0")
            return datetime.timedelta(
                days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds)
            )
        if found := _DURATION.fullmatch(text):
            sign, *parts = found.groups("0")
            weeks, days, hours, minutes, seconds = parts
            made = datetime.timedelta(
                weeks=int(weeks),
                days=int(days),
                hours=int(hours),
                minutes=int(minutes),
                seconds=float(seconds),
            )
            return -made if sign == "-" else made
    except OverflowError as e:
        raise ValueError from e
    raise ValueError


def _decimal(text: str) -> Decimal:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError
    try:
        made = Decimal(text)
    except DecimalException as e:
        raise ValueError from e
    if not made.is_finite() or abs(made.adjusted()) > _LONGEST_NUMBER:
        raise ValueError
    return made


def _bytes(text: str) -> bytes:
    return a2b_base64(text, strict_mode=True)


READ: Final[Mapping[type, tuple[Callable[[str], Any], str]]] = {
    datetime.datetime: (_datetime, "a date and time (ISO 8601)"),
    datetime.date: (_date, "a date (YYYY-MM-DD)"),
    datetime.time: (_time, "a time (HH:MM:SS)"),
    datetime.timedelta: (_timedelta, "a duration (H:MM:SS or ISO 8601)"),
    Decimal: (_decimal, "a decimal number"),
    uuid.UUID: (uuid.UUID, "a UUID"),
    bytes: (_bytes, "bytes (base64)"),
    bytearray: (lambda text: bytearray(_bytes(text)), "bytes (base64)"),
}
"""For each type, the function that reads its text, and the name of that text in errors."""


# -- for other libraries, which read ISO 8601 -----------------------------------------------


def _iso(text: str) -> str:
    """Return a time without the Z that nuropb writes after an offset."""
    return text[:-1] if text.endswith("Z") and _OFFSET_AND_Z.search(text) else text


def _iso_duration(text: str) -> str:
    try:
        made = _timedelta(text)
    except ValueError:
        return text
    sign = "-" if made < _NO_TIME else ""
    made = abs(made)
    return f"{sign}P{made.days}DT{made.seconds}.{made.microseconds:06}S"


ISO: Final[Mapping[type, Callable[[str], str]]] = {
    datetime.datetime: _iso,
    datetime.date: lambda text: text.removesuffix("Z"),
    datetime.time: _iso,
    datetime.timedelta: _iso_duration,
}
"""For each type, the function that makes ISO 8601 of our texts and of nuropb's."""
