"""Messages for handlers, and the outcomes and errors that handlers end with."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from ..exceptions import NuropbException
from ..printable import shorten
from . import serialization
from .acknowledgement import Outcome
from .constants import MessageType
from .handled import named_in
from .reader import Head
from .remote_errors import MAX_NAME, base_of

MAX_DESCRIPTION = 8192
"""Characters of an error's text in a response."""
MAX_ERROR = 65_536
"""Bytes of an exception's to_dict() in a response."""

_MOST_LEAVES = 20
"""Members of an exception group that a text lists."""


class Delivered(Protocol):
    """The delivery of a message (`transport.delivery.Delivery`)."""

    @property
    def head(self) -> Head:
        """Its properties and headers."""

    @property
    def error(self) -> BaseException | None:
        """Why it has failed; None while it has not."""

    def complete(self, outcome: Outcome, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Decide its end now; return False when that was decided before."""


class Message:
    """A request, command or event, for its handler."""

    __slots__ = ("_head", "delivery", "payload")

    def __init__(self, head: Head, payload: dict[str, Any], delivery: Delivered | None) -> None:
        self._head = head
        self.payload: dict[str, Any] = payload
        # None once it is settled. Handlers use complete() instead.
        self.delivery: Delivered | None = delivery

    def complete(self, outcome: Outcome, messages: Sequence[Mapping[str, Any]] = ()) -> bool:
        """End the message now, while its handler goes on; the handler's result is then ignored.

        For handlers that work on after the sender has its answer, and for frameworks with their
        own callbacks; other handlers return their result. `messages` are payloads of responses and
        events, published and confirmed before the message is settled. If one cannot be sent, that
        is logged, and the message goes to the dead letters. Returns False when the message has
        ended already: its handler was too late, or completed it before. The handler still counts
        for prefetch_count until it ends, and handler_timeout still ends it.

        Raises NuropbTransportError when it is called outside of the event loop's thread.
        """
        return self.delivery is not None and self.delivery.complete(outcome, messages)

    @property
    def kind(self) -> MessageType:
        """A request, a command or an event."""
        return self._head.kind

    @property
    def attempts(self) -> int:
        """Number of times that it has been handled, this one included; see RetryLater.

        Redeliveries after a lost connection or a killed process are not counted.
        """
        return self._head.attempts + 1

    @property
    def correlation_id(self) -> str:
        """Id that its answer carries, too."""
        return self._head.correlation_id

    @property
    def trace_id(self) -> str | None:
        """Id that all messages of one activity share, if it has one."""
        return self._head.trace_id

    @property
    def ttl(self) -> int | None:
        """Expiration in milliseconds, if it has one."""
        return self._head.ttl

    @property
    def encrypted(self) -> bool:
        """True when it came encrypted."""
        return self._head.encrypted

    @property
    def call_again_count(self) -> int:
        """Number of times that it has been called again."""
        return self._head.call_again_count

    @property
    def redelivered(self) -> bool:
        """True when the broker has delivered it before, here or to another instance."""
        return self._head.content.redelivered

    @property
    def headers(self) -> dict[str, Any]:
        """All its headers, including those that the protocol does not know."""
        return self._head.headers

    def log_fields(self) -> dict[str, object]:
        """Return what log records say of it; for the library itself."""
        named = named_in(self.payload, encrypted=self._head.encrypted)
        return {**self._head.log_fields(), **named}

    def __repr__(self) -> str:
        return f"<Message {self.kind.value} {self.correlation_id}>"  # a payload may be secret


Handler = Callable[[Message], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Completion:
    """A handler's result that sets the outcome and the messages to publish.

    `messages` are payloads of responses and events; they are published, and confirmed, before
    the message is settled. A plain return value stands for Completion(DONE, [its response]).
    """

    outcome: Outcome
    messages: Sequence[Mapping[str, Any]] = field(default=(), repr=False)


def describe(error: BaseException) -> dict[str, Any]:
    """Return the `error` of a response: class name and text, and the fields of its to_dict()."""
    try:
        return _described(error)
    except Exception:  # noqa: BLE001 - any class may be raised, and its methods may raise, too
        return {"error": _name_of(error), "description": "no text: its str() or to_dict() failed"}


def _described(error: BaseException) -> dict[str, Any]:
    if not isinstance(error, NuropbException):
        text = shorten(_text_of(error), MAX_DESCRIPTION)
        return {"error": _name_of(error), "description": text}
    fields = error.to_dict()
    text = shorten(str(fields["description"]), MAX_DESCRIPTION)
    told = {"error": str(fields["error"])[:MAX_NAME], "description": text}
    base = base_of(error)
    if base not in {None, told["error"]}:
        told["base"] = base
    fields = {**fields, **told}
    body = serialization.encode(fields)
    if len(body) > MAX_ERROR:
        return told
    # Values that JSON lacks are sent as text, even by a strict encoder: every request is answered.
    return cast(dict[str, Any], json.loads(body))


def _text_of(error: BaseException) -> str:
    """Return the text of an error; of one without a text, the name of its class."""
    if isinstance(error, BaseExceptionGroup):
        return f"{error.message}: {'; '.join(_leaves(error))}"
    text = str(error)
    if not text:
        return f"{_name_of(error)} without a text"
    return text


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[str]:
    """Return class and text of each error in a group, and in the groups within."""
    leaves: list[str] = []
    groups: list[BaseException] = [group]
    while groups and len(leaves) <= _MOST_LEAVES:
        error = groups.pop()
        if isinstance(error, BaseExceptionGroup):
            groups += reversed(error.exceptions)
        else:
            text = str(error)
            leaves.append(f"{_name_of(error)}: {text}" if text else _name_of(error))
    if len(leaves) > _MOST_LEAVES:
        leaves[_MOST_LEAVES:] = ["…"]
    return leaves


def _name_of(error: BaseException) -> str:
    return type(error).__name__[:MAX_NAME]


def context_of(message: Message) -> dict[str, Any]:
    """Return the context for the answer to a message and for its events."""
    return message.payload.get("context") or {}
