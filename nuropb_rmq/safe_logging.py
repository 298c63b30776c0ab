"""Where errors come from, and who caused them: for records that must not quote a payload.

The text of an error may quote the payload that it was raised over. Where a record must not, it
shows the classes and frames of the error, and does not hold the error itself, whose frames hold
all that they worked on.
"""

from __future__ import annotations

import logging
import traceback
from enum import Enum, auto
from textwrap import indent
from typing import Final, TypeVar

_E = TypeVar("_E", bound=BaseException)
_BLAME: Final = "_nuropb_rmq_blame"


class Blame(Enum):
    """Who caused an error that ends the handling of a message."""

    HANDLER = auto()
    """The code of the service."""
    SENDER = auto()
    """Whoever sent the message: the handler was not run."""
    AUTHORIZER = auto()
    """authorize_func raised it."""


def blame(error: _E, on: Blame) -> _E:
    """Note on an error who caused it; returns the error."""
    setattr(error, _BLAME, on)
    return error


def blamed(error: BaseException) -> Blame:
    """Who caused an error."""
    return getattr(error, _BLAME, Blame.HANDLER)


def origin(error: BaseException) -> str:
    """Class and stack of an error, behind those of its causes; and of a group's members."""
    told = []
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        told.append(_one(each))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "\n\n".join(reversed(told))


def _one(error: BaseException) -> str:
    named = type(error).__qualname__
    if type(error).__module__ != "builtins":
        named = f"{type(error).__module__}.{named}"
    text = "".join(traceback.format_tb(error.__traceback__)) + named
    if isinstance(error, BaseExceptionGroup):
        text += "".join(f", of:\n{indent(origin(each), '    ')}" for each in error.exceptions)
    return text


def report(
    logger: logging.Logger, level: int, error: BaseException, message: str, *arguments: object
) -> None:
    """Log a message, and the origin of the error beneath it."""
    if logger.isEnabledFor(level):
        logger.log(level, f"{message}\n%s", *arguments, origin(error), stacklevel=2)
