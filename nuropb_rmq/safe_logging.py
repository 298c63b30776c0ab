"""Log errors without their texts, which may quote a payload; and note who caused an error.

A record that must not quote a payload shows the classes and stack of the error. It does not keep
the error itself, whose frames hold the payload. ServiceLog says of which service, connection and
message a record is, in attributes of the record.

Why: docs/decisions/016-fields-of-log-records.md
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import MutableMapping
from enum import Enum, auto
from textwrap import indent
from typing import Any, Final, Protocol, TypeVar

from .printable import printable

_E = TypeVar("_E", bound=BaseException)
_BLAME: Final = "_nuropb_rmq_blame"


class Blame(Enum):
    """The party that caused an error in the handling of a message."""

    HANDLER = auto()
    """The code of the service."""
    SENDER = auto()
    """The sender of the message: the handler was not run."""
    AUTHORIZER = auto()
    """authorize_func raised it."""


def blame(error: _E, on: Blame) -> _E:
    """Note on an error who caused it; return the error."""
    setattr(error, _BLAME, on)
    return error


def blamed(error: BaseException) -> Blame:
    """Return who caused an error; of a group, whoever must not be quoted, if one of them did."""
    if isinstance(error, BaseExceptionGroup) and not hasattr(error, _BLAME):
        blames = {blamed(member) for member in error.exceptions}
        if Blame.AUTHORIZER in blames:
            return Blame.AUTHORIZER
        return Blame.SENDER if blames == {Blame.SENDER} else Blame.HANDLER
    return getattr(error, _BLAME, Blame.HANDLER)


def origin(error: BaseException) -> str:
    """Return class and stack of an error, after those of its causes; with a group's members."""
    texts = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        texts.append(_one(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n\n".join(reversed(texts))


def _one(error: BaseException) -> str:
    name = type(error).__qualname__
    if type(error).__module__ != "builtins":
        name = f"{type(error).__module__}.{name}"
    text = "".join(traceback.format_tb(error.__traceback__)) + name
    if isinstance(error, BaseExceptionGroup):
        text += "".join(f", of:\n{indent(origin(member), '    ')}" for member in error.exceptions)
    return text


def report(
    logger: logging.Logger | ServiceLog,
    level: int,
    error: BaseException,
    message: str,
    *arguments: object,
    **fields: Any,
) -> None:
    """Log a message, with the origin of an error below it; `fields` are those of a ServiceLog."""
    if logger.isEnabledFor(level):
        logger.log(level, f"{message}\n%s", *arguments, origin(error), stacklevel=2, **fields)


# -- fields of records ----------------------------------------------------------------------

PREFIX: Final = "nuropb_"
"""Begins the name of each field."""
LONGEST_FIELD: Final = 255
"""Characters of a text in a field: all of a correlation id, which AMQP limits to 255 bytes."""


class Loggable(Protocol):
    """A message, or something else that records are about."""

    def log_fields(self) -> dict[str, object]:
        """Return its fields by their names without the prefix; None for what is not known."""


class ServiceLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry the names of a service and an instance, and more in fields.

    `log.warning("…", about=message, seconds=2.5)` adds the fields of a Loggable, and others by
    their names. They are made only when the record is: with its level off, none of it is done.
    """

    def __init__(
        self, logger: logging.Logger, service: str, instance_id: str, **more: object
    ) -> None:
        super().__init__(logger)
        self._fields = _extra({"service": service, "instance_id": instance_id, **more})

    def onto(self, logger: logging.Logger) -> ServiceLog:
        """Return the same for another logger."""
        other = ServiceLog(logger, "", "")
        other._fields = self._fields
        return other

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Return the arguments of the logger's own method; all but its own become fields."""
        passed = {name: kwargs.pop(name) for name in _LOGGERS_OWN if name in kwargs}
        about: Loggable | None = kwargs.pop("about", None)
        fields = {} if about is None else about.log_fields()
        return msg, {**passed, "extra": self._fields | _extra({**fields, **kwargs})}


_LOGGERS_OWN: Final = ("exc_info", "stack_info", "stacklevel")


def _extra(fields: MutableMapping[str, object]) -> dict[str, object]:
    """Return the attributes of a record: texts of peers are made printable, and short."""
    return {
        PREFIX + name: printable(value, LONGEST_FIELD) if isinstance(value, str) else value
        for name, value in fields.items()
        if value is not None and value != ""
    }
