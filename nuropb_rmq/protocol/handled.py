"""The message that the running handler handles, and what calls made in the handler inherit of it.

A nested call carries the trace id of the message, and ends when that message's own time is over,
as gRPC's deadlines do. Tasks that a handler starts inherit the same; once the handler has ended,
its deadline does not bind them any more.

Why: docs/decisions/010-deadlines.md
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, Protocol

from ..exceptions import NuropbTimeoutError
from .constants import MessageType

_SHORTEST: Final = 0.01
"""Seconds to which inherited times are rounded: equally long ones share a timer."""


class Handled(Protocol):
    """A message in the hands of a handler."""

    @property
    def trace_id(self) -> str | None:
        """Shared by all messages of one activity."""

    @property
    def correlation_id(self) -> str:
        """Of the message and of its answer."""

    @property
    def sender(self) -> str:
        """The queue that answers go to, as the sender has written it; "" for an event."""

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of the message."""

    @property
    def given_up(self) -> bool:
        """The handler is cancelled by the transport: too late, or the end of the transport."""

    def left(self) -> float | None:
        """Seconds until the sender waits no longer; None: unknown, or the handler has ended."""


class Told(Protocol):
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


_current: ContextVar[Handled | None] = ContextVar("nuropb_rmq_handled", default=None)

current = _current.get
enter = _current.set


def given_up() -> bool:
    """Return whether a handler that was cancelled just now was cancelled by the transport."""
    handled = _current.get()
    return handled is not None and handled.given_up


def bounded(timeout: float) -> float:
    """The timeout of a call made now, in seconds: at most what is left of the handled message.

    Raises NuropbTimeoutError when nothing is left.
    """
    handled = _current.get()
    left = None if handled is None else handled.left()
    if left is None or left >= timeout:
        return timeout
    if left <= 0:
        raise NuropbTimeoutError(
            "not sent: the time of the call in whose handler it was made is over; "
            "inherit_deadline=False sends it all the same"
        )
    return max(round(left, 2), _SHORTEST)


def over(error: NuropbTimeoutError) -> NuropbTimeoutError:
    """The error of a call whose timeout was bounded."""
    return NuropbTimeoutError(
        f"{error}: the request in whose handler it was made has no more time (inherit_deadline)"
    )


def outside() -> Context:
    """A copy of the current context without the handled message: for work that others share."""
    context = copy_context()
    context.run(_current.set, None)
    return context
