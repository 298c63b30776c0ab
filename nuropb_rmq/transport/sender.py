"""Send payloads with a confirmation, and requests whose responses are awaited or handed over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, cast

from ..amqp.outgoing import DONE, WAITING, Outgoing
from ..config.settings import TransportConfig
from ..config.times import seconds
from ..exceptions import (
    NuropbException,
    NuropbNotSentError,
    NuropbOutcomeUnknownError,
    NuropbTimeoutError,
    NuropbValidationError,
)
from ..protocol import handled, writer
from ..protocol.constants import COMMAND, REQUEST, ResponsePayloadDict
from ..protocol.reader import Head
from .deadlines import Deadlines
from .ignorable import Ignorable
from .observed import ObservedCall, error_name
from .observer import Observers
from .packer import Outbound, identify
from .pending_requests import OnResponse, Pending, Replies

logger = logging.getLogger("nuropb_rmq.transport")

OnFailure = Callable[["PostedRequest", NuropbException], None]
"""Called with each posted request that gets no response; must not raise."""


class Confirmation(Ignorable[None]):
    """Future of one message: done when the broker has confirmed it, or with an error."""

    __slots__ = ("_deadlines", "_timeout", "message")

    failure = "a message was not sent, or not delivered, and nobody waited for it"

    message: Outgoing | None
    """Set until the outcome is known; kept longer, it would be a reference cycle."""

    def begin(self, deadlines: Deadlines[Confirmation], timeout: float) -> None:
        """Start the deadline. (This is no __init__, for speed.)"""
        self.message = None
        self._deadlines = deadlines
        self._timeout = timeout
        deadlines.add(self, timeout)

    def settle(self, error: NuropbException | None) -> None:
        """Set the outcome of the message."""
        self._deadlines.remove(self, self._timeout)
        self.message = None
        if self.done():  # its waiter was cancelled
            return
        if error is None:
            self.set_result(None)
        else:
            self.set_exception(error)

    def withdraw(self) -> None:
        """Cancel it: its message was not sent, and the caller gets the error."""
        self._deadlines.remove(self, self._timeout)
        self.message = None
        self.cancel()

    def late(self, message: Outgoing) -> NuropbException:
        """Return the error for its message, whose deadline has passed."""
        if message.stage is WAITING:
            return message.late(f"the broker took no messages for {self._timeout:g} s")
        return NuropbOutcomeUnknownError(
            f"written, but not confirmed by the broker within {self._timeout:g} s"
        )


_EXPIRING = (COMMAND, REQUEST)
_UNWANTED = "nobody waits for it"


class PostedRequest(Pending):
    """A request whose response or failure goes to callbacks."""

    __slots__ = ("_confirmation", "_sender", "ends", "observed", "payload", "posted_at")

    def __init__(
        self,
        sender: Sender,
        payload: Mapping[str, Any],
        timeout: float,
        confirmation: Confirmation,
    ) -> None:
        super().__init__(payload["correlation_id"], timeout)
        self._sender = sender
        self._confirmation = confirmation
        self.observed: ObservedCall | None = None
        self.ends = sender.loop.time() + timeout
        """Loop time of its timeout."""
        self.payload = payload
        self.posted_at = monotonic()

    def published(self, error: NuropbException | None) -> None:
        """Settle the confirmation of the request's own message."""
        self._confirmation.settle(error)
        if error is not None:
            super().published(error)

    def answer(self, head: Head, payload: dict[str, Any]) -> None:
        """Hand over the response."""
        self._sender.answered(self, head, payload)

    def fail(self, error: NuropbException) -> None:
        """Hand over the error."""
        if self.message is not None:  # else post() is running, and raises it
            self._sender.failed(self, error)

    def expire(self) -> None:
        """End the request at its deadline; a message that still waits is never sent."""
        if self.message is not None and self.message.stage is WAITING:
            self._sender.discard(self.message, self.overdue())
        else:
            super().expire()


