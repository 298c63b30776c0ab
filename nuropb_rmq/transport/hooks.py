"""Hooks by which another surface (`compat`) takes part in a Transport; `None` costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ..broker.session import Steps
from ..broker.watch import Configure
from ..protocol.serialization import Encode, encode
from .delivery import Settler
from .pending_requests import OnResponse
from .sender import OnFailure

__all__ = ["Hooks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Values and functions that a surface above gives a transport; none may raise, unless noted."""

    instance_id: str = ""
    """Used when the configuration has none: made for this process, and known before start()."""
    configure: Configure | None = None
    """Makes the exchanges, and all of its own, when a recovery finds that an exchange is missing;
    raises only a NuropbTransportError."""
    settler: Settler | None = None
    """Settles deliveries."""
    on_response: OnResponse | None = None
    """Called with each response to a posted request, also a second one, until its timeout."""
    on_failure: OnFailure | None = None
    """Called with each posted request that gets no response."""
    encode: Encode = encode
    """Makes bodies of payloads; by nuropb's rules for values unless it is another."""
    steps: Steps | None = None
    """Takes steps of the set-up of a session."""
