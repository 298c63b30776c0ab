"""The condition of each part of a transport: why one is not as it should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..amqp.publisher import Publisher
from ..broker.session import Role
from ..broker.state import State
from ..broker.supervisor import Link
from ..config.settings import TransportConfig
from ..exceptions import NuropbTransportError
from . import stalls
from .outage import Outages

NEARLY_FULL: Final = 0.9
"""Share of a bound of the outbox from which on it counts as full."""

REASONS: Final[Mapping[State, str]] = {
    State.OUTAGE: "handlers fail one after the other",
    State.BLOCKED: "the broker has an alarm and takes no messages",
    State.RECOVERING: "the connection was lost, and is being restored",
    State.CONNECTING: "not connected yet",
    State.DRAINING: "shutting down",
    State.STOPPED: "not started, or stopped",
    State.FAILED: "failed: it needs an operator, and then a restart",
}
"""The problem in a state; nothing in READY."""
_NAMES: Final = {
    Role.CLIENT: "connection",
    Role.PUBLISHING: "publishing_connection",
    Role.CONSUMING: "consuming_connection",
}


def reason_for(state: State, error: NuropbTransportError | None) -> str | None:
    """Return what is wrong in a state, with the error behind it; None in READY."""
    reason = REASONS.get(state)
    return reason if reason is None or error is None else f"{reason}: {error}"


@dataclass(frozen=True, slots=True)
class Conditions:
    """The parts of a transport that may be unwell; `publisher` is None before the first start()."""

    config: TransportConfig
    links: Sequence[Link]
    outages: Outages | None
    publisher: Publisher | None
    consuming: bool

    @property
    def states(self) -> list[Link | Outages]:
        """Those that have a state: the worst is that of the transport."""
        return [*self.links] if self.outages is None else [*self.links, self.outages]

    def reasons(self) -> dict[str, str | None]:
        """Return why each part is not as it should be, by its name; None where it is.

        Called in the loop of the transport.
        """
        roles = [Role.CLIENT] if self.config.client_only else [Role.PUBLISHING, Role.CONSUMING]
        found = {_NAMES[role]: REASONS.get(State.STOPPED) for role in roles}
        for link in self.links:
            found[_NAMES[link.role]] = reason_for(link.state, link.error)
        outages = self.outages
        found["outage"] = None if outages is None else reason_for(outages.state, outages.error)
        found["outbox"] = self._outbox()
        found["consuming"] = None if self.consuming else "stopped consuming"
        found["event_loop"] = stalls.blocked_lately()
        return found

    def _outbox(self) -> str | None:
        publisher = self.publisher
        if publisher is None:
            return None
        for waiting, bound, unit, name in (
            (publisher.waiting, self.config.outbox_messages, "messages", "outbox_messages"),
            (publisher.waiting_bytes, self.config.outbox_bytes, "bytes", "outbox_bytes"),
        ):
            if waiting >= bound * NEARLY_FULL:
                return f"{waiting} {unit} wait to be sent, of {bound} at most ({name})"
        return None
