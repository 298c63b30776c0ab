"""Messages as queues hold them, and what becomes of one that a queue gives up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from pamqp import encode

from ..amqp import frames
from .errors import PRECONDITION_FAILED, ChannelError

X_DEATH: Final = "x-death"
DELIVERY_COUNT: Final = "x-delivery-count"
ACQUIRED_COUNT: Final = "x-acquired-count"
LONGEST_LIFE: Final = 10 * 365 * 86_400_000
"""Milliseconds of the longest expiration that RabbitMQ takes."""

_INTEGER: Final = re.compile(r"[+-]?\d+")
_SHORT_STRINGS: Final = frames.HAS_CORRELATION_ID, frames.HAS_REPLY_TO


class Death(Enum):
    """Why a queue gave up a message (https://www.rabbitmq.com/docs/dlx)."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    MAXLEN = "maxlen"
    DELIVERY_LIMIT = "delivery_limit"


class Stored:
    """One message in one queue.

    `life` is its expiration in milliseconds, `expires` the monotonic time at which it ends in this
    queue. `number` orders the messages of a queue. `deaths` are the queues that gave it up, the
    latest first, as x-death has them.
    """

    __slots__ = (
        "acquired", "body", "deaths", "expires", "life", "number", "priority", "properties",
        "redelivered", "returned", "route", "routing_key",
    )  # fmt: skip

    def __init__(
        self,
        route: bytes,
        routing_key: str,
        properties: bytes,
        body: bytes,
        *,
        life: int | None = None,
        priority: int | None = None,
    ) -> None:
        self.route: bytes = route
        """Exchange and routing key, as Basic.Deliver has them."""
        self.routing_key: str = routing_key
        self.properties: bytes = properties
        self.body: bytes = body
        self.life: int | None = life
        self.priority: int | None = priority
        self.number: int = 0
        self.expires: float | None = None
        self.redelivered: bool = False
        self.acquired: int = 0
        """Number of returns to a quorum queue: x-acquired-count."""
        self.returned: int = 0
        """Number of returns that count against the queue's delivery limit: x-delivery-count."""
        self.deaths: tuple[dict[str, Any], ...] = ()

    def headers(self) -> dict[str, Any]:
        """Return its headers, decoded anew."""
        return frames.decode_table(frames.decode_properties(self.properties).headers or b"")

    def copy(self) -> Stored:
        """Return the message as another queue gets it."""
        copy = Stored(
            self.route,
            self.routing_key,
            self.properties,
            self.body,
            life=self.life,
            priority=self.priority,
        )
        copy.redelivered, copy.deaths = self.redelivered, self.deaths
        return copy

    def counted(self) -> bytes:
        """Return the properties with what a quorum queue says of one that came back."""
        counts = {ACQUIRED_COUNT: self.acquired}
        if self.returned:
            counts[DELIVERY_COUNT] = self.returned
        properties = frames.decode_properties(self.properties)
        return _with_headers(properties, counts)

    def would_cycle(self, queue: str) -> bool:
        """Return whether a dead letter comes to a queue again that gave it up before.

        One that a consumer rejected on the way goes on.
        """
        cycle = []
        for death in self.deaths:
            cycle.append(death["reason"])
            if death["queue"] == queue:
                return Death.REJECTED.value not in cycle
        return False


def published(route: bytes, routing_key: str, properties: bytes, body: bytes) -> Stored:
    """Return a message as it comes from a publisher. Raises ChannelError."""
    if not properties[0] & 0x09:  # neither expiration nor priority, in the first octet of the flags
        return Stored(route, routing_key, properties, body)
    life, priority = _life_and_priority(properties)
    return Stored(route, routing_key, properties, body, life=life, priority=priority)


def _life_and_priority(raw: bytes) -> tuple[int | None, int | None]:
    """Read two of the properties, and skip the others in front (AMQP 0-9-1, section 4.2.6.1)."""
    flags, at = int.from_bytes(raw[:2]), 2
    life = priority = None
    if flags & frames.HAS_CONTENT_TYPE:
        at += 1 + raw[at]
    if flags & frames.HAS_CONTENT_ENCODING:
        at += 1 + raw[at]
    if flags & frames.HAS_HEADERS:
        at += 4 + int.from_bytes(raw[at : at + 4])
    if flags & frames.HAS_DELIVERY_MODE:
        at += 1
    if flags & frames.HAS_PRIORITY:
        priority = raw[at]
        at += 1
    for flag in _SHORT_STRINGS:
        if flags & flag:
            at += 1 + raw[at]
    if flags & frames.HAS_EXPIRATION:
        text = raw[at + 1 : at + 1 + raw[at]]
        life = int(text) if text.isdigit() else _read_life(text.decode("utf-8", "surrogateescape"))
        if life > LONGEST_LIFE:
            raise _invalid(text.decode(), f"{{value_too_large,{life}}}")
    return life, priority


def _read_life(text: str) -> int:
    found = _INTEGER.match(text)
    if found is None:
        raise _invalid(text, "no_integer")
    if rest := text[found.end() :]:
        raise _invalid(text, f'{{leftover_string,"{rest}"}}')
    life = int(text)
    if life < 0:
        raise _invalid(text, f"{{value_negative,{life}}}")
    return life


def _invalid(text: str, problem: str) -> ChannelError:
    return ChannelError(PRECONDITION_FAILED, f"invalid expiration '{text}': {problem}")


def died(message: Stored, queue: str, why: Death, exchange: str, key: str | None) -> Stored:
    """Return the dead letter for an exchange: with x-death, and without an expiration.

    Its routing key stays when `key` is None. A client's own x-death counts for nothing.
    """
    properties = frames.decode_properties(message.properties)
    deaths = _deaths(message, queue, why, properties.expiration)
    headers: dict[str, Any] = frames.decode_table(properties.headers or b"")
    headers[X_DEATH] = list(deaths)
    for name in ("exchange", "queue", "reason"):
        headers[f"x-last-death-{name}"] = deaths[0][name]
        if not message.deaths:
            headers[f"x-first-death-{name}"] = deaths[0][name]
    routing_key = message.routing_key if key is None else key
    letter = Stored(
        frames.shortstr(exchange) + frames.shortstr(routing_key),
        routing_key,
        _with_headers(replace(properties, headers=None, expiration=None), headers),
        message.body,
        priority=message.priority,
    )
    letter.redelivered, letter.deaths = message.redelivered, deaths
    return letter


def _deaths(
    message: Stored, queue: str, why: Death, expiration: str | None
) -> tuple[dict[str, Any], ...]:
    """Count one death more: the latest first, those of one queue and reason in one."""
    same = [d for d in message.deaths if d["queue"] == queue and d["reason"] == why.value]
    death = {
        "count": 0,
        "reason": why.value,
        "queue": queue,
        "time": datetime.now(UTC).replace(microsecond=0),
        "exchange": frames.read_shortstr(message.route, 0)[0],
        "routing-keys": [message.routing_key],
        **(same[0] if same else {}),
    }
    death["count"] += 1
    if expiration is not None:
        death["original-expiration"] = expiration
    return death, *(other for other in message.deaths if other not in same)


def _with_headers(properties: frames.Properties, more: Mapping[str, Any]) -> bytes:
    headers = frames.decode_table(properties.headers or b"") | dict(more)
    table = encode.field_table(headers)[4:]  # the length in front is the frame's
    return frames.encode_properties(replace(properties, headers=table))
