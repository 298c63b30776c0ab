"""One delivery until it is settled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from time import monotonic
from typing import Any, Final, Protocol

from ..amqp.consumer import Consumer
from ..amqp.frames import Content
from ..amqp.outgoing import OnDone
from ..amqp.settlement import REJECT, Settlement
from ..exceptions import (
    NuropbException,
    NuropbOutcomeUnknownError,
    NuropbSerializationError,
    NuropbTimeoutError,
    PublishNackedError,
)
from ..protocol.acknowledgement import Outcome
from ..protocol.message import Message
from ..protocol.reader import Head

logger = logging.getLogger("nuropb_rmq.transport")

Settler = Callable[["Delivery", Settlement], None]
"""Settles a delivery, by its `write`, in place of the consumer; it must not raise."""


class Pace(Enum):
    """How its handler is doing."""

    NOT_BEGUN = auto()
    IN_TIME = auto()
    SLOW = auto()
    """Most of its time is over, and that was told."""
    OVERDUE = auto()
    """All of its time is over: it is cancelled."""


# For what every message passes: an enum's member takes up to 0.25 µs to look up (CPython 3.11).
IN_TIME: Final = Pace.IN_TIME
WAITED: Final = 0.05
"""Seconds from which on a delivery counts as one that had to wait before it was begun: few do, and
the expiration, which is text, is read for those only."""
_NOT_BEGUN: Final = Pace.NOT_BEGUN


class Owner(Protocol):
    """The dispatcher that a delivery belongs to."""

    def settled(self, work: Delivery, settlement: Settlement | None) -> None:
        """A delivery has come to its end, with what was written for it, if anything was."""

    def gives_up(self, work: Delivery) -> bool:
        """Return whether the handler of this delivery is cancelled by the transport."""

    def undelivered(self, work: Delivery, what: str, error: NuropbException) -> bool:
        """An answer or event of it could not be delivered."""

    def complete(
        self, work: Delivery, outcome: Outcome, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        """Decide what becomes of it, while its handler goes on; never raises."""


class Delivery:
    """One delivery until it is settled: after its messages are confirmed, and once.

    To the calls that its handler makes it is the message that they inherit from (`Handled`).
    """

    __slots__ = (
        "_consumer", "_done", "_outstanding", "_owner", "arrived", "began", "concluded", "content",
        "decrypted", "head", "message", "pace", "sent", "settlement", "settler", "task",
    )  # fmt: skip

    head: Head
    """Once it was read."""
    message: Message
    """Its payload is there once its body was read."""

    def __init__(
        self,
        owner: Owner,
        consumer: Consumer,
        content: Content,
        settler: Settler | None = None,
    ) -> None:
        self._owner = owner
        self._consumer = consumer
        self.arrived = monotonic()
        self._outstanding = 1
        self.began = 0.0
        """When its handler began, in monotonic time, when somebody observes it."""
        self._done = False
        self.content = content
        self.decrypted = False
        """An answer can be encrypted, once, with the key that this delivery came with."""
        self.settlement = REJECT
        self.settler = settler
        self.concluded = False
        """What becomes of it is decided; it is settled when its messages are confirmed."""
        self.sent = 0
        """Messages that were sent for it."""
        self.pace = _NOT_BEGUN
        self.task: asyncio.Task[None] | None = None
        """Its own, once it has waited for something."""

    # -- as the message that is handled -----------------------------------------------------

    @property
    def trace_id(self) -> str | None:
        """Shared by all messages of one activity."""
        return self.head.trace_id

    @property
    def correlation_id(self) -> str:
        """Of the message and of its answer."""
        return self.head.correlation_id

    @property
    def sender(self) -> str:
        """The queue that answers go to, as the sender has written it."""
        return self.head.reply_to

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of the message."""
        return self.head.headers

    @property
    def given_up(self) -> bool:
        """Return whether the transport cancels its handler."""
        return self._owner.gives_up(self)

    def left(self) -> float | None:
        """Seconds until its expiration, counted from its arrival here.

        None when it has none, and when it is concluded: what its handler began goes on freely.
        """
        if self.concluded or self._done:
            return None
        ttl = self.head.ttl
        return None if ttl is None else ttl / 1000 - (monotonic() - self.arrived)

    def expired(self) -> bool:
        """Whether it waited here past its expiration: nobody waits for its answer any more."""
        left = self.left()
        return left is not None and left <= 0

    # -- its end ----------------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """Its channel is gone: the broker delivers it again, to whomever."""
        return not self._consumer.port.open

    def complete(self, outcome: Outcome, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Decide its end now; False when that was decided before. See Message.complete."""
        if self.concluded or self._done:
            return False
        self._owner.complete(self, outcome, messages)
        return True

    def delivered_again(self, consumer: Consumer, content: Content) -> None:
        """Take the place of a delivery that is stale: it is this one that is settled."""
        self._consumer = consumer
        self.content = content

    def expect(self) -> OnDone:
        """Wait for one more answer to be confirmed; return the callback for its outcome."""
        self._outstanding += 1
        return self._answered

    def wait_for(self, count: int) -> None:
        """Wait for so many more calls of published()."""
        self._outstanding += count

    def expect_call_again(self) -> OnDone:
        """The delivery is acknowledged when its successor is confirmed, else given back."""
        return self._called_again

    def published(self) -> None:
        """One thing less to wait for: that everything is on its way, or a confirm of it."""
        self._outstanding -= 1
        if self._outstanding == 0:
            self.settle(self.settlement)

    def _answered(self, error: NuropbException | None) -> None:
        match error:
            case None:
                pass
            case NuropbTimeoutError() | NuropbOutcomeUnknownError():
                # The request's time is over, and its requester has been told so: the work is done.
                logger.warning("the answer to %s was late: %s", self.head.correlation_id, error)
            case _:
                self._owner.undelivered(self, "its answer", error)
        self.published()

    def _called_again(self, error: NuropbException | None) -> None:
        match error:
            case None:
                self.settle(Settlement.ACK)
            case NuropbSerializationError() | PublishNackedError() | NuropbTimeoutError():
                # It never fits, is not wanted, or has expired: given back, it would come round for
                # ever.
                self.settle(Settlement.REJECT)
            case _:
                # Two channels ended under it, or this is stop(): neither is over in a moment.
                self.settle(Settlement.REQUEUE)

    def settle(self, settlement: Settlement | None) -> None:
        """Settle now; None leaves it to the session's end, which gives it back to the queue."""
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
            # Tasks that its handler has started may hold it for long: they inherit its trace id.
            self.content.body = b""
            self._owner.settled(self, settlement if written else None)

    def write(self, settlement: Settlement) -> bool:
        """Tell the broker; False when the channel is gone. For a settler, once."""
        return self._consumer.settle(self.content, settlement)
