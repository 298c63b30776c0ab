"""Coroutines that are run: those that wait have a task each, the others share one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar

import pytest

from nuropb_rmq.transport.task_runner import Runner

from ...seams import tasks_of
from ...support import eventually

Job = Callable[[], Awaitable[None]]

what: ContextVar[str] = ContextVar("what", default="nothing")


class Jobs:
    """A runner of callables, and what was seen of it."""

    def __init__(self) -> None:
        self.ended = 0
        self.tasks: list[asyncio.Task[object] | None] = []
        self.waiting: list[tuple[Job, asyncio.Task[None]]] = []
        self.runner: Runner[Job] = Runner(
            self._run, name="job", on_wait=self._wait, on_end=self._end
        )

    async def _run(self, job: Job) -> None:
        self.tasks.append(asyncio.current_task())
        await job()

    def _wait(self, job: Job, task: asyncio.Task[None]) -> None:
        self.waiting.append((job, task))

    def _end(self) -> None:
        self.ended += 1

    def run(self, *jobs: Job) -> None:
        for job in jobs:
            self.runner.run(job)

    async def all_ended(self, count: int) -> None:
        await eventually(lambda: self.ended == count)
        assert len(self.runner) == 0


async def quick() -> None:
    """It never waits."""


async def waits() -> None:
    task = asyncio.current_task()
    for _ in range(3):
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
    await asyncio.sleep(0.001)
    assert asyncio.current_task() is task


async def test_those_that_do_not_wait_share_a_task() -> None:
    jobs = Jobs()
    jobs.run(*[quick] * 5)
    assert (jobs.ended, len(jobs.runner)) == (0, 5), "not before the next turn"
    await jobs.all_ended(5)
    assert len(set(jobs.tasks)) == 1
    jobs.run(quick)
    await jobs.all_ended(6)
    assert len(set(jobs.tasks)) == 2


async def test_one_that_waits_has_a_task_of_its_own() -> None:
    jobs = Jobs()
    jobs.run(quick, waits, quick, waits, waits, quick)
    await jobs.all_ended(6)
    first, second, *others = jobs.tasks
    assert first is second
    assert len({id(task) for task in (first, *others)}) == 5, "behind one that waits, each"
    own = [
        (job, jobs.tasks[at]) for at, job in enumerate([quick, waits, quick, waits, waits, quick])
    ]
    assert jobs.waiting == own[1:]


async def test_nobody_waits_for_one_that_waits() -> None:
    jobs = Jobs()
    gate = asyncio.Event()

    async def held() -> None:
        await gate.wait()

    jobs.run(held, held, quick, held, quick)
    await eventually(lambda: jobs.ended == 2)
    assert len(jobs.runner) == 3
    gate.set()
    await jobs.all_ended(5)


async def test_each_has_a_copy_of_the_context_that_the_runner_was_made_in() -> None:
    what.set("outside")
    jobs = Jobs()
    seen: list[str] = []

    def named(name: str, job: Job) -> Job:
        async def run() -> None:
            seen.append(what.get())
            what.set(name)
            await job()
            seen.append(what.get())

        return run

    what.set("the caller's of run()")
    jobs.run(named("a", quick), named("b", waits), named("c", quick), named("d", waits))
    await jobs.all_ended(4)
    assert sorted(seen) == ["a", "b", "c", "d", *["outside"] * 4]
    assert what.get() == "the caller's of run()"


async def test_where_one_waits_the_others_take_their_first_step_in_the_next_turn() -> None:
    jobs = Jobs()
    turns: list[int] = []
    turn = 0

    async def counting() -> None:
        turns.append(turn)
        await asyncio.sleep(0)

    jobs.run(*[counting] * 32)
    while jobs.ended < 32:
        turn += 1
        await asyncio.sleep(0)
    assert len(set(turns)) == 2


async def test_those_that_come_while_tasks_are_about_to_begin_are_run_too() -> None:
    jobs = Jobs()

    async def adding() -> None:
        if len(jobs.tasks) < 100:
            asyncio.get_running_loop().call_soon(jobs.run, adding, adding)
        await asyncio.sleep(0)

    jobs.run(adding, adding, adding)
    await eventually(lambda: len(jobs.tasks) >= 100 and len(jobs.runner) == 0)


if sys.version_info >= (3, 12):

    async def test_an_eager_task_factory_changes_nothing() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        try:
            jobs = Jobs()
            jobs.run(quick, waits, quick, waits)
            assert (jobs.ended, len(jobs.runner)) == (0, 4), "not before the next turn"
            await jobs.all_ended(4)
            await eventually(lambda: not tasks_of(jobs.runner))
        finally:
            loop.set_task_factory(None)


async def test_timeouts_and_futures_work_from_the_first_step_on() -> None:
    jobs = Jobs()
    seen: list[str] = []

    async def late() -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)
        except TimeoutError:
            seen.append("late")

    async def failing() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, ValueError("its error"))
        with pytest.raises(ValueError, match="its error"):
            await future
        seen.append("failed")

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(waits())
        seen.append("group")

    jobs.run(late, failing, group)
    await jobs.all_ended(3)
    assert sorted(seen) == ["failed", "group", "late"]


async def test_one_that_cancels_itself_does_not_hit_the_next() -> None:
    jobs = Jobs()

    async def suicidal() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    jobs.run(suicidal, waits, quick)
    await jobs.all_ended(3)
    assert jobs.tasks[0] is not jobs.tasks[1]


async def test_one_that_raises_does_not_hit_the_next() -> None:
    jobs = Jobs()

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def later() -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    jobs.run(cancelled, quick, later, waits)
    await jobs.all_ended(4)


async def test_cancel_ends_all_and_counts_who_ignores_it() -> None:
    jobs = Jobs()
    ended: list[str] = []
    gate = asyncio.Event()

    async def patient() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("patient")

    async def stubborn() -> None:
        while not gate.is_set():
            with suppress(asyncio.CancelledError):
                await gate.wait()

    jobs.run(patient, stubborn)
    await eventually(lambda: len(jobs.tasks) == 2)
    jobs.run(patient)
    assert await jobs.runner.cancel(0.01) == 1
    assert ended == ["patient"]
    assert len(jobs.tasks) == 2, "the third was never begun"
    gate.set()
    await jobs.all_ended(2)


async def test_cancel_before_anything_was_begun() -> None:
    jobs = Jobs()
    assert await jobs.runner.cancel(0.01) == 0
    jobs.run(quick)
    assert await jobs.runner.cancel(0.01) == 0
    assert (jobs.tasks, len(jobs.runner)) == ([], 0)
