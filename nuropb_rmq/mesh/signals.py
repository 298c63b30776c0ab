"""SIGTERM and SIGINT end what serves, in an orderly way."""

from __future__ import annotations

import asyncio
import logging
import signal
from types import TracebackType
from typing import Any, Final, Protocol, Self
from weakref import WeakKeyDictionary

from ..broker.state import State
from ..exceptions import NuropbTransportError

logger = logging.getLogger("nuropb_rmq.mesh")

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


class Served(Protocol):
    """The part of a Mesh that serve_until_signalled() uses."""

    @property
    def state(self) -> State:
        """Its state."""

    @property
    def error(self) -> NuropbTransportError | None:
        """The error behind the state."""

    async def start(self) -> None:
        """Connect and serve."""

    async def stop(self, *, grace: float) -> None:
        """End in an orderly way."""

    async def wait_for(self, *states: State) -> State:
        """Wait until the state is one of these."""


async def serve_until_signalled(mesh: Served, grace: float) -> None:
    """Serve until a signal, then stop; see Mesh.serve_forever."""
    with EndingSignals() as signals:
        try:
            if mesh.state.over:
                await mesh.start()
            await mesh.wait_for(State.STOPPED, State.FAILED)
            if mesh.state is State.FAILED and mesh.error is not None:
                raise mesh.error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not signals.received or (task is not None and task.uncancel()):
                raise
        finally:
            signals.disarm()
            await mesh.stop(grace=grace)


class EndingSignals:
    """Cancels its task at the first SIGTERM or SIGINT, until it is disarmed.

    Later signals have no effect, but a second SIGINT raises KeyboardInterrupt. Several in one event
    loop end together. The handlers of before are back when the last of them has ended. Outside of
    the main thread signals are left alone.
    """

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - there is one in a coroutine
        self._task = task
        self._armed = True
        self.received = False

    def __enter__(self) -> Self:
        _handlers().add(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _handlers().remove(self)

    def disarm(self) -> None:
        """Cancel nothing any more: the end has begun."""
        self._armed = False

    def receive(self) -> None:
        """Cancel the task, once."""
        if self._armed:
            self._armed = False
            self.received = True
            self._task.cancel()


class _Handlers:
    """The handlers of one event loop."""

    def __init__(self) -> None:
        self._members: set[EndingSignals] = set()
        # The handlers of the program, by signal.
        self._before: dict[signal.Signals, Any] = {}
        self._interrupted = False

    def add(self, member: EndingSignals) -> None:
        """Let the signals end this one, too."""
        self._members.add(member)
        if len(self._members) == 1:
            self._interrupted = False
            self._install()

    def remove(self, member: EndingSignals) -> None:
        """Leave this one alone from now on."""
        self._members.remove(member)
        if not self._members:
            loop = asyncio.get_running_loop()
            for number, before in self._before.items():
                loop.remove_signal_handler(number)
                if before is not None:  # it was not set from Python
                    signal.signal(number, before)
            self._before.clear()

    def _install(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            for number in _ENDING:
                before = signal.getsignal(number)
                loop.add_signal_handler(number, self._receive, number)
                self._before[number] = before
        except (ValueError, RuntimeError, NotImplementedError):  # another thread; Windows
            logger.debug("signals are not handled here")

    def _receive(self, number: signal.Signals) -> None:
        if self._interrupted:
            return
        self._interrupted = True
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        logger.info("%s: finishing what is in hand (Ctrl-C: stop at once)", number.name)
        for member in tuple(self._members):
            member.receive()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Handlers] = WeakKeyDictionary()


def _handlers() -> _Handlers:
    return _of_loops.setdefault(asyncio.get_running_loop(), _Handlers())
