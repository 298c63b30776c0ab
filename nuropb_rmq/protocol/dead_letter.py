"""Headers of dead letters: those that say why a message failed, and those that are never passed on.

A copy of a failed message that we publish to the dead-letter exchange says more than the broker's
x-death. Anybody may write the same headers, so none of them goes along when a message is copied or
put back.
"""

from __future__ import annotations

from typing import Final

from .header_table import without

HEADER_DEAD_LETTER_OF: Final = "nuropb_dead_letter_of"
"""Name of the service queue that gave the message up; the dead-letter queue is bound by it."""
HEADER_FAILURE_ID: Final = "nuropb_failure_id"
"""One id for each failure: two letters that carry the same one are one failure."""
HEADER_ERROR: Final = "nuropb_error"
"""Name of the exception's class."""
HEADER_ERROR_TEXT: Final = "nuropb_error_text"
HEADER_TRACEBACK: Final = "nuropb_traceback"
HEADER_FAILED_METHOD: Final = "nuropb_failed_method"
"""The method of a request or command, the topic of an event."""
HEADER_FAILED_INSTANCE: Final = "nuropb_failed_instance"
HEADER_FAILED_AT: Final = "nuropb_failed_at"
"""ISO 8601, in UTC."""
HEADER_ATTEMPTS: Final = "nuropb_attempts"
"""Number of times that it has been handled, as a message that comes back later carries it too."""
HEADER_FIRST_FAILED_AT: Final = "nuropb_first_failed_at"
HEADER_TIME_LEFT: Final = "nuropb_time_left"
"""Milliseconds left of its expiration when it comes back: it has no other, or it would not."""
HEADER_ORIGINAL_EXCHANGE: Final = "nuropb_original_exchange"
HEADER_ORIGINAL_ROUTING_KEY: Final = "nuropb_original_routing_key"
HEADER_MESSAGE_ID: Final = "nuropb_message_id"
"""The message id that its sender gave it: that of a copy says which delivery it is."""
HEADER_REPLAY_COUNT: Final = "nuropb_replay_count"
"""Of a message that was replayed from a dead-letter queue: how many times it was."""
HEADER_REPLAY_ID: Final = "nuropb_replay_id"
"""Of a message that was replayed: the id of the run that replayed it last."""

X_DEATH: Final = "x-death"

_NEVER_PASSED_ON: Final = frozenset(
    name.encode()
    for name in (
        "CC",  # the broker routes to these as well, with our permissions
        "BCC",
        X_DEATH,  # below 4.0 the broker takes a copied one for a cycle, and drops the message
        "x-delivery-count",
        "x-acquired-count",
        HEADER_DEAD_LETTER_OF,
        HEADER_FAILURE_ID,
        HEADER_TRACEBACK,
        HEADER_FAILED_METHOD,
        HEADER_FAILED_INSTANCE,
        HEADER_FAILED_AT,
        HEADER_ATTEMPTS,
        HEADER_FIRST_FAILED_AT,
        HEADER_TIME_LEFT,
        HEADER_ORIGINAL_EXCHANGE,
        HEADER_ORIGINAL_ROUTING_KEY,
        HEADER_MESSAGE_ID,
    )
)
_PREFIXES_NEVER_PASSED_ON: Final = (b"x-first-death-", b"x-last-death-", HEADER_ERROR.encode())


def stripped(headers: bytes) -> bytes:
    """Return the entries of a message's header table that may go with a copy or a replay.

    The others are left byte for byte. What replays left (nuropb_replay_count, nuropb_replay_id)
    stays, and a replay writes it anew. Raises AMQPProtocolError when the table cannot be read.
    """
    return without(headers, _NEVER_PASSED_ON, _PREFIXES_NEVER_PASSED_ON)
