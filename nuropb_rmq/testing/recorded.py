"""Messages as a broker in memory has seen them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..memory.message import Stored

__all__ = ["RecordedMessage"]


@dataclass(frozen=True, slots=True, eq=False)
class RecordedMessage:
    """A message that the broker has taken, or one that a queue has given up (a dead letter).

    Of an encrypted message only this can be read: kind, service, ids, headers, encrypted=True.
    """

    kind: str
    """One of "request", "command", "event", "response"; "" when the headers name none."""
    service: str | None
    """The service that is called; None for events and responses."""
    method: str | None
    topic: str | None
    """The topic of an event."""
    payload: dict[str, Any] = field(repr=False)
    """The whole payload; {} when it is encrypted, or no JSON object."""
    encrypted: bool
    trace_id: str | None
    correlation_id: str
    exchange: str = field(repr=False)
    routing_key: str = field(repr=False)
    headers: dict[str, Any] = field(repr=False)
    queue: str | None
    """The queue that gave it up, if this is a dead letter."""
    reason: str | None
    """Why it did: "rejected" (its handler failed), "expired", "maxlen" or "delivery_limit"."""
    number: int = field(repr=False)
    """Its place among all messages of the broker."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of a request or command."""
        return self.payload.get("params") or {}

    @property
    def event(self) -> Any:
        """The body of an event."""
        return self.payload.get("event")

    @property
    def context(self) -> dict[str, Any]:
        """The context of its sender."""
        return self.payload.get("context") or {}

    @property
    def result(self) -> Any:
        """The result in a response."""
        return self.payload.get("result")

    @property
    def error(self) -> dict[str, Any] | None:
        """The error in a response: its class name in "error", its text in "description"."""
        return self.payload.get("error")

    def __str__(self) -> str:
        dead = "dead letter: " if self.queue is not None else ""
        method = self.method or ("(encrypted)" if self.encrypted else "?")
        name = {"event": self.topic, "response": ""}.get(self.kind, f"{self.service}.{method}")
        return f"{dead}{self.kind} {name}".rstrip()


def recorded(message: Stored, number: int, *, dead: bool) -> RecordedMessage:
    """Read a message. Whatever is wrong with it, it is recorded."""
    from ..amqp import frames
    from ..exceptions import AMQPProtocolError
    from ..protocol import constants

    correlation_id, headers = "", {}
    try:
        properties = frames.decode_properties(message.properties)
        correlation_id = properties.correlation_id or ""
        headers = frames.decode_table(properties.headers or b"")
    except AMQPProtocolError:
        pass
    named = headers.get(constants.HEADER_TYPE)
    kind = named if isinstance(named, str) and named in constants.KINDS else ""
    # Old peers mark events as encrypted, and do not encrypt them.
    encrypted = headers.get(constants.HEADER_ENCRYPTED) == "yes" and kind != constants.EVENT
    payload = {} if encrypted else _payload(message.body)
    called = kind in {constants.REQUEST, constants.COMMAND}
    exchange = frames.read_shortstr(message.route, 0)[0]
    death = _death(message, headers, dead=dead) if exchange else {}  # else it comes back later
    return RecordedMessage(
        kind=kind,
        service=payload.get("service", message.routing_key) if called else None,
        method=payload.get("method") if called else None,
        topic=payload.get("topic", message.routing_key) if kind == constants.EVENT else None,
        payload=payload,
        encrypted=encrypted,
        trace_id=headers.get(constants.HEADER_TRACE_ID),
        correlation_id=correlation_id,
        exchange=exchange,
        routing_key=message.routing_key,
        headers=headers,
        queue=death.get("queue"),
        reason=death.get("reason"),
        number=number,
    )


def _death(message: Stored, headers: dict[str, Any], *, dead: bool) -> dict[str, Any]:
    """Return queue and reason of a dead letter, and {} for another message."""
    from ..protocol.dead_letter import HEADER_DEAD_LETTER_OF

    if dead:
        return message.deaths[0]
    queue = headers.get(HEADER_DEAD_LETTER_OF)  # a copy that says why
    return {} if queue is None else {"queue": queue, "reason": "rejected"}


def _payload(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}
