"""A message on its way out, and a request at its caller, while they are observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..amqp import frames
from ..amqp.outgoing import Outgoing
from ..protocol.constants import HEADER_TRACEPARENT
from ..protocol.reader import Head
from ..protocol.shape import TRACEPARENT_ENTRY, TRACEPARENT_SIZE
from .sent_message import SentMessage
from .tracing import CallSpan, PublishSpan


def entries(headers: Mapping[str, str]) -> bytes:
    """Pack headers as entries of a header table."""
    if len(headers) == 1 and (only := headers.get(HEADER_TRACEPARENT)) is not None:
        packed = only.encode()
        if len(packed) == TRACEPARENT_SIZE:  # in a fifth of the time
            return TRACEPARENT_ENTRY + packed
    return b"".join(frames.table_entry(name, value) for name, value in headers.items())


RequestEnded = Callable[[SentMessage, str | None], None]


def error_name(response: Mapping[str, Any]) -> str | None:
    """Return the class name of the error in a response; None: it has a result."""
    error = response.get("error")
    return None if error is None else str(error.get("error") or "NuropbRemoteError")


class Sending:
    """A message on its way out, and its span."""

    __slots__ = ("_span", "message")

    def __init__(self, message: SentMessage, span: PublishSpan | None) -> None:
        self.message = message
        self._span = span

    @property
    def headers(self) -> bytes:
        """Header table entries for the message."""
        return b"" if self._span is None else entries(self._span.headers)

    def end(self, error: BaseException | None) -> None:
        """End its span; only the first call counts."""
        span, self._span = self._span, None
        if span is not None:
            span.end(error)


class ObservedCall:
    """A request at its caller, and its span, which is current until it is published."""

    __slots__ = ("_ended", "_entered", "_message", "_span")

    def __init__(self, ended: RequestEnded, span: CallSpan | None) -> None:
        self._ended = ended
        self._span = span
        self._message: SentMessage | None = None
        self._entered = span is not None
        if span is not None:
            span.enter()

    def published(self, message: Outgoing) -> None:
        """Note its message, which has been packed and published within the span."""
        self._leave()
        if isinstance(message.about, Sending):
            self._message = message.about.message

    def _leave(self) -> None:
        if self._entered and self._span is not None:
            self._span.leave()
        self._entered = False

    def answered(self, head: Head | None, response: Mapping[str, Any]) -> None:
        """End it with its response."""
        name = error_name(response)
        span, self._span = self._span, None
        if span is not None and head is not None:
            span.answered(head, name)
        self._end(name)

    def failed(self, error: BaseException) -> None:
        """End it without a response."""
        self._leave()  # it may not have been published
        span, self._span = self._span, None
        if span is not None:
            span.failed(error)
        self._end(type(error).__name__)

    def _end(self, error: str | None) -> None:
        message, self._message = self._message, None
        if message is not None:
            self._ended(message, error)
