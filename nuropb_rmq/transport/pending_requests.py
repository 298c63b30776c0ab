"""Pending requests by correlation id, with their deadlines; receives the response queue."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ..amqp import frames
from ..amqp.frames import Content
from ..amqp.outgoing import WAITING, Outgoing
from ..config.settings import TransportConfig
from ..exceptions import (
    EncryptionError,
    MalformedMessageError,
    NuropbException,
    NuropbNotSentError,
    NuropbOutcomeUnknownError,
    NuropbTimeoutError,
    NuropbValidationError,
    PendingFullError,
)
from ..protocol.bounded import Bounded
from ..protocol.constants import RESPONSE
from ..protocol.reader import Head, whole_body
from ..protocol.writer import read_payload
from ..safe_logging import ServiceLog
from .deadlines import Deadlines
from .sealing import Sealing
from .stats import Counts

ENDED_REMEMBERED = 10_000
"""Number of ended requests whose further responses are still handed on."""

OnResponse = Callable[[Head, dict[str, Any]], None]
"""Called with each response to a posted request; must not raise."""


class Pending(ABC):
    """One request that waits for its response; subclasses deliver the outcome."""

    __slots__ = ("correlation_id", "encrypted", "exposed", "message", "timeout")

    def __init__(self, correlation_id: str, timeout: float) -> None:
        self.correlation_id = correlation_id
        self.timeout = timeout
        self.encrypted = False
        self.exposed = False
        """True when its answer may be lost: response queue or confirm was away meanwhile."""
        self.message: Outgoing | None = None

    def published(self, error: NuropbException | None) -> None:
        """Note the outcome of publishing; after a lost confirm a response may still come."""
        if isinstance(error, NuropbOutcomeUnknownError):
            self.exposed = True
        elif error is not None:
            self.fail(error)

    @abstractmethod
    def answer(self, head: Head, payload: dict[str, Any]) -> None:
        """End the waiting with the response."""

    @abstractmethod
    def fail(self, error: NuropbException) -> None:
        """End the waiting with an error."""

    def expire(self) -> None:
        """End the waiting at the deadline."""
        self.fail(self.overdue())

    def overdue(self) -> NuropbTimeoutError:
        """Return the error for a deadline that passed."""
        if self.message is not None and self.message.stage is not WAITING:
            return NuropbTimeoutError(f"no response within {self.timeout:g} s")
        return NuropbNotSentError(
            f"not sent, for the broker could not be reached within {self.timeout:g} s"
        )


class Awaited(Pending):
    """A request whose response resolves a future."""

    __slots__ = ("future", "head")

    future: asyncio.Future[dict[str, Any]]
    head: Head
    """Of the response, once it has come."""

    def answer(self, head: Head, payload: dict[str, Any]) -> None:
        """End the waiting with the response."""
        if not self.future.done():
            self.head = head
            self.future.set_result(payload)

    def fail(self, error: NuropbException) -> None:
        """End the waiting with an error."""
        if not self.future.done():
            self.future.set_exception(error)


class Replies:
    """The table of pending requests, and the receiver of the response queue.

    A response ends the request with its correlation id. Further responses to a posted request go to
    `on_response` until the request's timeout. Everything else is dropped unread, since anybody may
    send to the queue; `dropped` counts it by reason.
    """

    def __init__(
        self,
        sealing: Sealing,
        config: TransportConfig,
        counts: Counts,
        log: ServiceLog,
        *,
        on_response: OnResponse | None = None,
    ) -> None:
        self._counts = counts
        self._sealing = sealing
        self._log = log
        self._max_depth = config.max_json_depth
        self._max_pending = config.max_pending
        self._on_response = on_response
        self._loop = asyncio.get_running_loop()
        self._pending: dict[str, Pending] = {}
        self._deadlines = Deadlines[Pending](Pending.expire)
        # Posted requests that have ended, and the loop time until which responses are handed on.
        self._ended: Bounded[str, float] = Bounded(ENDED_REMEMBERED)
        # Timers that end exposed requests, after recoveries.
        self._gap_timers: set[asyncio.TimerHandle] = set()
        self.dropped: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def open(self, correlation_id: str, timeout: float) -> Awaited:
        """Register a request whose response is awaited for `timeout` seconds.

        Raises what add() raises.
        """
        pending = Awaited(correlation_id, timeout)
        pending.future = self._loop.create_future()
        self.add(pending)
        return pending

    def add(self, pending: Pending) -> None:
        """Register a request.

        Raises NuropbValidationError when one with this id waits already, PendingFullError when
        max_pending requests wait.
        """
        correlation_id = pending.correlation_id
        if len(self._pending) >= self._max_pending:
            raise PendingFullError(
                f"{len(self._pending)} requests wait for their answers (max_pending): make fewer "
                "calls at a time, or use shorter timeouts"
            )
        if correlation_id in self._pending:
            raise NuropbValidationError(
                f"payload field 'correlation_id': a request with {correlation_id!r} waits already"
            )
        self._deadlines.add(pending, pending.timeout)
        self._pending[correlation_id] = pending

    def waiting(self, correlation_id: str) -> Pending | None:
        """Return the request that waits with this id, or None."""
        return self._pending.get(correlation_id)

    def close(self, pending: Pending) -> None:
        """Forget a request, and the key of an encrypted one."""
        if self._pending.get(pending.correlation_id) is pending:
            del self._pending[pending.correlation_id]
        self._deadlines.remove(pending, pending.timeout)
        pending.message = None  # its on_done refers to `pending`: a reference cycle
        if pending.encrypted:
            self._sealing.forget_sent(pending.correlation_id)

    def remember(self, correlation_id: str, until: float) -> None:
        """Hand on further responses to an ended request, `until` this loop time."""
        self._ended.put(correlation_id, until)

    def _remembered(self, correlation_id: str) -> bool:
        return self._ended.get(correlation_id, 0.0) > self._loop.time()

    # -- responses --------------------------------------------------------------------------

    def take_again(self, _: object, __: object) -> bool:
        """Return False: responses are consumed without acks, so none is delivered again."""
        return False

    def receive(self, _: object, content: Content) -> None:
        """Take a message of the response queue."""
        head = Head(content)
        if head.problem is not None:
            self._drop(head, "malformed", head.problem)
        elif head.kind is not RESPONSE:
            self._drop(head, "not a response", f"a {head.kind.value} on the response queue")
        else:
            pending = self._pending.pop(head.correlation_id, None)
            if pending is not None:
                self._resolve(pending, head)
            elif self._on_response is not None and self._remembered(head.correlation_id):
                self._hand_over(head, self._on_response)
            else:
                self._drop(head, "unclaimed", f"nobody waits for {head.correlation_id}")

    def _resolve(self, pending: Pending, head: Head) -> None:
        try:
            if pending.encrypted and not head.encrypted:
                raise EncryptionError("an encrypted request was answered in plain text: refused")
            payload = self._read(head)
        except (MalformedMessageError, EncryptionError) as e:
            pending.fail(e)
        else:
            self._counts.answered += 1
            pending.answer(head, payload)

    def _hand_over(self, head: Head, on_response: OnResponse) -> None:
        try:
            payload = self._read(head)
        except (MalformedMessageError, EncryptionError) as e:
            self._drop(head, "unclaimed, and cannot be read", e)
        else:
            on_response(head, payload)

    def _read(self, head: Head) -> dict[str, Any]:
        body = whole_body(head.content)
        if head.encrypted:
            body = self._sealing.unseal_response(body, head.correlation_id)
        return read_payload(head, body, max_depth=self._max_depth, decrypted=head.encrypted)

    def _drop(self, head: Head, reason: str, detail: object) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        text = "dropped a message of the response queue: %s: %s"
        self._log.debug(text, reason, detail, about=head)

    # -- losses -----------------------------------------------------------------------------

    def expose(self) -> None:
        """Mark the requests that were sent: their answers may be lost with the response queue."""
        for pending in self._pending.values():
            if pending.message is not None and pending.message.stage is not WAITING:
                pending.exposed = True

    def redirect(self, old: str, new: str) -> None:
        """Write the response queue's new name into the requests that were not sent yet."""
        names = frames.shortstr(old), frames.shortstr(new)
        for pending in self._pending.values():
            if pending.message is not None and pending.message.stage is WAITING:
                pending.message.redirect(*names)

    def recovered(self, after: float) -> None:
        """Fail the exposed requests that have no response `after` seconds from now."""
        exposed = [pending for pending in self._pending.values() if pending.exposed]
        if exposed:
            self._later(after, lambda: self._give_up(exposed))

    def _later(self, after: float, call: Callable[[], None]) -> None:
        def due() -> None:
            self._gap_timers.discard(timer)
            call()

        timer = self._loop.call_later(after, due)
        self._gap_timers.add(timer)

    def _give_up(self, exposed: list[Pending]) -> None:
        for pending in exposed:
            pending.fail(
                NuropbOutcomeUnknownError(
                    "the connection was lost while the request was under way, and no answer came "
                    "after it was back: it may or may not have been handled"
                )
            )

    def fail_all(self, error: NuropbException) -> None:
        """End all requests with this error."""
        for timer in self._gap_timers:
            timer.cancel()
        self._gap_timers.clear()
        self._deadlines.clear()
        for pending in tuple(self._pending.values()):
            pending.fail(error)
