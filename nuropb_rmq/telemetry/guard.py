"""The one place where errors of OpenTelemetry's parts end: none reaches a message or its caller."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from ..safe_logging import report

logger = logging.getLogger("nuropb_rmq.telemetry")

P = ParamSpec("P")
T = TypeVar("T")


class Guard:
    """Counts the errors of one instrumented transport, and logs one for each call that failed."""

    __slots__ = ("broken_contexts", "failures")

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        """Number of errors by the name of the call."""
        self.broken_contexts = 0
        """Number of messages with a traceparent that cannot be read."""

    def failed(self, call: str, error: BaseException) -> None:
        """Note an error."""
        before = self.failures.get(call, 0)
        self.failures[call] = before + 1
        if not before:
            text = "telemetry failed in %s (logged once); no message is affected"
            report(logger, logging.ERROR, error, text, call)


class Guarded(Protocol):
    """An object whose methods are guarded."""

    @property
    def guard(self) -> Guard: ...


G = TypeVar("G", bound=Guarded)


def guarded(method: Callable[Concatenate[G, P], T]) -> Callable[Concatenate[G, P], T | None]:
    """Wrap a method, which then returns None in place of raising anything."""
    call = method.__name__

    @wraps(method)
    def run(self: G, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return method(self, *args, **kwargs)
        except BaseException as e:  # noqa: BLE001 - code of others, as observers are
            self.guard.failed(call, e)
            return None

    return run
