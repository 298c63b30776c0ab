"""Base of Transport: who observes it, and what they may know of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, Final

from ..safe_logging import report
from .hooks import Hooks
from .managed import Managed
from .observer import Observer, Observers
from .recording import Recording
from .tracing import Tracing

logger = logging.getLogger("nuropb_rmq.transport")

on_new: Final[list[Callable[[Any], object]]] = []
"""Called with each new Transport of this process, at the end of its construction. What they raise
is logged. For telemetry that is turned on for a whole program."""


class Observable(Managed):
    """Holds the observers and the tracing of a transport."""

    def __init__(self, hooks: Hooks) -> None:
        self._observers = Observers()
        self._methods = hooks.methods

    def announce(self) -> None:
        """Call what waits for new transports."""
        for call in tuple(on_new):
            try:
                call(self)
            except Exception as e:  # noqa: BLE001 - telemetry must not keep a program from starting
                report(logger, logging.ERROR, e, "observing a new transport failed")

    @property
    def methods(self) -> Collection[str]:
        """Names of the methods that it publishes; empty for a handler that is not a Mesh's."""
        return self._methods

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Add an observer of all messages; return a function that removes it."""
        return self._observers.add(observer)

    def record(self, recording: Recording | None) -> None:
        """Record durations and outcomes with this, in place of what did so before; None: do not."""
        self._observers.recording = recording

    def trace(self, tracing: Tracing) -> Callable[[], None]:
        """Make spans with this, in place of what did so before; return a function that ends it.

        See nuropb_rmq.telemetry.
        """
        return self._observers.trace(tracing)