class Sender:
    """Sender of payloads, with their deadlines.

    With `on_failure`, a posted request is followed up: `on_response` gets its response, or
    `on_failure` its error. Without it nobody learns the outcome.
    """

    def __init__(
        self,
        config: TransportConfig,
        outbound: Outbound,
        replies: Replies,
        *,
        on_response: OnResponse | None,
        on_failure: OnFailure | None,
        observers: Observers,
    ) -> None:
        self._config = config
        self._observers = observers
        self._outbound = outbound
        self._replies = replies
        self._on_response = on_response
        self._on_failure = on_failure
        self.loop = asyncio.get_running_loop()
        self._deadlines = Deadlines[Confirmation](self._expire)

    def post(
        self,
        payload: Mapping[str, Any],
        *,
        ttl: float | None = None,
        priority: int | None = None,
        encoding: str = "json",
        encrypted: bool = False,
        timeout: float | None = None,
    ) -> Confirmation:
        """Send a payload. See Transport.post."""
        kind = writer.check_outgoing(payload, encoding)
        if ttl is not None:
            ttl = seconds("ttl", ttl)
        elif kind in _EXPIRING:
            ttl = self._config.default_ttl
        timeout = self._config.publish_timeout if timeout is None else seconds("timeout", timeout)
        identified = identify(payload)
        confirmation = Confirmation(loop=self.loop)
        confirmation.begin(self._deadlines, timeout)
        request = observed = None
        on_done = confirmation.settle
        try:
            if kind is REQUEST and self._on_failure is not None and ttl is not None:
                request = self._follow(identified, ttl, confirmation)
                request.encrypted = encrypted
                if self._observers.active:
                    observed = self._observers.call(identified, encrypted=encrypted)
                    request.observed = observed
                on_done = request.published
            message = confirmation.message = self._outbound.pack(
                identified,
                kind=kind,
                ttl=ttl,
                priority=priority,
                encrypted=encrypted,
                awaited=request is not None,
            )
            publish = self._outbound.request if kind is REQUEST else self._outbound.publish
            publish(message, on_done)
            if observed is not None:
                observed.published(message)
            if message.stage is DONE:  # refused at once: raise it here
                confirmation.result()
        except BaseException as e:
            confirmation.withdraw()
            if request is not None:
                self._replies.close(request)
            if observed is not None:
                observed.failed(e)
            raise
        if request is not None:
            request.message = message
        return confirmation

    def abandon(self, confirmation: Confirmation) -> None:
        """Discard a message whose sender waits no longer, if it was not written yet."""
        message = confirmation.message
        if message is not None and message.stage is WAITING:
            self._outbound.discard(message, NuropbNotSentError(_UNWANTED))

    def _expire(self, confirmation: Confirmation) -> None:
        message = confirmation.message
        if message is not None:
            self._outbound.discard(message, confirmation.late(message))

    # -- requests ---------------------------------------------------------------------------

    async def request(
        self,
        payload: Mapping[str, Any],
        *,
        timeout: float | None = None,
        priority: int | None = None,
        encrypted: bool = False,
    ) -> ResponsePayloadDict:
        """Send a request and wait for its response. See Transport.request."""
        if writer.check_outgoing(payload) is not REQUEST:
            raise NuropbValidationError(
                f"payload field 'tag': expected 'request', got {payload['tag']!r}; use send()"
            )
        timeout = self._config.request_timeout if timeout is None else seconds("timeout", timeout)
        wanted = timeout
        if handled.current() is not None and self._config.inherit_deadline:
            timeout = handled.bounded(timeout)
        identified = identify(payload)
        pending = self._replies.open(identified["correlation_id"], timeout)
        pending.encrypted = encrypted
        observed = None
        if self._observers.active:
            observed = self._observers.call(identified, encrypted=encrypted)
        try:
            message = pending.message = self._outbound.pack(
                identified,
                kind=REQUEST,
                ttl=timeout,
                priority=priority,
                encrypted=encrypted,
                awaited=True,
            )
            self._outbound.request(message, pending.published)
            if observed is not None:
                observed.published(message)
            try:
                response = cast(ResponsePayloadDict, await pending.future)
            except NuropbTimeoutError as e:
                raise e if timeout == wanted else handled.over(e) from None
            finally:
                if message.stage is WAITING:
                    self._outbound.discard(message, NuropbNotSentError(_UNWANTED))
        except BaseException as e:
            self._failed(pending, observed, identified, e)
            raise
        else:
            if observed is not None:
                observed.answered(pending.head, response)
            recording = self._observers.recording
            if recording is not None and message.posted_at:  # as _record(), without a call
                error = error_name(response) if response.get("error") else None
                recording.request_ended(identified, error, message.posted_at)
            return response
        finally:
            self._replies.close(pending)

    def _failed(
        self,
        pending: Pending,
        observed: ObservedCall | None,
        payload: Mapping[str, Any],
        error: BaseException,
    ) -> None:
        if observed is not None:
            observed.failed(error)
        if pending.message is not None:
            self._record(payload, type(error).__name__, pending.message.posted_at)

    def _record(self, payload: Mapping[str, Any], error: str | None, posted_at: float) -> None:
        if self._observers.recording is not None and posted_at:
            self._observers.recording.request_ended(payload, error, posted_at)

    def _follow(
        self, payload: Mapping[str, Any], timeout: float, confirmation: Confirmation
    ) -> PostedRequest:
        """Register a posted request; an earlier one with the same id is forgotten.

        Raises NuropbValidationError when a request() with this id waits, and PendingFullError.
        """
        before = self._replies.waiting(payload["correlation_id"])
        if before is not None and isinstance(before, PostedRequest):
            self._replies.close(before)
            if before.observed is not None:
                before.observed.failed(NuropbOutcomeUnknownError("posted again, with the same id"))
        request = PostedRequest(self, payload, timeout, confirmation)
        self._replies.add(request)
        return request

    def answered(self, request: PostedRequest, head: Head, payload: dict[str, Any]) -> None:
        """End a posted request with its response."""
        self._end(request)
        if request.observed is not None:
            request.observed.answered(head, payload)
        self._record(request.payload, error_name(payload), request.posted_at)
        if self._on_response is not None:
            self._on_response(head, payload)

    def failed(self, request: PostedRequest, error: NuropbException) -> None:
        """End a posted request with an error."""
        self._end(request)
        if request.observed is not None:
            request.observed.failed(error)
        self._record(request.payload, type(error).__name__, request.posted_at)
        if self._on_failure is not None:
            self._on_failure(request, error)

    def _end(self, request: PostedRequest) -> None:
        self._replies.close(request)
        self._replies.remember(request.correlation_id, request.ends)

    def discard(self, message: Outgoing, error: NuropbException) -> None:
        """Settle a message with an error; see Publisher.discard."""
        self._outbound.discard(message, error)

    def close(self) -> None:
        """Cancel all deadlines."""
        self._deadlines.clear()
