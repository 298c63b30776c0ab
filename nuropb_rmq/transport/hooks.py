"""Hooks that Mesh and RMQTransport set on a Transport; `None` costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..broker.session import Steps
from ..broker.watch import Declare
from ..protocol.serialization import Encode, encode
from .delivery import Settler
from .pending_requests import OnResponse
from .sender import OnFailure
from .task_runner import Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Values and functions for a transport. The functions must not raise, unless noted."""

    instance_id: str = ""
    """The id to use when the configuration has none; known before start()."""
    configure: Callable[[], Body] | None = None
    """Makes what is missing on the broker before start() connects; raises what start() raises."""
    declare: Declare | None = None
    """Makes the exchanges and the dead-letter queue when a recovery finds an exchange missing; may
    raise NuropbTransportError."""
    settler: Settler | None = None
    """Settles deliveries in place of their consumer."""
    on_response: OnResponse | None = None
    """Called with each response to a posted request, further ones included, until its timeout."""
    on_failure: OnFailure | None = None
    """Called with each posted request that gets no response."""
    encode: Encode = encode
    """Encodes payloads; the default follows nuropb's rules for values."""
    methods: Collection[str] = ()
    """Names of the methods that the handler publishes; telemetry tells them apart."""
    steps: Steps | None = None
    """Runs the steps of a session's setup."""
