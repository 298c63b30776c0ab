"""A dead letter as an operator sees it; read without trusting whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from ..amqp import frames
from ..amqp.frames import Content
from ..exceptions import AMQPProtocolError, EncryptionError, MalformedMessageError
from ..printable import shorten
from ..protocol import serialization
from ..protocol.constants import (
    HEADER_ENCRYPTED,
    HEADER_TRACE_ID,
    HEADER_TYPE,
    KINDS,
    MessageType,
)
from ..protocol.dead_letter import (
    HEADER_ATTEMPTS,
    HEADER_DEAD_LETTER_OF,
    HEADER_ERROR,
    HEADER_ERROR_TEXT,
    HEADER_FAILED_AT,
    HEADER_FAILED_INSTANCE,
    HEADER_FAILED_METHOD,
    HEADER_FAILURE_ID,
    HEADER_FIRST_FAILED_AT,
    HEADER_MESSAGE_ID,
    HEADER_ORIGINAL_EXCHANGE,
    HEADER_ORIGINAL_ROUTING_KEY,
    HEADER_REPLAY_COUNT,
    HEADER_TRACEBACK,
    X_DEATH,
)
from ..protocol.put_back import came_by
from ..protocol.reader import Head

_MAX_DEPTH: Final = 100
_LONGEST_SHAPE: Final = 200
_WITH_DIGITS: Final = re.compile(r"[\w-]*\d[\w-]*")
_FIRST_DEATH: Final = "x-first-death-queue"
_BY_DEFAULT_EXCHANGE: Final = b"\x00\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that a queue gave up.

    What is None is not known: nuropb 0.1.8, and whoever rejects a message at the broker, names no
    error. Texts and payload are a peer's: do not believe them, and do not show them unescaped.
    """

    own: bool
    """True when the service's queue gave it up; False when another service's did, or nobody
    knows."""
    reason: str
    """Why: "rejected", "expired", "maxlen" or "delivery_limit"; "" when the broker did not say."""
    queue: str | None
    """The queue that gave it up last."""
    type: MessageType | None
    correlation_id: str
    message_id: str
    """The id that its sender gave the message; "" when there is none."""
    trace_id: str | None
    failure_id: str | None
    """Id of the failure; two letters of one failure have the same."""
    failed_at: datetime | None
    """In UTC; by the clock of the service, or of the broker."""
    first_failed_at: datetime | None
    """The first attempt's, in UTC; of a message that came back by a Retry."""
    error: str | None
    """Name of the exception's class."""
    error_text: str | None = field(repr=False)
    traceback: str | None = field(repr=False)
    attempts: int | None
    """Number of times that it was handled."""
    instance: str | None
    """The instance of the service that failed last."""
    exchange: str
    """The exchange that it first came by; "" when that is not known."""
    routing_key: str
    replay_count: int
    """Number of times that it was replayed, as its headers say."""
    encrypted: bool
    problem: str | None
    """The part of its properties and headers that cannot be read; None: all can be."""
    headers: Mapping[str, Any] = field(repr=False)
    body_size: int
    """Bytes of the body."""
    body: bytes = field(repr=False)
    """The body as it came; empty when it is larger than max_body_bytes."""
    failed_method: str | None = field(repr=False)
    """Method or topic as the service told it; never of an encrypted message."""

    @property
    def method(self) -> str | None:
        """The method that a request or command calls; None when it cannot be read."""
        return None if self.type is MessageType.EVENT else self._named("method")

    @property
    def topic(self) -> str | None:
        """The topic of an event; None when it cannot be read."""
        return self._named("topic") if self.type is MessageType.EVENT else None

    @property
    def is_whole(self) -> bool:
        """True when the body is here, and not only its size."""
        return len(self.body) == self.body_size

    @property
    def shape(self) -> str | None:
        """The error's text, shortened, with # for what has digits in it: numbers, dates, ids."""
        if self.error_text is None:
            return None
        return _WITH_DIGITS.sub("#", shorten(self.error_text, _LONGEST_SHAPE))

    def payload(self) -> dict[str, Any]:
        """Decode the body, which is done for each call.

        Raises EncryptionError for an encrypted one, and MalformedMessageError when it is no JSON
        object, or was too large to be kept.
        """
        if self.encrypted:
            raise EncryptionError("the body is encrypted, and only its service can read it")
        if not self.is_whole:
            raise MalformedMessageError(
                f"the body of {self.body_size} bytes is larger than max_body_bytes"
            )
        payload = serialization.decode(self.body, max_depth=_MAX_DEPTH)
        if not isinstance(payload, dict):
            raise MalformedMessageError(f"the body is {type(payload).__name__}, not an object")
        return payload

    def _named(self, field: str) -> str | None:
        if self.failed_method is not None:
            return self.failed_method
        try:
            value = self.payload().get(field)
        except (EncryptionError, MalformedMessageError):
            return None
        return value if isinstance(value, str) else None


