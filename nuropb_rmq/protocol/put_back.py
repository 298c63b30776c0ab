"""A message that is put back into a service queue, and how one that was put back came at first.

A message that is put back (a call-again, a dead letter) is published with our own permissions. So
headers that would make the broker route it anywhere else are removed.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any, Final

from ..amqp import frames
from .constants import (
    HEADER_CALL_AGAIN_COUNT,
    HEADER_CALL_AGAIN_EXCHANGE,
    HEADER_CALL_AGAIN_ROUTING_KEY,
)
from .reader import Head

_TAKEN_OUT: Final = frozenset(
    name.encode()
    for name in (
        "CC",  # the broker routes to these as well, with the rights of whoever publishes
        "BCC",
        "x-delivery-count",  # of the delivery that ends here
        "x-acquired-count",
        HEADER_CALL_AGAIN_COUNT,  # written anew: whoever published it may have set them
        HEADER_CALL_AGAIN_EXCHANGE,
        HEADER_CALL_AGAIN_ROUTING_KEY,
    )
)


def pack_again(head: Head, *, left: int | None) -> bytes:
    """The properties of a message that is put back: as they came, with the count and its origin.

    `left` is what is left of its expiration, in milliseconds; None: it has none. CC, BCC and
    user_id are not kept; other header entries go back byte for byte. As with pack_properties the
    message id is the publisher's to append, so nothing may stand behind it.
    """
    exchange, routing_key = came_by(head)
    entry = frames.table_entry
    properties = head.properties
    headers = _without(properties.headers or b"", _TAKEN_OUT) + b"".join(
        (
            entry(HEADER_CALL_AGAIN_COUNT, head.call_again_count + 1),
            entry(HEADER_CALL_AGAIN_EXCHANGE, exchange),
            entry(HEADER_CALL_AGAIN_ROUTING_KEY, routing_key),
        )
    )
    sent_back = replace(
        properties,
        headers=headers,
        expiration=None if left is None else str(left),
        message_id="",
        timestamp=None,
        type=None,
        user_id=None,
        app_id=None,
        cluster_id=None,
    )
    return frames.encode_properties(sent_back)[:-1]


def came_by(head: Head) -> tuple[str, str]:
    """The exchange and routing key that a message was first published with, as far as is known.

    Headers tell it of a message that was put back, that is, of one that came by the default
    exchange: only services and operators may publish by that. On any other, whoever published it
    may have written them.
    """
    content = head.content
    if content.exchange:
        return content.exchange, content.routing_key
    headers = head.shape.headers
    origin = _dead_letter_origin(headers)
    if origin is None:
        origin = (
            headers.get(HEADER_CALL_AGAIN_EXCHANGE),
            headers.get(HEADER_CALL_AGAIN_ROUTING_KEY),
        )
    exchange, routing_key = origin
    if isinstance(exchange, str) and isinstance(routing_key, str) and exchange:
        return exchange, routing_key
    return "", content.routing_key


def _dead_letter_origin(headers: Mapping[str, Any]) -> tuple[object, object] | None:
    """Where a dead letter had come from, as the broker says (x-death); None: not from an exchange.

    It stands above our own headers: those of a message that was refused are its author's.
    """
    match headers.get("x-death"):
        case [{"exchange": str(exchange), "routing-keys": [routing_key, *_]}, *_] if exchange:
            return exchange, routing_key
    return None


def _without(entries: bytes, names: Container[bytes]) -> bytes:
    """The entries of a header table but for those of these names."""
    kept = []
    at = 0
    while at < len(entries):
        end_of_name = at + 1 + entries[at]
        _, end = frames.read_value(entries, end_of_name, frames.TABLE_DEPTH)
        if entries[at + 1 : end_of_name] not in names:
            kept.append(entries[at:end])
        at = end
    return b"".join(kept)
