"""The constants of the NuroPb protocol: versions, names on the wire, and the shapes of payloads.

They were recorded from nuropb 0.1.8 on a real broker, and old peers depend on them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Literal, NotRequired, TypedDict

from .._version import __version__

__all__ = [
    "NUROPB_MESSAGE_TYPES",
    "NUROPB_PROTOCOL_VERSION",
    "NUROPB_PROTOCOL_VERSIONS_SUPPORTED",
    "NUROPB_VERSION",
    "AcknowledgeAction",
    "CommandPayloadDict",
    "ErrorDescriptionType",
    "EventPayloadDict",
    "MessageCallbackFunction",
    "MessageCompleteFunction",
    "MessageType",
    "RequestPayloadDict",
    "ResponsePayloadDict",
    "TransportRespondPayload",
    "TransportServicePayload",
]

NUROPB_VERSION: Final = f"rmq-aio/{__version__}"
"""Our value of the header ``nuropb_version``; peers only show it."""
NUROPB_PROTOCOL_VERSION: Final = "0.1.1"
NUROPB_PROTOCOL_VERSIONS_SUPPORTED: Final = ("0.1.1",)
NUROPB_MESSAGE_TYPES: Final = ("request", "response", "event", "command")

HEADER_PROTOCOL: Final = "nuropb_protocol"
HEADER_VERSION: Final = "nuropb_version"
HEADER_TYPE: Final = "nuropb_type"
HEADER_TRACE_ID: Final = "trace_id"
HEADER_TRACEPARENT: Final = "traceparent"
"""Of W3C Trace Context, where telemetry is on."""
HEADER_ENCRYPTED: Final = "encrypted"
HEADER_CALL_AGAIN_COUNT: Final = "nuropb_ca_count"
HEADER_CALL_AGAIN_EXCHANGE: Final = "nuropb_ca_exchange"
HEADER_CALL_AGAIN_ROUTING_KEY: Final = "nuropb_ca_routing_key"

CONTENT_TYPE: Final = "application/json"

DEFAULT_RPC_EXCHANGE: Final = "nuropb-rpc-exchange"
DEFAULT_EVENTS_EXCHANGE: Final = "nuropb-events-exchange"
DEFAULT_DL_EXCHANGE: Final = "nuropb-dl-exchange"

MAX_EXPIRATION: Final = 2**32 - 1
"""Milliseconds; the broker refuses a larger per-message TTL with 406."""
MAX_SECONDS: Final = MAX_EXPIRATION // 1000
"""Seconds of the longest expiration of a message (49 days); also the limit of time settings."""


class MessageType(StrEnum):
    """The four kinds of message; the value is the header ``nuropb_type`` and the payload's tag."""

    __hash__ = str.__hash__  # Enum's own is written in Python, and every message looks this up

    REQUEST = "request"
    COMMAND = "command"
    EVENT = "event"
    RESPONSE = "response"


# For hot paths: looking up a member of an enum takes up to 0.25 µs (CPython 3.11).
REQUEST: Final = MessageType.REQUEST
COMMAND: Final = MessageType.COMMAND
EVENT: Final = MessageType.EVENT
RESPONSE: Final = MessageType.RESPONSE

KINDS: Final = {kind.value: kind for kind in MessageType}
"""The kind of message for a payload's tag, or for the header ``nuropb_type``."""


class ErrorDescriptionType(TypedDict):
    """The ``error`` of a response: class name and text of the service's exception."""

    error: str
    description: str | None
    context: NotRequired[dict[str, Any] | None]


class _Payload(TypedDict):
    correlation_id: str
    context: dict[str, Any]
    trace_id: str | None


class RequestPayloadDict(_Payload):
    """A request: answered by one response."""

    tag: Literal["request"]
    service: str
    method: str
    params: dict[str, Any]


class CommandPayloadDict(_Payload):
    """A command: handled once by one instance of the service, never answered."""

    tag: Literal["command"]
    service: str
    method: str
    params: dict[str, Any]


class EventPayloadDict(_Payload):
    """An event: published to a topic, for any number of subscribers."""

    tag: Literal["event"]
    topic: str
    event: Any
    target: list[Any] | None


class ResponsePayloadDict(_Payload):
    """A response: the result of a request, or its error."""

    tag: Literal["response"]
    result: Any
    error: dict[str, Any] | None
    warning: str | None
    reply_to: str


class TransportServicePayload(TypedDict):
    """A message as `message_callback` gets it. `ttl` is in milliseconds."""

    nuropb_protocol: str
    nuropb_type: Literal["request", "command", "event", "response"]
    nuropb_payload: dict[str, Any]
    correlation_id: str
    trace_id: str | None
    ttl: int | None


class TransportRespondPayload(TypedDict):
    """A response or event as `message_complete` takes it; `nuropb_payload` is sent."""

    nuropb_protocol: str
    nuropb_type: Literal["request", "command", "event", "response"]
    nuropb_payload: ResponsePayloadDict | EventPayloadDict
    correlation_id: str
    trace_id: str | None
    ttl: int | None


AcknowledgeAction = Literal["ack", "nack", "reject"]
"""Done ("ack"); call it again, once ("nack"); failed ("reject")."""
MessageCompleteFunction = Callable[[list[TransportRespondPayload], AcknowledgeAction], None]
MessageCallbackFunction = Callable[
    [TransportServicePayload, MessageCompleteFunction, dict[str, Any]], object
]
"""A function, or a coroutine function."""


_VERSION: Final = bytes(0x40 | byte & 0x0F for byte in range(256))
_VARIANT: Final = bytes(0x80 | byte & 0x3F for byte in range(256))
_drawn: list[str] = []
if hasattr(os, "register_at_fork"):  # a forked worker would repeat its parent's ids
    os.register_at_fork(after_in_child=_drawn.clear)


def new_id() -> str:
    """Return a new correlation or instance id: the hex form of a UUID 4 (RFC 9562).

    Makes 64 at once, because the system call for random bytes is the largest part of the cost.
    """
    try:
        return _drawn.pop()
    except IndexError:
        drawn = bytearray(os.urandom(16 * 64))
        drawn[6::16] = drawn[6::16].translate(_VERSION)
        drawn[8::16] = drawn[8::16].translate(_VARIANT)
        digits = drawn.hex()
        first, *others = (digits[at : at + 32] for at in range(0, len(digits), 32))
        _drawn.extend(others)
        return first
