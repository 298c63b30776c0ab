"""The state of a transport and of its connections: one enum, and whoever watches it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import copy_context
from enum import Enum
from threading import get_ident
from typing import Final, cast

from ..exceptions import (
    NuropbConfigurationError,
    NuropbTimeoutError,
    NuropbTransportError,
    TransportClosedError,
)
from ..protocol.handled import current
from ..safe_logging import report
from .forked import ends_in_children

__all__ = ["Lifecycle", "State", "StateCallback", "check_loop"]

logger = logging.getLogger("nuropb_rmq.broker")

_ASYNC: Final = "must not be async, for nobody awaits it: let it create a task, or set an event"
_LOOP_CLOSED: Final = (
    "the event loop that start() ran in was closed before stop(): call start() again, in the loop "
    "that is to use it"
)
_NOT_STARTED: Final = (
    "not started: use async with, or await start() (RMQAPI: await connect()), before anything is "
    "sent"
)
_ELSEWHERE: Final = (
    "called outside the event loop that start() ran in: from another thread, use "
    "asyncio.run_coroutine_threadsafe(…, loop) or loop.call_soon_threadsafe(); in another loop, "
    "make and start a transport of its own"
)
_FORKED: Final = (
    "it was started before this process was forked, and belongs to the parent: call start() in "
    "the child, or fork first"
)


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
    """Given up: trying again makes no sense until an operator acts. `error` tells why."""

    @property
    def up(self) -> bool:
        """Connected, with all channels there."""
        return self in (State.READY, State.BLOCKED)

    @property
    def over(self) -> bool:
        """True when only a start() can go on from here."""
        return self in (State.STOPPED, State.FAILED)


_READY: Final = State.READY
"""For what every message passes: an enum's member takes up to 0.25 µs to look up (CPython 3.11)."""

StateCallback = Callable[[State, NuropbTransportError | None], None]


class Lifecycle:
    """A state, the trouble behind it, and those who wait for a change."""

    def __init__(self) -> None:
        self.state = State.STOPPED
        self.error: NuropbTransportError | None = None
        self._callbacks: dict[object, StateCallback] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._ended_by = ""
        """What ended it without stop(), and the way out."""
        self._thread = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        # Of start(): callbacks are the program's, and what runs in our tasks is marked as ours.
        self._context = copy_context()
        self._is_running: Callable[[], bool]
        """That of the loop. While it runs, what runs in its thread runs in it: to ask this takes a
        third of the time of asyncio.get_running_loop(), which asks for the process id (3.11)."""

    def set(self, state: State, error: NuropbTransportError | None) -> None:
        """Change, and tell everyone."""
        self.error = error
        if state is self.state:
            return
        self.state = state
        if state is State.CONNECTING:
            self._settle_here()
        self.wake()
        for callback in tuple(self._callbacks.values()):
            try:
                call = cast(Callable[..., object], callback)
                returned = self._context.copy().run(call, state, error)
                if inspect.iscoroutine(returned):
                    returned.close()
                    logger.error("on_state_change: the callback %s", _ASYNC)
            except Exception as e:  # noqa: BLE001 - the program's own function
                report(logger, logging.ERROR, e, "on_state_change callback failed")

    def _settle_here(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._thread = get_ident()
        self._is_running = loop.is_running
        self._ended_by = ""
        ends_in_children(self)

    def disown(self) -> None:
        """This process is a forked child: the connections are the parent's."""
        if not self.state.over:
            self._ended_by = _FORKED
            self.state = State.STOPPED
            self.error = TransportClosedError(_FORKED)
            self._waiters.clear()

    @property
    def stranded(self) -> bool:
        """Return whether its event loop was closed before it came to its end."""
        return not self.state.over and self._loop is not None and self._loop.is_closed()

    def leave_closed_loop(self) -> None:
        """It is stopped, for it is stranded."""
        self._ended_by = _LOOP_CLOSED
        self._waiters.clear()  # to finish them takes their loop
        self.set(State.STOPPED, TransportClosedError(_LOOP_CLOSED))

    def on_change(self, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(state, error)` after every change; return a function that stops it.

        Raises NuropbConfigurationError for what cannot be called so.
        """
        called = getattr(callback, "__call__", None)  # noqa: B004 - an object's own may be async
        if called is None:
            raise NuropbConfigurationError("callback", "must be a function of state and error")
        if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(called):
            raise NuropbConfigurationError("callback", _ASYNC)
        key = object()
        self._callbacks[key] = callback

        def end() -> None:
            self._callbacks.pop(key, None)

        return end

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
        self.check_home()
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
        """Raise a NuropbTransportError unless messages can be sent, and from here.

        A handler may send as soon as there is one: what it sends waits for the connection that
        publishes, which may come up after the one that consumes.
        """
        state = self.state
        if state is not _READY and (state.over or (state is State.CONNECTING and not current())):
            raise self.closed_error()
        if get_ident() != self._thread or not self._is_running():
            self.check_home()

    def check_home(self) -> None:
        """Raise a NuropbTransportError when it is up, and its event loop is not the one here.

        Synchronous code of that loop's thread may post while no loop runs in it.
        """
        if self.state.over or self._loop is None:
            return
        if self._loop.is_closed():
            raise TransportClosedError(_LOOP_CLOSED)
        if check_loop(self._loop, self._thread):
            self._thread = get_ident()

    def closed_error(self) -> TransportClosedError:
        """Why nothing can be sent."""
        if self.state is State.FAILED and self.error is not None:
            return TransportClosedError(f"the transport has failed: {self.error}", None, self.error)
        if self._loop is None:
            return TransportClosedError(_NOT_STARTED)
        why = f": {self._ended_by}" if self._ended_by else ""
        return TransportClosedError(f"the transport is {self.state.name.lower()}{why}")


def check_loop(loop: asyncio.AbstractEventLoop, thread: int = 0) -> bool:
    """Return whether the loop runs here; False when none does, and this is its `thread`.

    Raises NuropbTransportError otherwise.
    """
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is loop:
        return True
    if here is None and get_ident() == thread:
        return False
    raise NuropbTransportError(_ELSEWHERE)
