"""One message on its way out: what is sent, where it is, and who is told how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from ..exceptions import NuropbException
from ..safe_logging import report
from . import frames

logger = logging.getLogger("nuropb_rmq.amqp")

OnDone = Callable[[NuropbException | None], None]
"""Called once: with None when the broker confirmed the message, else with the error."""


class Stage(Enum):
    """Where an outgoing message is."""

    WAITING = auto()
    WRITTEN = auto()
    DONE = auto()


# For what every message passes: an enum's member takes up to 0.25 µs to look up (CPython 3.11).
WAITING: Final = Stage.WAITING
WRITTEN: Final = Stage.WRITTEN
DONE: Final = Stage.DONE


class Resend(Enum):
    """What happens to a message that was written when its channel ends before the confirm."""

    NEVER = auto()
    """Its outcome is reported as NuropbOutcomeUnknownError."""
    AGAIN = auto()
    """It is written again."""
    ALONE = auto()
    """It is written again with nothing else beside it: the broker may have ended a channel over
    it, without a word that says so. When that channel is closed as well, it was."""


NEVER: Final = Resend.NEVER
AGAIN: Final = Resend.AGAIN
ALONE: Final = Resend.ALONE


class Outgoing:
    """One message on its way out.

    `deadline` is in loop time: a message that is still in the outbox then is never sent. Without
    one, the waiting caller discards it in time. `expiration`, in milliseconds, stands at the end of
    the properties; after a wait, only the rest of it is written. `resend` allows writing the
    message twice: for a handler's answers and events, which a redelivery could double anyway, and
    for call-agains; see Resend. `refusals` counts how often the broker refused it.
    """

    on_done: OnDone
    """Set when it is published."""
    about: object
    """For whoever is told that it is published (`transport.observer`)."""

    __slots__ = (
        "about", "body", "deadline", "expiration", "method", "on_done", "properties", "refusals",
        "resend", "size", "stage", "timer", "waits_since",
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
        self.method = method
        self.properties = properties
        self.body = body
        self.about = None
        self.deadline = deadline
        self.resend = AGAIN if resend else NEVER
        self.expiration = expiration
        self.refusals = 0
        self.size = len(properties) + len(body)
        self.stage = WAITING
        self.timer: asyncio.TimerHandle | None = None
        self.waits_since = 0.0

    def wait(self) -> None:
        """It cannot be written now; its expiration goes on."""
        if self.expiration is not None and not self.waits_since:
            self.waits_since = time.monotonic()

    def expired(self) -> bool:
        """Return whether it expired while it waited; if not, write in the time that is left."""
        if self.expiration is None or not self.waits_since:
            return False
        waited = int((time.monotonic() - self.waits_since) * 1000)
        left = self.expiration - waited
        if left > 0:
            end = len(self.properties) - 1 - len(str(self.expiration))
            self.properties = self.properties[:end] + frames.shortstr(str(left))
            self.expiration, self.waits_since = left, 0.0
        return left <= 0

    def redirect(self, old: bytes, new: bytes) -> None:
        """The answer to this request is to go to `new`, not to `old`: both packed as shortstr."""
        # Behind reply_to there is only the expiration, and that is digits.
        before, found, behind = self.properties.rpartition(old)
        if found:
            self.properties = before + new + behind

    def finish(self, error: NuropbException | None) -> None:
        """Settle it, once."""
        if self.stage is not DONE:
            self.stage = DONE
            self.properties = self.body = b""  # whoever waits for the answer may wait for long
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            try:
                self.on_done(error)
            except Exception as e:  # noqa: BLE001 - the messages behind this one go on
                report(logger, logging.ERROR, e, "the receiver of a message's outcome failed")