def read_letter(content: Content, service_queue: str) -> DeadLetter:
    """Read a message of a dead-letter queue, for the service with this queue. Never raises.

    It is the service's own when its queue gave it up last, or when the service published it as a
    copy. What the headers tell of a failure is believed of a copy alone, for of others the sender
    may have written it: what the broker gave up itself has x-first-death-queue.
    """
    problem = None
    properties = frames.Properties()
    headers: dict[str, Any] = {}
    try:
        properties = frames.decode_properties(content.raw_properties)
        headers = frames.decode_table(properties.headers or b"")
    except AMQPProtocolError as e:
        problem = str(e)
    death = _latest_death(headers)
    queue, copy_of = _text(death, "queue"), headers.get(HEADER_DEAD_LETTER_OF)
    is_copy = _FIRST_DEATH not in headers and copy_of == service_queue
    is_copy = is_copy and queue in (None, service_queue)
    told = headers if is_copy else {}
    kind = headers.get(HEADER_TYPE)
    exchange, routing_key = _origin(content, told)
    return DeadLetter(
        own=is_copy or queue == service_queue,
        reason=_text(death, "reason") or ("rejected" if is_copy else ""),
        queue=queue or (service_queue if is_copy else None),
        type=KINDS.get(kind) if isinstance(kind, str) else None,
        correlation_id=properties.correlation_id or "",
        message_id=_text(told, HEADER_MESSAGE_ID) or properties.message_id or "",
        trace_id=_text(headers, HEADER_TRACE_ID),
        failure_id=_text(told, HEADER_FAILURE_ID),
        failed_at=_time(told.get(HEADER_FAILED_AT)) or _time(death.get("time")),
        first_failed_at=_time(told.get(HEADER_FIRST_FAILED_AT)),
        error=_text(told, HEADER_ERROR),
        error_text=_text(told, HEADER_ERROR_TEXT),
        traceback=_text(told, HEADER_TRACEBACK),
        attempts=_number(told.get(HEADER_ATTEMPTS)),
        instance=_text(told, HEADER_FAILED_INSTANCE),
        exchange=exchange,
        routing_key=routing_key,
        replay_count=_number(headers.get(HEADER_REPLAY_COUNT)) or 0,
        encrypted=headers.get(HEADER_ENCRYPTED) == "yes" and kind != MessageType.EVENT.value,
        problem=problem,
        headers=headers,
        body_size=content.body_size,
        body=content.body,
        failed_method=_text(told, HEADER_FAILED_METHOD),
    )


def _latest_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    match headers.get(X_DEATH):
        case [dict() as death, *_]:
            return death
    return {}


def _origin(content: Content, told: Mapping[str, Any]) -> tuple[str, str]:
    """Return exchange and routing key that it was first published with; "" and "": unknown."""
    match told.get(HEADER_ORIGINAL_EXCHANGE), told.get(HEADER_ORIGINAL_ROUTING_KEY):
        case str(exchange), str(routing_key) if exchange:
            return exchange, routing_key
    # As of a message that was put back: the broker's x-death, then what a call-again wrote.
    exchange, routing_key = came_by(Head(replace(content, route=_BY_DEFAULT_EXCHANGE)))
    return (exchange, routing_key) if exchange else ("", "")


def _text(headers: Mapping[str, Any], name: str) -> str | None:
    value = headers.get(name)
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _time(value: object) -> datetime | None:
    """Return a time in UTC; one without a zone is taken as UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC)
    except OverflowError:
        return None
