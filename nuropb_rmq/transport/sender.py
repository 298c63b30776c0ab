"""Send messages that nobody has to wait for: confirmations and posted requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..amqp.outgoing import DONE, WAITING, Outgoing, Stage
from ..config.settings import TransportConfig
from ..exceptions import (
    NuropbException,
    NuropbOutcomeUnknownError,
    NuropbTimeoutError,
    NuropbValidationError,
)
from ..protocol import writer
from ..protocol.constants import COMMAND, MAX_SECONDS, REQUEST
from ..protocol.reader import Head
from .deadlines import Deadlines
from .ignorable import Ignorable
from .packer import Outbound, identify
from .pending_requests import OnResponse, Pending, Replies

logger = logging.getLogger("nuropb_rmq.transport")

OnFailure = Callable[["PostedRequest", NuropbException], None]
"""Called with each posted request that gets no response; it must not raise."""


class Confirmation(Ignorable[None]):
    """Done when the broker has confirmed a message, or when it is known that it will not."""

    __slots__ = ("_deadlines", "_timeout", "message")

    what = "a message was not sent, or not delivered, and nobody waited for it"

    message: Outgoing | None
    """Until the outcome is known: a circle that lasts would wait for the garbage collector."""

    def begin(self, deadlines: Deadlines[Confirmation], timeout: float) -> None:
        """The deadline runs. (An __init__ above that of asyncio's future would cost as much.)"""
        self.message = None
        self._deadlines = deadlines
        self._timeout = timeout
        deadlines.add(self, timeout)

    def settle(self, error: NuropbException | None) -> None:
        """The message's outcome is known."""
        self._deadlines.remove(self, self._timeout)
        self.message = None
        if self.done():  # cancelled by whoever waited
            return
        if error is None:
            self.set_result(None)
        else:
            self.set_exception(error)

    def withdraw(self) -> None:
        """It was never sent: there is nothing to tell."""
        self._deadlines.remove(self, self._timeout)
        self.message = None
        self.cancel()

    def late(self, stage: Stage) -> NuropbException:
        """The error of a deadline that passed, of a message at this stage."""
        if stage is WAITING:
            return NuropbTimeoutError(
                f"never sent: the broker took no messages for {self._timeout:g} s"
            )
        return NuropbOutcomeUnknownError(
            f"written, but not confirmed by the broker within {self._timeout:g} s"
        )


_EXPIRING = (COMMAND, REQUEST)
_NUMBERS = (int, float)  # isinstance with `int | float` makes the union anew each time


def seconds(name: str, value: object) -> float:
    """A time in seconds. Raises NuropbValidationError, calling it `name`."""
    return _time(name, value, "seconds", 1)


def grace_period(grace: float) -> float:
    """A grace period in seconds, which may be 0. Raises NuropbValidationError."""
    none = isinstance(grace, int | float) and not isinstance(grace, bool) and grace == 0
    return 0.0 if none else seconds("grace", grace)


def milliseconds(name: str, value: object) -> float:
    """A time in milliseconds, as seconds. Raises NuropbValidationError, calling it `name`."""
    return _time(name, value, "milliseconds", 1000)


def _time(name: str, value: object, unit: str, in_a_second: int) -> float:
    longest = MAX_SECONDS * in_a_second
    if isinstance(value, _NUMBERS) and not isinstance(value, bool):
        if 0 < value <= longest:
            return value / in_a_second
        is_long = isinstance(value, int) and value > 2**64
        told = "a longer one" if is_long else repr(value)  # so many digits have no use, or no end
    else:
        told = repr(value)
    raise NuropbValidationError(
        f"{name}: {told}, a number of {unit} above 0 is needed, at most {longest} (49 days)"
    )


class PostedRequest(Pending):
    """A request whose response, or failure, is told to callbacks: nobody awaits it."""

    __slots__ = ("_confirmation", "_posts", "ends", "payload")

    def __init__(
        self,
        posts: Posts,
        payload: Mapping[str, Any],
        timeout: float,
        confirmation: Confirmation,
    ) -> None:
        super().__init__(payload["correlation_id"], timeout)
        self._posts = posts
        self._confirmation = confirmation
        self.ends = posts.loop.time() + timeout
        """When its time is over, in loop time."""
        self.payload = payload

    def published(self, error: NuropbException | None) -> None:
        """What became of the request's own message."""
        self._confirmation.settle(error)
        if error is not None:
            super().published(error)

    def answer(self, head: Head, payload: dict[str, Any]) -> None:
        """There is a response."""
        self._posts.answered(self, head, payload)

    def fail(self, error: NuropbException) -> None:
        """There will be none."""
        if self.message is not None:  # else it is being posted, and whoever does so is told
            self._posts.failed(self, error)

    def expire(self) -> None:
        """The deadline passed; what was not sent until now is never sent."""
        if self.message is not None and self.message.stage is WAITING:
            self._posts.discard(self.message, self.overdue())
        else:
            super().expire()


class Posts:
    """Sends what nobody has to wait for.

    With `on_failure`, posted requests are followed: it, or `on_response`, is told what became of
    each. Without, a request is like a command.
    """

    def __init__(
        self,
        config: TransportConfig,
        outbound: Outbound,
        replies: Replies,
        on_response: OnResponse | None,
        on_failure: OnFailure | None,
    ) -> None:
        self._config = config
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
        request = None
        on_done = confirmation.settle
        try:
            if kind is REQUEST and self._on_failure is not None and ttl is not None:
                request = self._follow(identified, ttl, confirmation)
                request.encrypted = encrypted
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
            if message.stage is DONE:  # refused as it is: told to whoever called
                confirmation.result()
        except BaseException:
            confirmation.withdraw()
            if request is not None:
                self._replies.close(request)
            raise
        if request is not None:
            request.message = message
        return confirmation

    def abandon(self, confirmation: Confirmation) -> None:
        """Nobody waits for it any more: what was not written is never sent."""
        message = confirmation.message
        if message is not None and message.stage is WAITING:
            self._outbound.discard(message, NuropbTimeoutError("nobody waits for it"))

    def _expire(self, confirmation: Confirmation) -> None:
        message = confirmation.message
        if message is not None:
            self._outbound.discard(message, confirmation.late(message.stage))

    # -- requests ---------------------------------------------------------------------------

    def _follow(
        self, payload: Mapping[str, Any], timeout: float, confirmation: Confirmation
    ) -> PostedRequest:
        """Wait for the response; one that was posted with the same id is forgotten.

        Raises NuropbValidationError when a request() awaits the response with this id.
        """
        before = self._replies.waiting(payload["correlation_id"])
        if before is not None and isinstance(before, PostedRequest):
            self._replies.close(before)
        request = PostedRequest(self, payload, timeout, confirmation)
        self._replies.add(request)
        return request

    def answered(self, request: PostedRequest, head: Head, payload: dict[str, Any]) -> None:
        """The response came."""
        self._end(request)
        if self._on_response is not None:
            self._on_response(head, payload)

    def failed(self, request: PostedRequest, error: NuropbException) -> None:
        """It will not come; or too late."""
        self._end(request)
        if self._on_failure is not None:
            self._on_failure(request, error)

    def _end(self, request: PostedRequest) -> None:
        self._replies.close(request)
        self._replies.remember(request.correlation_id, request.ends)

    def discard(self, message: Outgoing, error: NuropbException) -> None:
        """Settle a message that is not sent any more."""
        self._outbound.discard(message, error)

    def close(self) -> None:
        """No deadline passes any more."""
        self._deadlines.clear()
