"""A handler whose database goes away, and the settings of tests about outages."""

from __future__ import annotations

from collections import Counter
from typing import Any

from nuropb_rmq import Message, Outage, State, Transport

from .support import eventually

SHORT = Outage(after=2, probe_every=0.05)


class Database:
    """A handler that fails with `error` while it is there; it counts the tries of each message."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.tries: Counter[Any] = Counter()
        self.done: list[Any] = []
        self.counts: list[int] = []
        """Number of times that the message had been called again, at each try."""

    async def __call__(self, message: Message) -> Any:
        payload = message.payload
        n = payload["event"] if payload["tag"] == "event" else payload["params"].get("n")
        self.tries[n] += 1
        self.counts.append(message.call_again_count)
        if self.error is not None:
            raise type(self.error)(*self.error.args)  # anew: one that is raised often grows
        self.done.append(n)
        return n


async def until(service: Transport, state: State, within: float = 10) -> None:
    """Wait for a state."""
    await eventually(
        lambda: service.state is state,
        within=within,
        describe=lambda: f"{service.state}, not {state}: {service.error}",
    )
