"""The state of a transport and of its connections: one enum, and whoever watches it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from threading import get_ident
from typing import Final

from .exceptions import NuropbTimeoutError, NuropbTransportError, TransportClosedError
from .origins import report

__all__ = ["Lifecycle", "State", "StateCallback"]

logger = logging.getLogger(__name__)


class State(Enum):
    """Where a transport is. Of two connections the worse state counts: the larger value."""

    READY = 1
    BLOCKED = 2
    """The broker has an alarm and takes no messages; what arrives is still served."""
    RECOVERING = 3
    """It was ready, the connection or a channel was lost, and it is on the way back."""
    CONNECTING = 4
    DRAINING = 5
    """stop() was called: nothing new is taken from the queue, what is in hand is finished."""
    STOPPED = 6
    FAILED = 7
    """Given up: trying again has no sense until an operator acts. `error` tells why."""

    @property
    def up(self) -> bool:
        """Connected, with all channels there."""
        return self in (State.READY, State.BLOCKED)

    @property
    def over(self) -> bool:
        """It takes a start() to go on from here."""
        return self in (State.STOPPED, State.FAILED)


_READY: Final = State.READY
"""For what every message passes: an enum's member takes up to 0.25 µs to look up (CPython 3.11)."""

StateCallback = Callable[[State, NuropbTransportError | None], None]


class Lifecycle:
    """A state, the trouble behind it, and those who wait for a change."""

    def __init__(self) -> None:
        self.state = State.STOPPED
        self.error: NuropbTransportError | None = None
        self._callbacks: list[StateCallback] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self._thread = 0

    def set(self, state: State, error: NuropbTransportError | None) -> None:
        """Change, and tell everyone."""
        self.error = error
        if state is self.state:
            return
        self.state = state
        if state is State.CONNECTING:
            self._thread = get_ident()
        self.wake()
        for callback in tuple(self._callbacks):
            try:
                callback(state, error)
            except Exception as e:  # noqa: BLE001 - the program's own function
                report(logger, logging.ERROR, e, "on_state_change callback failed")

    def on_change(self, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(state, error)` after every change; returns what ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def wake(self) -> None:
        """Let everyone who waits look again."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def change(self) -> asyncio.Future[None]:
        """Done at the next change."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        waiter.add_done_callback(self._waiters.discard)
        return waiter

    async def wait_for(self, states: tuple[State, ...], timeout: float | None) -> State:
        """Wait for one of these states. See Transport.wait_for."""
        try:
            async with asyncio.timeout(timeout):
                while self.state not in states:
                    if self.state.over:
                        raise self.closed_error()
                    await self.change()
        except TimeoutError as e:
            wanted = ", ".join(each.name for each in states)
            raise NuropbTimeoutError(
                f"state is {self.state.name}, not {wanted}, after {timeout} s"
            ) from e
        return self.state

    def check_open(self) -> None:
        """Raise a NuropbTransportError unless messages can be sent, and from this thread."""
        state = self.state
        if state is not _READY and (state.over or state is State.CONNECTING):
            raise self.closed_error()
        if get_ident() != self._thread:
            raise NuropbTransportError(
                "called from another thread than the event loop's: use "
                "loop.call_soon_threadsafe() or asyncio.run_coroutine_threadsafe()"
            )

    def closed_error(self) -> TransportClosedError:
        """Why nothing can be sent."""
        if self.state is State.FAILED and self.error is not None:
            return TransportClosedError(f"the transport has failed: {self.error}", None, self.error)
        return TransportClosedError(f"the transport is {self.state.name.lower()}")
