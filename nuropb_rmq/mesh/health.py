"""The health of a mesh, as /readyz and the command `health` tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..broker.state import State
from ..transport.conditions import reason_for
from ..transport.transport import Transport


@dataclass(frozen=True, slots=True)
class Health:
    """The condition of a mesh, as this process knows it; nothing asks the broker for it."""

    state: State
    reason: str | None
    """Why nothing is to be sent to this process; None when it is ready."""
    parts: dict[str, str | None]
    """Why each part is not as it should be; None where it is."""
    in_memory: bool

    @property
    def ready(self) -> bool:
        """True when all parts are as they should be."""
        return self.reason is None

    @property
    def alive(self) -> bool:
        """True unless only a restart helps."""
        return self.state is not State.FAILED

    def as_dict(self) -> dict[str, Any]:
        """Return what /readyz answers."""
        told: dict[str, Any] = {"ready": self.ready, "state": self.state.name}
        if self.in_memory:
            told["broker"] = "memory"  # nothing in it survives the process
        if self.reason is not None:
            told["reason"] = self.reason
        return {**told, "parts": self.parts}


def health_of(transport: Transport) -> Health:
    """Return the health of a mesh, by its transport. Called in its event loop.

    The reason is that of the state; in READY, that of the first part which has one.
    """
    parts = transport.reasons()
    reason = reason_for(transport.state, transport.error)
    if reason is None:
        reason = next((each for each in parts.values() if each is not None), None)
    return Health(transport.state, reason, parts, transport.config.broker.in_memory)
