"""The state of a transport and its connections: one enum, callbacks and waiters."""

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
from ..waiting import Changes
from .forked import ends_in_children

logger = logging.getLogger("nuropb_rmq.broker")

_ASYNC: Final = "must not be async, for nobody awaits it: let it create a task, or set an event"
_LOOP_CLOSED: Final = (
    "the event loop that start() ran in was closed before stop(): call start() again, in the new "
    "loop"
)
_NOT_STARTED: Final = (
    "not started: use async with, or await start() (RMQAPI: await connect()), before sending"
)
_ELSEWHERE: Final = (
    "called outside the event loop that start() ran in: from another thread, use "
    "asyncio.run_coroutine_threadsafe(…, loop) or loop.call_soon_threadsafe(); in another loop, "
    "make and start a transport of its own"
)
FORKED: Final = (
    "it was started before this process was forked, and belongs to the parent: call start() in "
    "the child, or fork before start()"
)


class State(Enum):
    """The state of a transport: the worst (largest value) of its connections and of an outage.

    ::

        STOPPED → CONNECTING → READY ⇄ OUTAGE, BLOCKED
        READY, OUTAGE, BLOCKED ⇄ RECOVERING
        READY, OUTAGE, BLOCKED, RECOVERING → DRAINING → STOPPED   by stop()
        READY, OUTAGE, BLOCKED, RECOVERING → FAILED
        CONNECTING → STOPPED                    when start() fails or stop() is called
        FAILED → CONNECTING                     by start()
    """

    READY = 1
    """Connected, with all channels open."""
    OUTAGE = 2
    """Connected, but handlers fail in a row: one message is tried at a time. See Outage."""
    BLOCKED = 3
    """The broker has an alarm and takes no messages; arriving ones are still served."""
    RECOVERING = 4
    """The connection or a channel was lost after READY, and is being restored."""
    CONNECTING = 5
    """start() was called."""
    DRAINING = 6
    """stop() was called: no new messages are taken from the queue, running handlers finish."""
    STOPPED = 7
    """Not started, or stopped."""
    FAILED = 8
    """Given up: it takes an operator, and then a start(). `error` is the reason."""

    @property
    def up(self) -> bool:
        """True while connected, with all channels open."""
        return self in (State.READY, State.OUTAGE, State.BLOCKED)

    @property
    def over(self) -> bool:
        """True when only a start() can go on from here."""
        return self in (State.STOPPED, State.FAILED)


ALIVE: Final = (State.READY, State.OUTAGE, State.BLOCKED, State.RECOVERING)
"""The states from the end of start() on, until it stops or fails."""
_READY: Final = State.READY
"""For hot paths: looking up a member of an enum takes up to 0.25 µs (CPython 3.11)."""

StateCallback = Callable[[State, NuropbTransportError | None], None]


class Lifecycle:
    """A state, the error behind it, and the callbacks and waiters for a change."""

    def __init__(self) -> None:
        self.state = State.STOPPED
        self.error: NuropbTransportError | None = None
        self._callbacks: dict[object, StateCallback] = {}
        self._changes = Changes()
        self.wake = self._changes.wake
        """Make all waiters check their condition again."""
        # The reason why it ended without stop(), with advice; else "".
        self._ended_by = ""
        # Thread and loop of start().
        self._thread = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        # Callbacks run in the context of start(): that of our own tasks marks connections as ours.
        self._context = copy_context()
        # The loop's is_running: if the loop runs and this is its thread, we are in it. This check
        # takes a third of the time of asyncio.get_running_loop(), which gets the process id (3.11).
        self._is_running: Callable[[], bool]

    def set(self, state: State, error: NuropbTransportError | None) -> None:
        """Change state and error; if the state differs, wake the waiters and call the callbacks."""
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
        """Stop, in a forked child: the connections are the parent's."""
        if not self.state.over:
            self._ended_by = FORKED
            self.state = State.STOPPED
            self.error = TransportClosedError(FORKED)
            self._changes.forget()

    @property
    def stranded(self) -> bool:
        """True when its event loop was closed before it stopped."""
        return not self.state.over and self._loop is not None and self._loop.is_closed()

    def leave_closed_loop(self) -> None:
        """Become STOPPED after the event loop was closed."""
        self._ended_by = _LOOP_CLOSED
        self._changes.forget()  # they cannot be resolved without their loop
        self.set(State.STOPPED, TransportClosedError(_LOOP_CLOSED))

    def on_change(self, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(state, error)` after every change; return a function that ends this.

        Raises NuropbConfigurationError when the callback is no function, or an async one.
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

    async def wait_for(self, states: tuple[State, ...], timeout: float | None) -> State:
        """Wait for one of these states. See Transport.wait_for."""
        self.check_home()

        def reached() -> bool:
            if self.state not in states and self.state.over:
                raise self.closed_error()
            return self.state in states

        try:
            async with asyncio.timeout(timeout):
                await self._changes.until(reached)
        except TimeoutError as e:
            wanted = ", ".join(state.name for state in states)
            raise NuropbTimeoutError(
                f"state is {self.state.name}, not {wanted}, after {timeout} s"
            ) from e
        return self.state

    def check_open(self) -> None:
        """Raise a NuropbTransportError unless messages can be sent, and from here.

        A handler may send even while CONNECTING: its messages wait for the publishing connection,
        which may come up after the consuming one.
        """
        state = self.state
        if state is not _READY and (state.over or (state is State.CONNECTING and not current())):
            raise self.closed_error()
        if get_ident() != self._thread or not self._is_running():
            self.check_home()

    def check_home(self) -> None:
        """Raise a NuropbTransportError in another loop or thread than start()'s, while it is up.

        Synchronous code in that loop's thread may post while no loop runs there.
        """
        if self.state.over or self._loop is None:
            return
        if self._loop.is_closed():
            raise TransportClosedError(_LOOP_CLOSED)
        if check_loop(self._loop, self._thread):
            self._thread = get_ident()

    def closed_error(self) -> TransportClosedError:
        """Return the error that says why nothing can be sent."""
        if self.state is State.FAILED and self.error is not None:
            return TransportClosedError(f"the transport has failed: {self.error}", None, self.error)
        if self._loop is None:
            return TransportClosedError(_NOT_STARTED)
        reason = self._ended_by or self.error  # of the last start(), while it is tried again
        why = f": {reason}" if reason else ""
        text = f"the transport is {self.state.name.lower()}{why}"
        return TransportClosedError(text, None, self.error)


def check_loop(loop: asyncio.AbstractEventLoop, thread: int = 0) -> bool:
    """Return True in the loop, and False in its `thread` while no loop runs there.

    Raises NuropbTransportError anywhere else.
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


def start_error(error: BaseException) -> NuropbTransportError:
    """Return the error of a start that ended so, for `error` and for all that wait."""
    if isinstance(error, NuropbTransportError):
        return error
    how = "was cancelled" if isinstance(error, asyncio.CancelledError) else f"failed: {error}"
    return TransportClosedError(f"start() {how}", None, error)
