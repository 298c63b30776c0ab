"""Run coroutines: those that wait in tasks of their own, the others in a shared task.

A task costs more than most handlers do. So several coroutines take their first steps in one task.
The first that has to wait keeps this task to its end, and the remaining ones get other tasks.
Python 3.12 has eager tasks for this; 3.11 has not.

Why: docs/decisions/002-handlers-share-a-task.md
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import GeneratorType, coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Body = Coroutine[Any, Any, None]


def begin(
    coroutine: Body,
    name: str,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    context: Context | None = None,
) -> asyncio.Task[None]:
    """Return a task that begins in the next turn of the loop, after its caller has stored it.

    With an eager task factory (Python 3.12) create_task() would run its first steps at once.
    """
    return asyncio.Task(coroutine, loop=loop, name=name, context=context)


class Runner(Generic[T]):
    """Runner of `body` for many things concurrently, each in its own copy of the context.

    A body sees the same asyncio.current_task() from its first step to its last. `on_wait` is called
    with the task that a body has for itself: when it waits for the first time, or before it begins.
    `on_end` is called when a body has ended. Neither may raise.
    """

    def __init__(
        self,
        body: Callable[[T], Body],
        *,
        name: str,
        on_wait: Callable[[T, asyncio.Task[None]], None],
        on_end: Callable[[], None],
    ) -> None:
        self._body = body
        self._name = name
        self._loop = asyncio.get_running_loop()  # asking is a system call on Python 3.11
        self._on_wait = on_wait
        self._on_end = on_end
        # The context that bodies get copies of; that of run()'s caller may be any callback's.
        self._context = copy_context()
        self._queue: deque[T] = deque()
        # Number of bodies that have begun and not ended.
        self._begun = 0
        self._tasks: set[asyncio.Task[None]] = set()
        # Number of tasks that will begin in the next turn of the loop.
        self._starting = 0
        # True when the last first step ended in waiting: the next ones probably do, too.
        self._waiting = False

    def __len__(self) -> int:
        """Return the number of things whose bodies have not ended."""
        return len(self._queue) + self._begun

    def run(self, thing: T) -> None:
        """Run the body for `thing`, from the next turn of the loop on."""
        self._queue.append(thing)
        if not self._starting:
            self._start()
        elif self._waiting:
            self._start_alone()

    def _start(self) -> None:
        self._starting += 1
        # In the next turn: else a handler would run inside the call that reads its message.
        self._tasks.add(begin(self._work(), self._name, loop=self._loop))

    def _start_alone(self) -> None:
        self._starting += 1
        context = self._context.copy()
        self._tasks.add(begin(self._work_alone(), self._name, loop=self._loop, context=context))

    async def _work(self) -> None:
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - this runs in one
        try:
            begun = self._take_first_steps(task)
            if begun is not None:
                try:
                    await _rest(*begun)
                finally:
                    self._end()
        finally:
            self._tasks.discard(task)  # a done callback would take another turn of the loop

    def _take_first_steps(self, task: asyncio.Task[None]) -> tuple[Body, Context, Any] | None:
        """Run bodies until one waits; return it, its context and the awaited future, or None."""
        queue = self._queue
        self._starting -= 1
        try:
            while queue and not task.cancelling():  # the cancellation must not hit another body
                thing = queue.popleft()
                body = self._body(thing)
                context = self._context.copy()
                self._begun += 1
                try:
                    awaited = context.run(body.send, None)
                except StopIteration:
                    self._end()
                except BaseException:
                    self._end()
                    raise
                else:
                    self._waiting = True
                    self._on_wait(thing, task)
                    return body, context, awaited
            self._waiting = False
            return None
        finally:
            # All at once: starting one task after the other would take a turn of the loop, and a
            # system call, for each.
            for _ in range(len(queue) - self._starting):
                self._start_alone()

    async def _work_alone(self) -> None:
        """Run one body in this task and context from its beginning."""
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - this runs in one
        self._starting -= 1
        try:
            if self._queue:
                thing = self._queue.popleft()
                if self._queue and not self._starting:
                    self._start()  # for things that came after this task was made
                self._begun += 1
                try:
                    self._on_wait(thing, task)
                    await self._body(thing)
                finally:
                    self._end()
        finally:
            self._tasks.discard(task)

    def _end(self) -> None:
        self._begun -= 1
        self._on_end()

    async def cancel(self, within: float) -> int:
        """Cancel all bodies; return the number of those that still run after `within` seconds.

        Bodies that were not begun never are. run() must not be called after this.
        """
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        if not self._tasks:
            return 0
        _, stubborn = await asyncio.wait(tuple(self._tasks), timeout=within)
        self._tasks.clear()  # tasks that had not begun could not remove themselves
        return len(stubborn)


def body_of(awaited: GeneratorType[Any, Any, Any]) -> Body | None:
    """Return the body that a task runs, if it is this generator of a Runner which runs it."""
    frame = awaited.gi_frame
    if frame is None or frame.f_globals is not globals() or frame.f_code.co_name != "_rest":
        return None
    body: Body = frame.f_locals["body"]
    return body


@coroutine
def _rest(body: Body, context: Context, awaited: Any) -> Generator[Any, Any, None]:
    """Run the rest of a coroutine that has yielded `awaited`, as `await` would (PEP 380)."""
    while True:
        try:
            received = yield awaited
        except GeneratorExit:
            context.run(body.close)
            raise
        except BaseException as e:  # noqa: BLE001 - for the body: a cancellation, or the awaited error
            step: Callable[[Any], Any] = body.throw
            received = e
        else:
            step = body.send
        try:
            awaited = context.run(step, received)
        except StopIteration:
            return
        finally:
            del received  # an error would keep this frame in a reference cycle
