"""A message on its way out, as observers see it."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.constants import MessageType


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message on its way out."""

    kind: MessageType
    exchange: str
    routing_key: str
    correlation_id: str
    trace_id: str | None
    size: int
    """Bytes of its body, before it is encrypted."""
    encrypted: bool
    method: str | None = None
    """The method that a request or command calls."""
    posted_at: float = 0.0
    """Time at which it was posted, by time.monotonic()."""
    copy: bool = False
    """True for a received message that goes elsewhere, with its headers: to come back, or to the
    dead letters."""
