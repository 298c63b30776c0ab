"""A Mesh in a loop's thread: started, called, listened to and stopped from other threads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from threading import Lock
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from ..broker.forked import ends_in_children
from ..broker.state import FORKED
from ..exceptions import NuropbTransportError, TransportClosedError
from ..waiting import in_event_loop
from .loop_thread import STOPPED, Run
from .mesh import Mesh

P = ParamSpec("P")
T = TypeVar("T")

_NOT_STARTED: Final = "not started: use `with`, or start(), before calling"
_IN_OWN_LOOP: Final = (
    "called in the thread of the mesh's own event loop, which would wait for itself: call it by "
    "asyncio.to_thread(), or from a synchronous method, which runs in a thread of its own"
)
_IN_A_LOOP: Final = (
    "called in a running event loop, which it would block: use nuropb_rmq.Mesh there, and await "
    "its calls"
)

Add = Callable[[Mesh], Callable[[], None]]
"""Adds a callback or an observer to a mesh; returns a function that removes it."""


class Hosted:
    """A mesh, and its run in a loop's thread while there is one; see blocking.Mesh.

    `mesh` is another one after a fork: what the parent's loop did in that moment is half done in
    the child.
    """

    def __init__(self, make: Callable[[], Mesh]) -> None:
        # Only start() changes it, so nobody needs a lock to use it.
        self._run: Run | None = None
        self._make = make
        self.mesh = make()
        self._starting = Lock()
        self._forked = False
        self._listeners: dict[object, _Listener] = {}

    def __del__(self) -> None:
        if self._run is not None:
            self._run.forsake()

    def listen(self, add: Add) -> Callable[[], None]:
        """Add a callback or an observer; return a function that removes it."""
        key = object()
        self._listeners[key] = _Listener(add, self.mesh)

        def remove() -> None:
            listener = self._listeners.pop(key, None)
            if listener is not None:
                listener.remove()

        return remove

    def start(self) -> None:
        """Start a loop and the mesh in it; see blocking.Mesh.start()."""
        self._check_thread()
        if not self._starting.acquire(blocking=False):
            raise NuropbTransportError("start(): the transport is CONNECTING already")
        try:
            run = self._run
            if run is None or run.over:
                run = self._new_run()
            try:
                run.call(self.mesh.start)
            except Exception:
                if self.mesh.state.over:  # else it runs already
                    run.end(0)
                raise
            except BaseException:
                run.end_soon(0)
                raise
        finally:
            self._starting.release()

    def _new_run(self) -> Run:
        if self._forked:
            self.mesh = self._make()
            for listener in self._listeners.values():
                listener.move(self.mesh)
            self._forked = False
        ends_in_children(self)
        self._run = Run(self.mesh)
        return self._run

    def stop(self, grace: float) -> None:
        """Stop the mesh, and end its loop; see blocking.Mesh.stop()."""
        run = self._run
        if run is not None and not run.over:
            self._check_thread()
            run.end(grace)

    def disown(self) -> None:
        """End, in a forked child, where the loop's thread is not."""
        self._forked = self._forked or (self._run is not None and not self._run.left)
        self._run = None
        self._starting = Lock()  # another thread of the parent may have held it

    def call(
        self,
        method: Callable[Concatenate[Mesh, P], Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call a method of Mesh in the loop, and wait; raise its error, or say why it cannot be."""
        run = self._run
        if run is None or run.over:
            raise self._closed_error()
        if in_event_loop():
            self._check_thread()
        return run.call(method, self.mesh, *args, **kwargs)

    def _closed_error(self) -> TransportClosedError:
        if self._forked:
            return TransportClosedError(f"the transport is stopped: {FORKED}")
        return TransportClosedError(_NOT_STARTED if self._run is None else STOPPED)

    def _check_thread(self) -> None:
        """Raise NuropbTransportError where a call must not wait."""
        if in_event_loop():
            loop = asyncio.get_running_loop()
            if self._run is not None and loop is self._run.loop:
                raise NuropbTransportError(_IN_OWN_LOOP)
            if not _runs_notebook(loop):
                raise NuropbTransportError(_IN_A_LOOP)


class _Listener:
    """A callback or an observer, which a forked child takes along to another mesh."""

    def __init__(self, add: Add, mesh: Mesh) -> None:
        self._add = add
        self.remove = add(mesh)

    def move(self, mesh: Mesh) -> None:
        """Add it to another mesh."""
        self.remove = self._add(mesh)


def _runs_notebook(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this is the event loop of a Jupyter kernel, in which it runs the cells.

    Such a loop only waits for the next cell, so a cell may block it, as any long cell does. A loop
    that a cell has made in another thread is not meant.
    """
    kernelapp = sys.modules.get("ipykernel.kernelapp")  # loaded wherever it runs: never import it
    if kernelapp is None or not kernelapp.IPKernelApp.initialized():
        return False
    runner = getattr(kernelapp.IPKernelApp.instance(), "io_loop", None)  # start() sets it
    return getattr(runner, "asyncio_loop", None) is loop
