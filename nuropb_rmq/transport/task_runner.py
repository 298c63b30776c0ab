"""Runs coroutines: a task for each one that waits, and none for those that never do.

A task costs more than what most handlers do. So the first step of each coroutine is taken in a
task that several share; the one that has to wait keeps that task to its end, as its own, and the
others get tasks of their own. Python 3.12 has eager tasks for this, 3.11 has not.

Why: docs/decisions/002-handlers-share-a-task.md
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
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
    """A task that begins in the next turn of the loop, when its caller has stored it.

    With an eager task factory (Python 3.12) create_task() would run its first steps at once.
    """
    return asyncio.Task(coroutine, loop=loop, name=name, context=context)


class Runner(Generic[T]):
    """Runs `body` with each thing: all at once, each in its own copy of the runner's context.

    To a body it is as if it had a task of its own: asyncio.current_task() is the same from its
    first step to its last. `on_wait` is called when one waits for the first time, with the task
    that is its own from then on, or before it begins when it has one from its beginning; and
    `on_end` whenever one has ended. They must not raise.
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
        self._loop = asyncio.get_running_loop()  # to ask for it is a system call on Python 3.11
        self._on_wait = on_wait
        self._on_end = on_end
        # Not the context of whoever calls run(): that may be any callback of the event loop.
        self._context = copy_context()
        self._given: deque[T] = deque()
        self._begun = 0
        self._tasks: set[asyncio.Task[None]] = set()
        # Tasks that will take first steps in the next turn of the loop.
        self._starting = 0
        # Whether the latest first step ended in waiting: then the next ones probably do, too.
        self._waiting = False

    def __len__(self) -> int:
        """How many have not ended."""
        return len(self._given) + self._begun

    def run(self, thing: T) -> None:
        """Begin with it in the next turn of the loop."""
        self._given.append(thing)
        if not self._starting:
            self._start()
        elif self._waiting:
            self._start_alone()

    def _start(self) -> None:
        self._starting += 1
        # Else a handler would run within the call that reads its message.
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
            self._tasks.discard(task)  # here, for a done callback is a further turn of the loop

    def _take_first_steps(self, task: asyncio.Task[None]) -> tuple[Body, Context, Any] | None:
        """Run those that do not wait; returns the first one that does, and what it waits for."""
        given = self._given
        self._starting -= 1
        try:
            while given and not task.cancelling():  # else it would be the next one that is hit
                thing = given.popleft()
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
            # With one task after the other, each that waits would take a turn of the loop, and a
            # system call with it.
            for _ in range(len(given) - self._starting):
                self._start_alone()

    async def _work_alone(self) -> None:
        """Run one thing in this task and its context, which are its own from the beginning."""
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - this runs in one
        self._starting -= 1
        try:
            if self._given:
                thing = self._given.popleft()
                if self._given and not self._starting:
                    self._start()  # they came after this task was made
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
        """Cancel all, and wait for `within` seconds; how many go on all the same.

        What was not begun never is. Nothing may be run after this.
        """
        self._given.clear()
        for task in self._tasks:
            task.cancel()
        if not self._tasks:
            return 0
        _, stubborn = await asyncio.wait(tuple(self._tasks), timeout=within)
        self._tasks.clear()  # one that had not begun could not take itself out
        return len(stubborn)


@coroutine
def _rest(body: Body, context: Context, awaited: Any) -> Generator[Any, Any, None]:
    """All steps of a coroutine but the first, which has yielded `awaited` (PEP 380, in a context).

    Whatever awaits this sees what it would see from the coroutine itself.
    """
    while True:
        try:
            given = yield awaited
        except GeneratorExit:
            context.run(body.close)
            raise
        except BaseException as e:  # noqa: BLE001 - a cancellation, or what it waited for: the body's
            step: Callable[[Any], Any] = body.throw
            given = e
        else:
            step = body.send
        try:
            awaited = context.run(step, given)
        except StopIteration:
            return
        finally:
            del given  # an error holds this frame
