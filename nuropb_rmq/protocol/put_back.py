"""Put a message back into a service queue, and find the exchange that it first came by.

A message that is put back (a call-again, a dead letter) is published with our own permissions, so
headers that would make the broker route it elsewhere are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..amqp import frames
from ..amqp.frames import Properties
from ..printable import shorten
from .constants import (
    HEADER_CALL_AGAIN_COUNT,
    HEADER_CALL_AGAIN_EXCHANGE,
    HEADER_CALL_AGAIN_ROUTING_KEY,
)
from .dead_letter import (
    HEADER_ATTEMPTS,
    HEADER_ERROR,
    HEADER_MESSAGE_ID,
    HEADER_ORIGINAL_EXCHANGE,
    HEADER_ORIGINAL_ROUTING_KEY,
    stripped,
)
from .header_table import without
from .reader import Head

_LONGEST_NAME: Final = 255
_TAKEN_OUT: Final = frozenset(
    name.encode()
    for name in (
        "CC",  # the broker routes to these as well, with our permissions
        "BCC",
        "x-delivery-count",  # of the delivery that ends here
        "x-acquired-count",
        HEADER_CALL_AGAIN_COUNT,  # written anew: the sender may have set them
        HEADER_CALL_AGAIN_EXCHANGE,
        HEADER_CALL_AGAIN_ROUTING_KEY,
    )
)


def pack_again(head: Head, *, left: int | None, again: int = 1) -> bytes:
    """Pack the properties of a message that is put back, with its origin.

    `again` is added to its count of call-agains. `left` is the remaining expiration in
    milliseconds; None: it has none. CC, BCC and user_id are dropped; other header entries stay as
    they are. As with pack_properties, the publisher appends the message id, so nothing may follow
    it.
    """
    exchange, routing_key = came_by(head)
    properties = head.properties
    headers = _own(head, properties) + _entries(
        {
            HEADER_CALL_AGAIN_COUNT: head.call_again_count + again,
            HEADER_CALL_AGAIN_EXCHANGE: exchange,
            HEADER_CALL_AGAIN_ROUTING_KEY: routing_key,
        }
    )
    return _packed(properties, headers, expiration=left)


def history(head: Head, error: BaseException) -> dict[str, str | int]:
    """Return the headers with which a message that has failed says so, wherever it goes."""
    exchange, routing_key = came_by(head)
    headers: dict[str, str | int] = {
        HEADER_ATTEMPTS: head.attempts + 1,
        HEADER_ERROR: shorten(type(error).__name__, _LONGEST_NAME),
        HEADER_ORIGINAL_EXCHANGE: exchange,
        HEADER_ORIGINAL_ROUTING_KEY: routing_key,
    }
    message_id = head.shape.headers.get(HEADER_MESSAGE_ID) if head.attempts else None
    message_id = message_id or head.properties.message_id
    if isinstance(message_id, str) and message_id:
        headers[HEADER_MESSAGE_ID] = message_id
    return headers


def pack_copy(head: Head, headers: Mapping[str, str | int], *, further: bytes = b"") -> bytes:
    """Pack the properties of a persistent copy of a message, without expiration, with more headers.

    They replace those of dead letters and retries, whoever wrote them; `further` are packed ones.
    Raises AMQPProtocolError when the message's own cannot be read.
    """
    properties = head.properties
    entries = properties.headers or b""
    if head.content.exchange:
        entries = _own(head, properties)
    entries = stripped(entries) + _entries(headers) + further
    return _packed(replace(properties, delivery_mode=2), entries, expiration=None)


def _own(head: Head, properties: Properties) -> bytes:
    """Return the headers that go along with a copy, without those that are written anew.

    Of a message by another exchange than the default one, its sender may have written all of them.
    """
    entries = properties.headers or b""
    return without(stripped(entries) if head.content.exchange else entries, _TAKEN_OUT)


def _entries(headers: Mapping[str, str | int]) -> bytes:
    return b"".join(frames.table_entry(name, value) for name, value in headers.items())


def _packed(properties: Properties, headers: bytes, *, expiration: int | None) -> bytes:
    sent_back = replace(
        properties,
        headers=headers,
        expiration=None if expiration is None else str(expiration),
        message_id="",
        timestamp=None,
        type=None,
        user_id=None,
        app_id=None,
        cluster_id=None,
    )
    return frames.encode_properties(sent_back)[:-1]


def came_by(head: Head) -> tuple[str, str]:
    """Return the exchange and routing key that a message was first published with, if known.

    Headers are believed only when it came by the default exchange, as messages that are put back
    do, for only services and operators may publish there. On any other exchange the sender may
    have forged them.
    """
    content = head.content
    if content.exchange:
        return content.exchange, content.routing_key
    headers = head.shape.headers
    origin = _dead_letter_origin(headers)
    exchange, routing_key = origin or (
        headers.get(HEADER_ORIGINAL_EXCHANGE, headers.get(HEADER_CALL_AGAIN_EXCHANGE)),
        headers.get(HEADER_ORIGINAL_ROUTING_KEY, headers.get(HEADER_CALL_AGAIN_ROUTING_KEY)),
    )
    if isinstance(exchange, str) and isinstance(routing_key, str) and exchange:
        return exchange, routing_key
    return "", content.routing_key


def _dead_letter_origin(headers: Mapping[str, Any]) -> tuple[object, object] | None:
    """Return exchange and routing key of a dead letter, from the broker's x-death; or None.

    It goes before our own headers, which a sender may have written.
    """
    match headers.get("x-death"):
        case [{"exchange": str(exchange), "routing-keys": [routing_key, *_]}, *_] if exchange:
            return exchange, routing_key
    return None
