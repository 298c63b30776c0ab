"""NuroPb on the wire: payloads, messages, encryption, and what becomes of a message."""

from .constants import *  # noqa: F403 - it was this module once
from .constants import (  # noqa: F401 - likewise
    COMMAND,
    CONTENT_TYPE,
    DEFAULT_DL_EXCHANGE,
    DEFAULT_EVENTS_EXCHANGE,
    DEFAULT_RPC_EXCHANGE,
    EVENT,
    HEADER_CALL_AGAIN_COUNT,
    HEADER_CALL_AGAIN_EXCHANGE,
    HEADER_CALL_AGAIN_ROUTING_KEY,
    HEADER_ENCRYPTED,
    HEADER_PROTOCOL,
    HEADER_TRACE_ID,
    HEADER_TYPE,
    HEADER_VERSION,
    KINDS,
    MAX_EXPIRATION,
    MAX_SECONDS,
    REQUEST,
    RESPONSE,
    new_id,
)
