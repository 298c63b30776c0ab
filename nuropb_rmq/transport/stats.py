"""Counts of a transport's messages: added to in place, and read as a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..amqp.settlement import Settlement
from ..broker.state import State
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import MessageType


class Counts:
    """Counts since the transport was made, over all its runs. Hot paths add to them."""

    __slots__ = (
        "answered", "handled", "received", "reconnects", "redelivered", "refused", "sent",
        "settled",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sent = dict.fromkeys(MessageType, 0)
        self.answered = 0
        self.received = 0
        self.redelivered = 0
        self.refused = 0
        self.handled = dict.fromkeys(Outcome, 0)
        self.settled: dict[Settlement | None, int] = dict.fromkeys((*Settlement, None), 0)
        """None: the end of a channel returned it to the queue, or stop()."""
        self.reconnects = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A transport's counts since it was made, and its levels at this moment."""

    service: str
    instance_id: str
    state: State
    sent: Mapping[MessageType, int]
    """Messages handed to the publisher."""
    answered: int
    """Requests that got a response, with a result or an error."""
    received: int
    """Messages of the service queue that were begun, expired and unreadable ones included."""
    redelivered: int
    """Messages that the broker had delivered before, here or elsewhere."""
    refused: int
    """Messages that could not be read, or were not allowed."""
    handled: Mapping[Outcome, int]
    """Ends of handlers."""
    settled: Mapping[Settlement, int]
    """Ends of deliveries."""
    returned: int
    """Deliveries that a lost channel or stop() returned to the queue."""
    reconnects: int
    """Recoveries of a lost connection or channel."""
    responses_dropped: Mapping[str, int]
    """Messages of the response queue that nobody waits for, or that cannot be read, by reason,
    since start()."""
    requests_pending: int
    """Requests that wait for their response."""
    handlers_active: int
    """Handlers that run."""
    deliveries_unsettled: int
    """Messages of the service queue that are here: running, waiting, or not yet confirmed."""
    outbox_messages: int
    """Messages that wait for the broker."""
    outbox_bytes: int
    outbox_oldest: float
    """Seconds that the first of them has waited; 0 when there is none."""
    unconfirmed: int
    """Messages that were written, and that the broker has not confirmed yet."""

    @property
    def retries(self) -> int:
        """Messages that were sent to come back after a delay."""
        return self.settled[Settlement.RETRY]

    @property
    def dead_letters(self) -> int:
        """Messages that became dead letters."""
        return self.settled[Settlement.DEAD_LETTER] + self.settled[Settlement.REJECT]
