"""What a transport does, as it does it: for metrics, traces, and a program's own hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from ..amqp.outgoing import OnDone
from ..amqp.settlement import Settlement
from ..broker.state import State
from ..exceptions import NuropbException, NuropbTransportError
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import MessageType
from ..protocol.message import Message
from ..safe_logging import report

logger = logging.getLogger("nuropb_rmq.transport")


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message on its way out. `size` is that of its body, in bytes."""

    kind: MessageType
    exchange: str
    routing_key: str
    correlation_id: str
    trace_id: str | None
    size: int
    encrypted: bool


class Observer:
    """Override what you want to see; the rest does nothing.

    `Transport.observe()` and `Mesh.observe()` take one. Methods are called in the thread of the
    event loop, in the middle of the work: be quick, and wait for nothing. An exception is logged,
    once for each method, and stops no message. A message that could not be read has an empty
    payload.
    """

    def sent(self, message: SentMessage) -> None:
        """A message was handed to the publisher; it may wait there for the connection."""

    def confirmed(self, message: SentMessage, error: NuropbException | None) -> None:
        """The outcome of a message is known: None when the broker has it, else why not."""

    def received(self, message: Message) -> None:
        """A message of the service queue was read, and its handler is about to begin."""

    def handled(self, message: Message, outcome: Outcome, seconds: float) -> None:
        """The handler ended, or completed its message."""

    def settled(self, message: Message, settlement: Settlement) -> None:
        """A message was acknowledged, rejected or given back. A rejected one is a dead letter."""

    def reconnected(self, seconds: float) -> None:
        """Everything is back, so long after a connection was lost."""


class Observers:
    """The observers of one transport. Check `active` before calling `tell` or `sent`."""

    __slots__ = ("_all", "_failed", "_lost_at", "active")

    def __init__(self) -> None:
        self._all: list[Observer] = []
        self._failed: set[tuple[Observer, str]] = set()
        self._lost_at = 0.0
        self.active = False

    def add(self, observer: Observer) -> Callable[[], None]:
        """Tell this one, too, until the function that is returned is called."""
        self._all.append(observer)
        self.active = True

        def remove() -> None:
            if observer in self._all:
                self._all.remove(observer)
            self.active = bool(self._all)

        return remove

    def tell(self, method: Callable[..., None], *what: object) -> None:
        """Call a method of Observer on each of them."""
        name = method.__name__
        for each in tuple(self._all):
            try:
                getattr(each, name)(*what)
            except Exception as e:  # noqa: BLE001 - a program's own, and no message may suffer
                if (each, name) not in self._failed:
                    self._failed.add((each, name))
                    what_failed = f"{type(each).__name__}.{name}"
                    report(logger, logging.ERROR, e, "observer %s failed (said once)", what_failed)

    def state_changed(self, state: State, _: NuropbTransportError | None) -> None:
        """Tell of a return, when the state was RECOVERING before."""
        if state is State.RECOVERING:
            self._lost_at = self._lost_at or monotonic()
        elif self._lost_at:
            seconds, self._lost_at = monotonic() - self._lost_at, 0.0
            if state.up:
                self.tell(Observer.reconnected, seconds)

    def sent(self, message: SentMessage, on_done: OnDone) -> OnDone:
        """Tell of a message that is published; returns what is to be told of its outcome."""
        self.tell(Observer.sent, message)

        def done(error: NuropbException | None) -> None:
            self.tell(Observer.confirmed, message, error)
            on_done(error)

        return done
