"""Drop the logs of aiormq and aio-pika about our connections, unless a level is set for them.

They log each attempt to connect, and each loss with a traceback, where one line of ours is enough.
Their logs about a program's own connections are not touched. To see those about ours, set a level:
logging.getLogger("aiormq").setLevel(logging.WARNING).

Why: docs/decisions/009-logs-of-other-libraries.md
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_LOGGERS: Final = (
    "aiormq.channel",
    "aiormq.connection",
    "aio_pika.channel",
    "aio_pika.connection",
    "aio_pika.queue",
    "aio_pika.robust_connection",
    "aio_pika.tools",
)
_ours: ContextVar[bool] = ContextVar("nuropb_rmq_connection", default=False)


def quietly(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Mark the connections made in a coroutine function, and in its tasks, as ours."""

    @wraps(call)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _ours.set(True)
        try:
            return await call(*args, **kwargs)
        finally:
            _ours.reset(token)

    return run


def _is_heard(record: logging.LogRecord) -> bool:
    return not _ours.get() or _is_asked_for(record.name)


def _is_asked_for(name: str) -> bool:
    """Return whether a level is set for this logger, or one above it but the root."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None and logger.parent is not None:
        if logger.level:
            return True
        logger = logger.parent
    return False


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_is_heard)
