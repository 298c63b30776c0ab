"""The message that is being handled: the calls of its handler inherit trace id and deadline.

A nested call carries the trace id of the message and ends at the message's deadline, as in gRPC.
Tasks that a handler starts inherit both; once the handler has ended, its deadline does not bind
them any more.

Why: docs/decisions/010-deadlines.md
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, Protocol

from ..exceptions import NuropbNotSentError, NuropbTimeoutError
from .constants import MessageType

_SHORTEST: Final = 0.01
"""Seconds; inherited timeouts are rounded to this, so that equal ones share a timer."""


class Handled(Protocol):
    """A message in the hands of a handler."""

    @property
    def trace_id(self) -> str | None:
        """Id that all messages of one activity share."""

    @property
    def correlation_id(self) -> str:
        """Correlation id of the message and of its answer."""

    @property
    def sender(self) -> str:
        """Queue for answers (reply_to), as the sender wrote it; "" for an event."""

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of the message."""

    @property
    def given_up(self) -> bool:
        """True when the transport cancels the handler: it is too late, or the transport stops."""

    def left(self) -> float | None:
        """Return seconds until the sender gives up; None: unknown, or the handler has ended."""


class IncomingMessage(Protocol):
    """The part of a message that `Serving` uses: a `Message`, or RMQAPI's `_Received`."""

    @property
    def kind(self) -> MessageType: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...
    @property
    def correlation_id(self) -> str: ...
    @property
    def trace_id(self) -> str | None: ...
    @property
    def encrypted(self) -> bool: ...
    @property
    def attempts(self) -> int: ...


def named_in(payload: Mapping[str, Any], *, encrypted: bool) -> dict[str, object]:
    """Return method or topic for a log record; nothing of a message that came encrypted."""
    names = () if encrypted else ("method", "topic")
    return {name: payload[name] for name in names if isinstance(payload.get(name), str)}


_current: ContextVar[Handled | None] = ContextVar("nuropb_rmq_handled", default=None)

current = _current.get
enter = _current.set


def given_up() -> bool:
    """Return whether a handler that was cancelled just now was cancelled by the transport."""
    handled = _current.get()
    return handled is not None and handled.given_up


def bounded(timeout: float) -> float:
    """Return the timeout of a call made now, in seconds: at most the time the handled message has.

    Raises NuropbNotSentError when it has none left.
    """
    handled = _current.get()
    left = None if handled is None else handled.left()
    if left is None or left >= timeout:
        return timeout
    if left <= 0:
        raise NuropbNotSentError(
            "not sent: the deadline of the call being handled has passed; "
            "inherit_deadline=False sends it all the same"
        )
    return max(round(left, 2), _SHORTEST)


def over(error: NuropbTimeoutError) -> NuropbTimeoutError:
    """Return the error of a call whose timeout was bounded."""
    return type(error)(
        f"{error}: the deadline of the request being handled has passed (inherit_deadline)"
    )


def outside() -> Context:
    """Return a copy of the current context without the handled message, for shared work."""
    context = copy_context()
    context.run(_current.set, None)
    return context
