"""One message on its way out: its bytes, its stage, and the callback for its outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol

from ..exceptions import NuropbException, NuropbNotSentError, NuropbTimeoutError
from ..safe_logging import report
from . import frames

logger = logging.getLogger("nuropb_rmq.amqp")

OnDone = Callable[[NuropbException | None], None]
"""Callback for an outcome, called once: with None when the broker confirmed, else the error."""


class Recorded(Protocol):
    """Adds up the outcomes of messages."""

    def confirmed(self, posted_at: float, error: NuropbException | None) -> None:
        """Note the outcome of a message that was posted then, by time.monotonic()."""


class Stage(Enum):
    """Progress of an outgoing message."""

    WAITING = auto()
    WRITTEN = auto()
    DONE = auto()


# For hot paths: looking up a member of an enum takes up to 0.25 µs (CPython 3.11).
WAITING: Final = Stage.WAITING
WRITTEN: Final = Stage.WRITTEN
DONE: Final = Stage.DONE


class Resend(Enum):
    """Treatment of a written message whose channel ends before the broker confirms it."""

    NEVER = auto()
    """Report NuropbOutcomeUnknownError."""
    AGAIN = auto()
    """Write it again."""
    ALONE = auto()
    """Write it again, with no other message on the channel: the broker may have closed the channel
    over it without naming it. If it closes this one too, the message is to blame."""


NEVER: Final = Resend.NEVER
AGAIN: Final = Resend.AGAIN
ALONE: Final = Resend.ALONE


class Outgoing:
    """One message on its way out.

    `deadline` is in loop time: a message still in the outbox then is never sent. Without one, the
    waiting caller discards it in time. `expiration`, in milliseconds, stands at the end of the
    properties; after a wait, only the rest of it is written. `resend` allows writing the message
    twice: for a handler's answers and events, which a redelivery could double anyway, and for
    call-agains; see Resend. `refusals` counts how often the broker refused it. `waits_since` is
    the time.monotonic() from which it waits and its expiration runs, or 0.
    """

    on_done: OnDone
    """Set by Publisher.publish()."""
    about: object
    """Details for the observers of publishing (`transport.observer`)."""
    recorded: Recorded | None
    """Told of the outcome, for metrics; then posted_at is set, a time.monotonic()."""

    __slots__ = (
        "about", "body", "deadline", "expiration", "method", "on_done", "posted_at", "properties",
        "recorded", "refusals", "resend", "size", "stage", "timer", "waits_since",
    )  # fmt: skip

    def __init__(
        self,
        method: bytes,
        properties: bytes,
        body: bytes,
        *,
        deadline: float | None = None,
        resend: bool = False,
        expiration: int | None = None,
    ) -> None:
        self.method: bytes = method
        self.properties: bytes = properties
        self.body: bytes = body
        self.about = None
        self.recorded = None
        self.posted_at: float = 0.0
        self.deadline: float | None = deadline
        self.resend = AGAIN if resend else NEVER
        self.expiration: int | None = expiration
        self.refusals: int = 0
        self.size: int = len(properties) + len(body)
        self.stage: Stage = WAITING
        self.timer: asyncio.TimerHandle | None = None
        self.waits_since: float = 0.0

    def wait(self) -> None:
        """Note that the message cannot be written now; its expiration runs from here on."""
        if not self.waits_since:
            self.waits_since = time.monotonic()

    def expired(self) -> bool:
        """Return whether it expired while it waited; if not, pack the remaining expiration."""
        if self.expiration is None or not self.waits_since:
            self.waits_since = 0.0
            return False
        waited = int((time.monotonic() - self.waits_since) * 1000)
        left = self.expiration - waited
        if left > 0:
            end = len(self.properties) - 1 - len(str(self.expiration))
            self.properties = self.properties[:end] + frames.shortstr(str(left))
            self.expiration, self.waits_since = left, 0.0
        return left <= 0

    def late(self, why: str) -> NuropbTimeoutError:
        """Return the error for a message that is too late to be written.

        One that may be written twice may have arrived the first time.
        """
        if self.resend is NEVER:
            return NuropbNotSentError(f"never sent: {why}")
        return NuropbTimeoutError(f"not confirmed: {why}")

    def redirect(self, old: bytes, new: bytes) -> None:
        """Change the reply_to of this request from `old` to `new`, both packed as shortstr."""
        # Only the expiration follows reply_to, and that is digits.
        before, found, behind = self.properties.rpartition(old)
        if found:
            self.properties = before + new + behind

    def finish(self, error: NuropbException | None) -> None:
        """Call on_done with the outcome; ignored after the first call."""
        if self.stage is not DONE:
            self.stage = DONE
            self.properties = self.body = b""  # a request is kept for as long as its answer takes
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            try:
                self.on_done(error)
                if self.recorded is not None:
                    self.recorded.confirmed(self.posted_at, error)
            except Exception as e:  # noqa: BLE001 - later messages must not suffer
                report(logger, logging.ERROR, e, "the callback for a message's outcome failed")
