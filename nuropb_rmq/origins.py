"""What is logged of errors whose text may quote a payload: where they come from, not what they say.

That is so for everything that a program's own code raises: handlers, callbacks, values that are
sent. Nor does the log record hold the error itself, whose frames hold all that they worked on.
"""

from __future__ import annotations

import logging
import traceback
from textwrap import indent

__all__ = ["origin", "report"]


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
