"""Messages as handlers get them, and the outcomes and errors that handlers end with."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from ..exceptions import NuropbException
from . import serialization
from .acknowledgement import Outcome
from .constants import MessageType
from .reader import Head
from .remote_errors import MAX_NAME

MAX_DESCRIPTION = 8192
"""Characters of an error's text that its requester is told."""
MAX_ERROR = 65_536
"""Bytes of all that an exception's to_dict() says."""

_MOST_LEAVES = 20
"""Members of an exception group that are told."""


class Delivered(Protocol):
    """The delivery of a message (`transport.delivery.Delivery`)."""

    def complete(self, outcome: Outcome, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Decide its end now; False when that was decided before."""


class Message:
    """A request, command or event, as a handler gets it."""

    __slots__ = ("_head", "delivery", "payload")

    def __init__(self, head: Head, payload: dict[str, Any], delivery: Delivered | None) -> None:
        self._head = head
        self.payload = payload
        # Until it is settled. Not for handlers: complete() is.
        self.delivery = delivery

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
    def correlation_id(self) -> str:
        """The id that its answer carries, too."""
        return self._head.correlation_id

    @property
    def trace_id(self) -> str | None:
        """Shared by all messages of one activity, when there is one."""
        return self._head.trace_id

    @property
    def ttl(self) -> int | None:
        """Its expiration in milliseconds, when it has one."""
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
    """The `error` of a response: the class name and its text, as far as it can be told."""
    try:
        return _told(error)
    except Exception:  # noqa: BLE001 - any class may be raised, and its methods may raise, too
        untold = "its text cannot be told: making it failed"
        return {"error": _name_of(error), "description": untold}


def _told(error: BaseException) -> dict[str, Any]:
    if not isinstance(error, NuropbException):
        return {"error": _name_of(error), "description": _short(_text_of(error))}
    said = error.to_dict()
    name, text = str(said["error"])[:MAX_NAME], _short(str(said["description"]))
    made = {**said, "error": name, "description": text}
    body = serialization.encode(made)
    if len(body) > MAX_ERROR:
        return {key: made[key] for key in ("error", "description")}
    # Whatever else it says is sent as text, strictly encoded or not: nobody is left unanswered.
    return cast(dict[str, Any], json.loads(body))


def _text_of(error: BaseException) -> str:
    """The text of an error, in which its class is named where the text says nothing without."""
    if isinstance(error, BaseExceptionGroup):
        return f"{error.message}: {'; '.join(_leaves(error))}"
    text = str(error)
    if not text:
        return f"{_name_of(error)} without a text"
    # The text of a KeyError is the key and no more.
    return f"KeyError: {text}" if isinstance(error, KeyError) else text


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[str]:
    """The members of a group and of the groups in it, as class and text."""
    leaves: list[str] = []
    groups: list[BaseException] = [group]
    while groups and len(leaves) <= _MOST_LEAVES:
        each = groups.pop()
        if isinstance(each, BaseExceptionGroup):
            groups += reversed(each.exceptions)
        else:
            text = str(each)
            leaves.append(f"{_name_of(each)}: {text}" if text else _name_of(each))
    if len(leaves) > _MOST_LEAVES:
        leaves[_MOST_LEAVES:] = ["…"]
    return leaves


def _name_of(error: BaseException) -> str:
    return type(error).__name__[:MAX_NAME]


def _short(text: str) -> str:
    """A text that an answer has room for."""
    return text if len(text) <= MAX_DESCRIPTION else text[:MAX_DESCRIPTION] + "…"


def context_of(message: Message) -> dict[str, Any]:
    """The context that its answer and its events carry on."""
    return message.payload.get("context") or {}
