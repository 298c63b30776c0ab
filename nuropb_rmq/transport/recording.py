"""Recording of durations and outcomes: the interface that metrics implement.

An Observer gets all of each message, which costs some 20 µs a call; a Recording gets three facts,
and no object is made for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..amqp.outgoing import Recorded
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import MessageType


class Recording(Protocol):
    """Adds up facts, in the loop's thread, for every message.

    It must be quick, and must not raise. Times are those of time.monotonic().
    """

    @property
    def published(self) -> Mapping[MessageType, Recorded]:
        """Receivers of the outcomes of messages that are sent, by type."""

    def request_ended(
        self, payload: Mapping[str, Any], error: str | None, posted_at: float
    ) -> None:
        """Note the end of a request at its caller, with the class name of its error."""

    def handled(
        self, kind: MessageType, payload: Mapping[str, Any], outcome: Outcome, began: float
    ) -> None:
        """Note the end of a handler."""
