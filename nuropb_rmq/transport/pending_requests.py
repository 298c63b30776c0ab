"""Correlation id → the request that waits for its response, with a deadline."""

from __future__ import annotations

import asyncio
import logging
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
    NuropbOutcomeUnknownError,
    NuropbTimeoutError,
    NuropbValidationError,
    PendingFullError,
)
from ..protocol.bounded import Bounded
from ..protocol.constants import RESPONSE
from ..protocol.reader import Head
from ..protocol.writer import read_payload
from .deadlines import Deadlines
from .sealing import Sealing, whole_body

logger = logging.getLogger("nuropb_rmq.transport")

ENDED_REMEMBERED = 10_000
"""Posted requests of which further responses are handed on; the oldest are forgotten."""

OnResponse = Callable[[Head, dict[str, Any]], None]
"""Told of each response to a posted request; it must not raise."""


class Pending(ABC):
    """One request that waits for its response; subclasses know who is told."""

    __slots__ = ("correlation_id", "encrypted", "exposed", "message", "timeout")

    def __init__(self, correlation_id: str, timeout: float) -> None:
        self.correlation_id = correlation_id
        self.timeout = timeout
        self.encrypted = False
        self.exposed = False
        """Its answer may have fallen into a gap: the response queue was away, or the confirm."""
        self.message: Outgoing | None = None

    def published(self, error: NuropbException | None) -> None:
        """Note the outcome of publishing the request; a lost confirm does not end the waiting."""
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
        """The deadline passed."""
        self.fail(self.overdue())

    def overdue(self) -> NuropbTimeoutError:
        """The error of a deadline that passed."""
        sent = self.message is not None and self.message.stage is not WAITING
        what = "no response" if sent else "not sent, for the broker could not be reached"
        return NuropbTimeoutError(f"{what} within {self.timeout:g} s")


class Awaited(Pending):
    """A request whose response somebody awaits."""

    __slots__ = ("future",)

    future: asyncio.Future[dict[str, Any]]

    def answer(self, _: Head, payload: dict[str, Any]) -> None:
        """End the waiting with the response."""
        if not self.future.done():
            self.future.set_result(payload)

    def fail(self, error: NuropbException) -> None:
        """End the waiting with an error."""
        if not self.future.done():
            self.future.set_exception(error)


class Replies:
    """The table of pending requests, and the receiver of the response queue.

    A response resolves only a request of this table, and only if it is a response; nothing else
    that arrives on the response queue is executed. A further one, to a request that was told of,
    goes to `on_response` until that request's time is over. All else is dropped before it is
    opened, for anybody may send it. `dropped` counts what was not used, by reason.
    """

    def __init__(
        self, sealing: Sealing, config: TransportConfig, *, on_response: OnResponse | None = None
    ) -> None:
        self._sealing = sealing
        self._max_depth = config.max_json_depth
        self._max_pending = config.max_pending
        self._on_response = on_response
        self._loop = asyncio.get_running_loop()
        self._pending: dict[str, Pending] = {}
        self._deadlines = Deadlines[Pending](Pending.expire)
        self._ended: Bounded[str, float] = Bounded(ENDED_REMEMBERED)
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

        Raises NuropbValidationError when one with this id waits already, PendingFullError when as
        many wait as may.
        """
        correlation_id = pending.correlation_id
        if len(self._pending) >= self._max_pending:
            raise PendingFullError(
                f"{len(self._pending)} requests wait for their answers (max_pending): call less "
                "at a time, or with shorter timeouts"
            )
        if correlation_id in self._pending:
            raise NuropbValidationError(
                f"payload field 'correlation_id': a request with {correlation_id!r} waits already"
            )
        self._deadlines.add(pending, pending.timeout)
        self._pending[correlation_id] = pending

    def waiting(self, correlation_id: str) -> Pending | None:
        """The request with this id, while it waits."""
        return self._pending.get(correlation_id)

    def close(self, pending: Pending) -> None:
        """Forget a request, whatever came of it."""
        if self._pending.get(pending.correlation_id) is pending:
            del self._pending[pending.correlation_id]
        self._deadlines.remove(pending, pending.timeout)
        pending.message = None  # whose on_done is the pending's: a circle, else
        if pending.encrypted:
            self._sealing.forget_sent(pending.correlation_id)

    def remember(self, correlation_id: str, until: float) -> None:
        """Hand on what else answers a request that has ended, until then, in loop time."""
        self._ended.put(correlation_id, until)

    def _told(self, correlation_id: str) -> bool:
        return self._ended.get(correlation_id, 0.0) > self._loop.time()

    # -- responses --------------------------------------------------------------------------

    def take_again(self, _: object, __: object) -> bool:
        """Responses count as settled when they are sent: none is delivered again."""
        return False

    def receive(self, _: object, content: Content) -> None:
        """A message of the response queue."""
        head = Head(content)
        if head.problem is not None:
            self._drop("malformed", head.problem)
        elif head.kind is not RESPONSE:
            self._drop("not a response", f"a {head.kind.value} on the response queue")
        else:
            pending = self._pending.pop(head.correlation_id, None)
            if pending is not None:
                self._resolve(pending, head)
            elif self._on_response is not None and self._told(head.correlation_id):
                self._hand_over(head, self._on_response)
            else:
                self._drop("unclaimed", f"nobody waits for {head.correlation_id}")

    def _resolve(self, pending: Pending, head: Head) -> None:
        try:
            if pending.encrypted and not head.encrypted:
                raise EncryptionError("an encrypted request was answered in plain text: refused")
            payload = self._read(head)
        except (MalformedMessageError, EncryptionError) as e:
            pending.fail(e)
        else:
            pending.answer(head, payload)

    def _hand_over(self, head: Head, on_response: OnResponse) -> None:
        try:
            payload = self._read(head)
        except (MalformedMessageError, EncryptionError) as e:
            self._drop("unclaimed, and cannot be read", e)
        else:
            on_response(head, payload)

    def _read(self, head: Head) -> dict[str, Any]:
        body = whole_body(head.content)
        if head.encrypted:
            body = self._sealing.unseal_response(body, head.correlation_id)
        return read_payload(head, body, max_depth=self._max_depth, decrypted=head.encrypted)

    def _drop(self, reason: str, detail: object) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        logger.debug("dropped a message of the response queue: %s: %s", reason, detail)

    # -- losses -----------------------------------------------------------------------------

    def expose(self) -> None:
        """The response queue is away: the answer to what was sent may be lost."""
        for pending in self._pending.values():
            if pending.message is not None and pending.message.stage is not WAITING:
                pending.exposed = True

    def redirect(self, old: str, new: str) -> None:
        """The response queue has another name: requests that were not sent yet are to say so."""
        names = frames.shortstr(old), frames.shortstr(new)
        for pending in self._pending.values():
            if pending.message is not None and pending.message.stage is WAITING:
                pending.message.redirect(*names)

    def recovered(self, after: float) -> None:
        """All is up again: give up on exposed requests in `after` seconds."""
        exposed = [each for each in self._pending.values() if each.exposed]
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
        """Release every waiter."""
        for timer in self._gap_timers:
            timer.cancel()
        self._gap_timers.clear()
        self._deadlines.clear()
        for pending in tuple(self._pending.values()):
            pending.fail(error)
