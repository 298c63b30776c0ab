"""One delivery until it is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from time import monotonic
from typing import Any, Final, Protocol

from ..amqp.consumer import Consumer
from ..amqp.frames import Content
from ..amqp.outgoing import OnDone
from ..amqp.settlement import REJECT, Settlement
from ..exceptions import (
    NuropbException,
    NuropbNotDeliveredError,
    NuropbOutcomeUnknownError,
    NuropbSerializationError,
    NuropbTimeoutError,
    PublishNackedError,
)
from ..protocol.acknowledgement import Outcome
from ..protocol.message import Message
from ..protocol.reader import Head
from ..safe_logging import ServiceLog
from .tracing import ProcessSpan

Settler = Callable[["Delivery", Settlement], None]
"""Settles a delivery in place of the consumer, by calling its `write`; must not raise."""


class Pace(Enum):
    """Progress of a handler against handler_timeout."""

    NOT_BEGUN = auto()
    IN_TIME = auto()
    OVERDUE = auto()
    """All of its time is over: it has been cancelled."""


# For code that runs for every message: looking up an enum's member takes up to 0.25 µs on CPython
# 3.11.
IN_TIME: Final = Pace.IN_TIME
WAITED: Final = 0.05
"""Seconds a delivery must have waited here before its expiration is checked. Few wait so long, and
the expiration is text that takes time to read."""
_NOT_BEGUN: Final = Pace.NOT_BEGUN


@dataclass(frozen=True, slots=True)
class Postponement:
    """The return of a message: by which queue, after how many seconds, with which properties."""

    queue: str
    delay: float
    properties: bytes


class Owner(Protocol):
    """The part of `Dispatcher` that its deliveries use."""

    @property
    def log(self) -> ServiceLog:
        """The logger of the service instance."""

    def settled(self, work: Delivery, settlement: Settlement | None) -> None:
        """Note the end of a delivery; `settlement` is None when none was written."""

    def cancelled_by_us(self, work: Delivery) -> bool:
        """Return whether the transport cancels the handler of this delivery."""

    def not_retried(self, work: Delivery, error: NuropbException) -> None:
        """Let a message fail that was to come back later, and cannot."""

    def undelivered(self, work: Delivery, part: str, error: NuropbException) -> bool:
        """Let the message fail because its answer or event (`part`) was not delivered."""

    def complete(
        self, work: Delivery, outcome: Outcome, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        """End the message while its handler goes on. See Message.complete."""


class Delivery:
    """One delivery. It is settled once, after its answer and events are confirmed.

    It is also the `Handled` message, from which calls made in the handler inherit trace id and
    deadline.
    """

    __slots__ = (
        "_consumer", "_done", "_outstanding", "_owner", "arrived", "began", "concluded", "content",
        "decrypted", "error", "head", "message", "pace", "postponed", "sent", "settlement",
        "settler", "span", "task",
    )  # fmt: skip

    head: Head
    """Set when the handler's task begins."""
    message: Message
    """Set together with `head`; its payload is empty until the body has been read."""

    def __init__(
        self,
        owner: Owner,
        consumer: Consumer,
        content: Content,
        settler: Settler | None = None,
    ) -> None:
        self._owner = owner
        self._consumer = consumer
        self.arrived: float = monotonic()
        # Calls of published() until it is settled: one for the whole, one per unconfirmed message.
        self._outstanding = 1
        self.began: float = 0.0
        """Monotonic time at which its handler began; 0 unless there is an observer."""
        # True once it is settled.
        self._done = False
        self.content: Content = content
        self.decrypted: bool = False
        """True while the key that it came with can still encrypt one answer."""
        self.error: BaseException | None = None
        """Why it has failed; None while it has not."""
        self.postponed: Postponement | None = None
        """Its return, once that is decided."""
        self.settlement: Settlement = REJECT
        self.span: ProcessSpan | None = None
        """Of telemetry, from the moment that it has been read."""
        self.settler: Settler | None = settler
        self.concluded: bool = False
        """True once its end is decided; it is settled when its messages are confirmed."""
        self.sent: int = 0
        """Number of answers and events sent for it."""
        self.pace: Pace = _NOT_BEGUN
        self.task: asyncio.Task[None] | None = None
        """The task of its handler, once the handler has waited for something."""

    # -- as the message that is handled -----------------------------------------------------

    @property
    def trace_id(self) -> str | None:
        """The id shared by all messages of one activity."""
        return self.head.trace_id

    @property
    def correlation_id(self) -> str:
        """The id of the message and of its answer."""
        return self.head.correlation_id

    @property
    def sender(self) -> str:
        """The queue that the sender wants answers in."""
        return self.head.reply_to

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of the message."""
        return self.head.headers

    @property
    def given_up(self) -> bool:
        """True when the transport cancels its handler."""
        return self._owner.cancelled_by_us(self)

    def left(self) -> float | None:
        """Return the seconds until its expiration, counted from its arrival here.

        None without an expiration, and once it is concluded: what its handler began has no deadline
        then.
        """
        if self.concluded or self._done:
            return None
        ttl = self.head.ttl
        return None if ttl is None else ttl / 1000 - (monotonic() - self.arrived)

    def expired(self) -> bool:
        """Return True when its expiration has passed: nobody waits for its answer any more."""
        left = self.left()
        return left is not None and left <= 0

    # -- in log records ---------------------------------------------------------------------

    @property
    def log(self) -> ServiceLog:
        """The logger of the service instance."""
        return self._owner.log

    def log_fields(self) -> dict[str, object]:
        """Return what log records say of it; see ServiceLog."""
        return self.message.log_fields()

    # -- its end ----------------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """True when its channel is gone: the broker delivers the message again."""
        return not self._consumer.port.open

    def complete(self, outcome: Outcome, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Decide its end now; return False if that was decided before. See Message.complete."""
        if self.concluded or self._done:
            return False
        self._owner.complete(self, outcome, messages)
        return True

    def delivered_again(self, consumer: Consumer, content: Content) -> None:
        """Settle this newer delivery of the message, in place of the stale one."""
        self._consumer = consumer
        self.content = content

    def expect(self) -> OnDone:
        """Wait for one more answer to be confirmed; return the callback for its outcome."""
        self._outstanding += 1
        return self._answered

    def wait_for(self, count: int) -> None:
        """Wait for `count` more calls of published()."""
        self._outstanding += count

    def expect_letter(self) -> OnDone:
        """Wait for its dead letter to be confirmed; return the callback for the outcome."""
        self._outstanding += 1
        return self._kept

    def expect_call_again(self) -> OnDone:
        """Return the callback for the outcome of the successor; see _called_again."""
        return self._called_again

    def expect_retry(self) -> OnDone:
        """Return the callback for the outcome of the successor; see _retried."""
        return self._retried

    def published(self) -> None:
        """Note that one message is confirmed, or that all are sent; settle after the last."""
        self._outstanding -= 1
        if self._outstanding == 0:
            self.settle(self.settlement)

    def _answered(self, error: NuropbException | None) -> None:
        match error:
            case None:
                pass
            case NuropbTimeoutError() | NuropbOutcomeUnknownError():
                # The requester's own timeout has ended the call. The work is done: ack.
                text = "the answer to %s was late: %s"
                self.log.warning(text, self.head.correlation_id, error, about=self)
            case _:
                self._owner.undelivered(self, "its answer", error)
        self.published()

    def _kept(self, error: NuropbException | None) -> None:
        """Acknowledge it in place of rejecting it, once its dead letter is confirmed."""
        if error is None:
            self.settlement = Settlement.DEAD_LETTER
        else:
            text = "%s: rejected without a reason: %s"
            self.log.info(text, self.head.correlation_id, error, about=self)
        self.published()

    def _retried(self, error: NuropbException | None) -> None:
        """Settle it by the outcome of its successor, the message that comes back later."""
        match error:
            case None:
                self.settle(Settlement.RETRY)
            case NuropbSerializationError() | PublishNackedError() | NuropbNotDeliveredError():
                # Too large, or its queue is full or gone.
                self._owner.not_retried(self, error)
            case _:
                # Two channels ended before the confirm, or this is stop(): the broker keeps it.
                self.settle(Settlement.REQUEUE)

    def _called_again(self, error: NuropbException | None) -> None:
        """Settle it by the outcome of its successor, the message put back into the queue."""
        match error:
            case None:
                self.settle(Settlement.CALL_AGAIN)
            case NuropbSerializationError() | PublishNackedError() | NuropbTimeoutError():
                # Too large, refused, or expired: requeued, it would come round for ever.
                self.settle(Settlement.REJECT)
            case _:
                # Two channels ended before the confirm, or this is stop(): the broker keeps it.
                self.settle(Settlement.REQUEUE)

    def settle(self, settlement: Settlement | None) -> None:
        """Settle now. None writes nothing: the end of its channel requeues it."""
        if self._done:
            return
        self._done = True
        written = False
        try:
            if settlement is not None:
                if self.settler is None:
                    written = self._consumer.settle(self.content, settlement)
                else:
                    self.settler(self, settlement)
                    written = not self.stale
        finally:
            # Tasks that its handler has started may hold this delivery for long, for its trace id.
            self.content.body = b""
            self._owner.settled(self, settlement if written else None)
            self.error = None

    def write(self, settlement: Settlement) -> bool:
        """Write the settlement; return False when the channel is gone. For a settler, once."""
        return self._consumer.settle(self.content, settlement)
