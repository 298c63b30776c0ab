"""Handle one message at a time while handlers fail one after the other.

Deliveries that arrive in an outage wait here, up to prefetch_count of them, and are begun in their
turn, one every `probe_every` seconds, until a handler succeeds. A command or event that fails goes
to the end of the queue.

Why: docs/decisions/014-outages.md
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

from ..amqp.consumer import Consumer
from ..amqp.frames import Content
from ..amqp.settlement import REJECT, Settlement
from ..broker.state import State
from ..config.outage import LONGEST_SHARE, counts
from ..config.settings import TransportConfig
from ..exceptions import NuropbException, NuropbTimeoutError, NuropbTransportError
from ..protocol.acknowledgement import DONE, Outcome
from ..protocol.constants import REQUEST
from ..safe_logging import ServiceLog
from ..service.methods import DESCRIBE
from .delivery import Delivery

_NEARLY_OVER: Final = 0.05
"""Seconds. Calls made in a handler end with its message's deadline, rounded, or shortly before."""


class Begin(Protocol):
    """Begins to handle a delivery that arrived at a monotonic time."""

    def __call__(self, consumer: Consumer, content: Content, arrived: float) -> Delivery: ...


class Outages:
    """Judge of a service's handlers, and the deliveries that wait while they fail.

    `state` is READY or OUTAGE, and `error` its reason; `on_change` is called after each change.
    """

    def __init__(
        self,
        config: TransportConfig,
        *,
        begin: Begin,
        on_change: Callable[[], None],
        log: ServiceLog,
        later: Callable[[float, Callable[[], None]], Any] | None = None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        assert config.outage is not None  # noqa: S101 - else this is not made
        self._outage = config.outage
        self._name = config.service_name
        self._log = log
        self._longest = config.handler_timeout * LONGEST_SHARE
        self._begin = begin
        self._on_change = on_change
        self._later = later or asyncio.get_running_loop().call_later
        self._now = now
        self.state = State.READY
        self.error: NuropbTransportError | None = None
        self.active = False
        """True in an outage: deliveries have to be held."""
        # Failures in a row.
        self._failures = 0
        self._began = 0.0
        # Deliveries in the order of their arrival, which is the last item.
        self._held: deque[tuple[Consumer, Content, float]] = deque()
        # The one that was begun last, until its handler has ended.
        self._probe: Delivery | None = None
        # True when the next may begin as soon as there is one, and no probe is in hand.
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        # Failed in the outage: they go back to the queue.
        self._failed: set[Delivery] = set()
        # False once no further delivery may begin.
        self._taking = True

    @property
    def waiting(self) -> int:
        """Number of deliveries that wait for their turn."""
        return len(self._held)

    def hold(self, consumer: Consumer, content: Content) -> None:
        """Keep a delivery that arrives in an outage until its turn comes, or the outage ends."""
        self._held.append((consumer, content, self._now()))
        self._next()

    # -- ends of handlers -------------------------------------------------------------------

    def failed(self, work: Delivery, error: BaseException) -> None:
        """Note that a handler failed, before the delivery is concluded."""
        left = work.left()
        in_time = left is None or left > _NEARLY_OVER
        if work.concluded or not (in_time and counts(self._outage, error)):
            return
        self._failures += 1
        if self.active:
            if work is self._probe:
                self._probe, self._due = None, False  # the next one has to wait
            if work.head.kind is not REQUEST:
                self._failed.add(work)
        elif self._failures >= self._outage.after and self._taking:
            self._start(error)

    def concluded(self, work: Delivery, outcome: Outcome) -> bool:
        """Note the outcome of a delivery; return whether the message goes back to the queue."""
        if outcome is DONE:
            # Clients ask for descriptions at any time, and none of the service's code answers.
            if self._failures and work.message.payload.get("method") != DESCRIBE:
                self._failures = 0
                if self.active:
                    self._stop()
            return False
        if work not in self._failed:
            return False
        self._failed.remove(work)
        return not work.stale  # else the broker delivers it again by itself

    def settled(self, work: Delivery) -> None:
        """Begin the next at once when the probe has ended and told nothing about the handlers."""
        if work is self._probe:
            self._probe = None
            self._due = True
            self._next()

    # -- the outage -------------------------------------------------------------------------

    def _start(self, error: BaseException) -> None:
        every = self._outage.probe_every
        text = (
            f"{self._failures} handlers in a row have failed, the last one with "
            f"{type(error).__qualname__}: one message is tried every {every:g} s"
        )
        self._log.warning("%s: outage: %s", self._name, text)
        self.active = True
        self._began = self._now()
        self._timer = self._later(every, self._tick)
        self._set(State.OUTAGE, NuropbTransportError(text))

    def _stop(self) -> None:
        self.active = False
        self._probe = None
        self._due = False
        if not self._taking:
            return
        self._cancel_timer()
        took = self._now() - self._began
        text = "%s: the outage is over after %.1f s: a handler succeeded"
        self._log.warning(text, self._name, took, seconds=round(took, 3))
        held, self._held = self._held, deque()
        for consumer, content, arrived in held:
            if consumer.port.open:
                self._begin(consumer, content, arrived)
        self._set(State.READY, None)

    def _tick(self) -> None:
        self._timer = self._later(self._outage.probe_every, self._tick)
        self._due = True
        self._next()
        self._give_back_old()

    def _next(self) -> None:
        """Begin one delivery, if one is due and the last one has ended."""
        while self._due and self._probe is None and self._held:
            delivery = self._held.popleft()
            if delivery[0].port.open:  # else the broker delivers it again
                self._due = False
                self._probe = self._begin(*delivery)

    def _give_back_old(self) -> None:
        """Requeue what has waited for long, because probes took long, before consumer_timeout.

        The broker delivers it again at once.
        """
        while self._held and self._now() - self._held[0][2] > self._longest:
            consumer, content, _ = self._held.popleft()
            consumer.settle(content, Settlement.REQUEUE)

    def _set(self, state: State, error: NuropbTransportError | None) -> None:
        self.state = state
        self.error = error
        self._on_change()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop_taking(self) -> None:
        """Requeue what waits, and begin nothing more. What still fails in an outage goes back."""
        self._taking = False
        self._cancel_timer()
        held, self._held = self._held, deque()
        for consumer, content, _ in held:
            consumer.settle(content, Settlement.REQUEUE)
        if self.active:
            self._set(State.READY, None)


def settle_put_back(work: Delivery, error: NuropbException | None) -> None:
    """Settle a delivery by the outcome of its copy, which was put at the end of the queue."""
    match error:
        case None:
            work.settle(Settlement.ACK)
        case NuropbTimeoutError():  # its expiration has passed
            work.settle(REJECT)
        case _:  # the queue is full, or the transport stops: it stays where it was
            work.settle(Settlement.REQUEUE)
