"""Event loops in threads of their own, for meshes whose calls block the threads that make them."""

from __future__ import annotations

import asyncio
import atexit
import logging
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Lock, Thread, current_thread
from time import monotonic
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, TypeVar

from ..broker.forked import ends_in_children
from ..exceptions import NuropbTimeoutError, TransportClosedError
from ..transport.transport import STOPPED_WITHIN
from .mesh import Mesh

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("nuropb_rmq.mesh")

STOPPED: Final = "the transport is stopped: call start() again"
EXIT_GRACE: Final = 1.0
"""Seconds that running handlers have when the interpreter exits and stop() was not called."""
_MARGIN: Final = 2.0
"""Seconds, beyond those that Mesh.stop() takes at most, after which the loop must be blocked."""
_JOINED_WITHIN: Final = 5.0
"""Seconds in which a thread ends after its loop has nothing to do any more."""


class Call(Generic[T]):
    """A call of a coroutine function in a loop's thread, for which another thread may wait."""

    __slots__ = (
        "_begun",
        "_called",
        "_error",
        "_gate",
        "_loop",
        "_others",
        "_task",
        "_traceback",
        "_value",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        called: Callable[[], Coroutine[Any, Any, T]],
        others: Calls,
    ) -> None:
        self._loop = loop
        self._called = called
        self._others = others
        self._begun = False
        self._task: asyncio.Task[None] | None = None
        self._value: T
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._gate = Lock()  # released once; a concurrent.futures.Future costs more
        self._gate.acquire()

    def begin(self) -> None:
        """Begin it, from any thread. Raises TransportClosedError after the end of the loop."""
        self._begun = True
        self._others.add(self)  # first: when the loop closes now, LoopThread._run() finds it
        try:
            self._loop.call_soon_threadsafe(self._start)
        except RuntimeError:
            self._others.discard(self)
        else:
            return
        raise TransportClosedError(STOPPED)

    def _start(self) -> None:
        # In the loop's thread, in a copy of the context of the thread that calls.
        if self._others.closing:  # the loop may close before the first step of a new task
            self.end(TransportClosedError(STOPPED))
            return
        self._task = self._loop.create_task(self._run(), name="nuropb-blocking-call")

    async def _run(self) -> None:
        try:
            self._value = await self._called()
        except asyncio.CancelledError:
            self._error = TransportClosedError(STOPPED)
        except BaseException as e:  # noqa: BLE001 - outcome() raises it again
            self._error = e
            self._traceback = e.__traceback__ and e.__traceback__.tb_next  # without this frame
        self.end()

    def end(self, error: BaseException | None = None) -> None:
        """Let go the thread that waits; with an error when the loop has ended before the call."""
        self._error = error or self._error
        self._others.discard(self)
        self._gate.release()

    def outcome(self, within: float = -1) -> T:
        """Begin it unless it has begun, wait, and return its result or raise its error.

        When this thread is interrupted (Ctrl-C), the call is cancelled in the loop, and not waited
        for. Raises NuropbTimeoutError after `within` seconds, unless that is -1, and
        TransportClosedError after the end of the loop.
        """
        try:
            if not self._begun:
                self.begin()  # here, so that no interrupt leaves it to run on
            ended = self._gate.acquire(timeout=within)
        except TransportClosedError:
            raise
        except BaseException:
            with suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._cancel)
            raise
        if not ended:
            raise NuropbTimeoutError(
                f"not done within {within:g} s: something blocks the mesh's event loop, perhaps an "
                "observer, a callback of on_state_change, or a method with sync_in_threads=False"
            )
        error, self._error = self._error, None
        if error is None:
            return self._value
        if loops.exiting and current_thread().daemon:
            self._gate.acquire()  # it ends with the process, which its traceback would only disturb
        traceback, self._traceback = self._traceback, None
        try:
            # That of the loop's frames alone: other threads may have raised the same error.
            raise error.with_traceback(traceback)
        finally:
            del error, traceback  # they hold this frame

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Calls(set[Call[Any]]):
    """The calls in a loop that have not ended."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False
        """True when the loop begins no more: it cancels those that have begun, and closes."""


class LoopThread:
    """An event loop in a daemon thread, from its construction until end()."""

    def __init__(self, name: str, shared_as: str | None) -> None:
        self.shared_as = shared_as
        self.users: set[Run] = set()
        self.over = False
        """True when nothing can be called in it any more."""
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop = self._runner.get_loop()
        self._calls = Calls()
        self._ending = asyncio.Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._runner.close()
            raise

    def _run(self) -> None:
        try:
            with self._runner:
                self._runner.run(self._until_end())
        finally:
            self.over = True
            loops.remove(self)
            for call in tuple(self._calls):  # scheduled too late for the loop to begin them
                call.end(TransportClosedError(STOPPED))

    async def _until_end(self) -> None:
        await self._ending.wait()
        self._calls.closing = True

    def call(self, called: Callable[[], Coroutine[Any, Any, T]]) -> Call[T]:
        """Return a call in this loop, which has not begun."""
        return Call(self.loop, called, self._calls)

    def end(self) -> None:
        """End the loop, in its thread."""
        self._ending.set()

    def join(self) -> None:
        """Wait for the end of the thread if its loop is to end."""
        if self._ending.is_set():
            self._thread.join(_JOINED_WITHIN)
            if self._thread.is_alive():
                logger.warning(
                    "stop(): the thread %s has not ended after %g s",
                    self._thread.name,
                    _JOINED_WITHIN,
                )


class Run:
    """One run of a mesh in a loop's thread, from before start() until it has stopped."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.left = False
        self._thread = loops.join(self, mesh)

    @property
    def over(self) -> bool:
        """True when it has ended, or is a parent process's."""
        return self.left or self._thread.over

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the mesh runs in."""
        return self._thread.loop

    def call(
        self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Await `function(*args, **kwargs)` in the loop; return its result or raise its error."""
        return self._thread.call(lambda: function(*args, **kwargs)).outcome()

    def end(self, grace: float) -> None:
        """Stop the mesh, and the thread if no other mesh runs in it; return when both have ended.

        Raises NuropbTimeoutError when the loop is blocked.
        """
        with suppress(TransportClosedError):  # another thread was faster
            self._ending(grace).outcome(grace + STOPPED_WITHIN + _MARGIN)
        self._thread.join()

    def end_soon(self, grace: float) -> Call[None]:
        """Do what end() does without waiting. Raises TransportClosedError when it has ended."""
        call = self._ending(grace)
        call.begin()
        return call

    def _ending(self, grace: float) -> Call[None]:
        return self._thread.call(lambda: self._end(grace))

    async def _end(self, grace: float) -> None:
        try:
            await self._mesh.stop(grace=grace)
        finally:
            loops.leave(self, self._thread)

    def forsake(self) -> None:
        """Stop a mesh that nobody can stop any more, without waiting."""
        if not (self.over or loops.exiting):
            with suppress(TransportClosedError):
                self.end_soon(0)
            text = f"{self._mesh!r} was never stopped: use `with`, or call stop()"
            warnings.warn(text, ResourceWarning, stacklevel=2)


