"""Tell what a transport does, as it does it: for metrics, traces, and a program's own hooks."""

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
    once for each method, and stops no message. A message that was not read has an empty payload:
    it could not be, or it had expired.
    """

    def sent(self, message: SentMessage) -> None:
        """A message was handed to the publisher; it may wait there for the connection."""

    def confirmed(self, message: SentMessage, error: NuropbException | None) -> None:
        """The outcome of a message is known: None when the broker has it, else why not."""

    def received(self, message: Message) -> None:
        """A message of the service queue was read, and its handler is about to begin."""

    def handled(self, message: Message, outcome: Outcome, seconds: float) -> None:
        """The handler ended, or completed its message; its answer may still fail to be sent."""

    def settled(self, message: Message, settlement: Settlement) -> None:
        """A message was acknowledged, rejected (a dead letter then) or given back, on its channel.

        A message that is called again is acknowledged. What a lost channel or stop() gives back is
        not told.
        """

    def reconnected(self, seconds: float) -> None:
        """Everything is back, so long after a connection was lost."""


class _Entry:
    """An observer, and which of its methods were reported to fail."""

    __slots__ = ("failed", "observer")

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.failed: set[str] = set()


class Observers:
    """Those of one transport. Whoever has something to tell asks `active` first."""

    __slots__ = ("_entries", "_lost_at", "active")

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._lost_at = 0.0
        self.active = False

    def add(self, observer: Observer) -> Callable[[], None]:
        """Tell this one, too, until the function that is returned is called."""
        entry = _Entry(observer)
        self._entries.append(entry)
        self.active = True

        def remove() -> None:
            if entry in self._entries:
                self._entries.remove(entry)
            self.active = bool(self._entries)

        return remove

    def tell(self, method: Callable[..., None], *what: object) -> None:
        """Call a method of Observer on each of them; it never raises."""
        name = method.__name__
        for entry in tuple(self._entries):
            try:
                getattr(entry.observer, name)(*what)
            except BaseException as e:  # noqa: BLE001 - a program's own, and no message may suffer
                if name not in entry.failed:
                    entry.failed.add(name)
                    whose = f"{type(entry.observer).__name__}.{name}"
                    report(logger, logging.ERROR, e, "observer %s failed (said once)", whose)

    def state_changed(self, state: State, _: NuropbTransportError | None) -> None:
        """Tell of a return, when the state was RECOVERING before."""
        if state is State.RECOVERING:
            self._lost_at = self._lost_at or monotonic()
        elif self._lost_at:
            seconds, self._lost_at = monotonic() - self._lost_at, 0.0
            if state.up:
                self.tell(Observer.reconnected, seconds)

    def publish(
        self, message: SentMessage, on_done: OnDone, publish: Callable[[OnDone], None]
    ) -> None:
        """Publish a message, telling of it before, and of its outcome; raises as `publish` does."""
        self.tell(Observer.sent, message)

        def done(error: NuropbException | None) -> None:
            self.tell(Observer.confirmed, message, error)
            on_done(error)

        try:
            publish(done)
        except NuropbException as e:
            self.tell(Observer.confirmed, message, e)
            raise