class _Loops:
    """All loops of this process. Meshes on one memory:// broker share one, for it serves one."""

    def __init__(self) -> None:
        self.exiting = False
        self._lock = Lock()
        self._running: set[LoopThread] = set()
        # In a forked child: never touched again, not even by the garbage collector, for to close
        # such a loop would end what its parent's selector watches.
        self._of_parents: list[LoopThread] = []

    def join(self, run: Run, mesh: Mesh) -> LoopThread:
        """Return the loop's thread for a run: a new one, unless it is to share one."""
        broker = mesh.transport.config.broker
        shared_as = broker.vhost if broker.in_memory else None
        ends_in_children(self)
        with self._lock:
            for thread in self._running:
                if shared_as is not None and thread.shared_as == shared_as:
                    break
            else:
                thread = LoopThread(f"nuropb-blocking-{mesh.service_name}", shared_as)
                self._running.add(thread)
            thread.users.add(run)
        return thread

    def leave(self, run: Run, thread: LoopThread) -> None:
        """End a run, in its loop, and the loop after the last one."""
        if self.exiting:
            return  # to end a loop may take a new thread, which the interpreter refuses now
        with self._lock:
            run.left = True
            thread.users.discard(run)
            if thread.users:
                return
            self._running.discard(thread)
        thread.end()

    def remove(self, thread: LoopThread) -> None:
        """Forget a loop that has ended."""
        with self._lock:
            self._running.discard(thread)

    def disown(self) -> None:
        """Forget all loops, in a forked child."""
        for thread in self._running:
            thread.over = True
        self._of_parents += self._running
        self._running = set()
        self._lock = Lock()  # another thread of the parent may have held it

    def exit(self) -> None:
        """Stop all meshes when the interpreter exits: what they have in hand goes back."""
        self.exiting = True
        ends = []
        for run in [run for thread in tuple(self._running) for run in tuple(thread.users)]:
            with suppress(TransportClosedError):
                ends.append(run.end_soon(EXIT_GRACE))
        deadline = monotonic() + EXIT_GRACE + STOPPED_WITHIN
        for end in ends:
            with suppress(Exception):  # there is nobody left to tell
                end.outcome(max(deadline - monotonic(), 0))


loops: Final = _Loops()
atexit.register(loops.exit)
