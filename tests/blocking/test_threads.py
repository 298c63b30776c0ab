"""Many threads use one mesh."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from nuropb_rmq import (
    NuropbException,
    NuropbTimeoutError,
    NuropbTransportError,
    State,
    TransportClosedError,
    blocking,
)
from nuropb_rmq.mesh import loop_thread

from .conftest import Meshes
from .support import Orders, loop_threads, until

THREADS = 100
CALLS = 20
NOWHERE = "amqp://guest:guest@127.0.0.1:1/"


def all_at_once(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Run it in so many threads, which begin together; return what each returns."""
    together = threading.Barrier(threads)

    def run(number: int) -> Any:
        together.wait(30)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads), timeout=120))


def test_each_gets_its_own_answers(meshes: Meshes) -> None:
    meshes.start(Orders())
    mesh = meshes.start()

    def work(number: int) -> list[int]:
        return [
            mesh.request("orders", "add", {"a": number * CALLS, "b": n}, timeout=30)
            for n in range(CALLS)
        ]

    answers = all_at_once(work)
    assert answers == [list(range(n * CALLS, (n + 1) * CALLS)) for n in range(THREADS)]


def test_stop_while_all_of_them_call(meshes: Meshes) -> None:
    """Each call ends, with its answer or an error that says why not."""
    meshes.start(Orders())
    mesh = meshes.start()
    called = threading.Semaphore(0)

    def work(number: int) -> NuropbException:
        while True:
            try:
                answer = mesh.request("orders", "add", {"a": number, "b": 1}, timeout=30)
            except NuropbException as e:
                return e
            assert answer == number + 1
            called.release()

    def stop() -> None:
        for _ in range(THREADS):
            assert called.acquire(timeout=60)
        mesh.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    errors = all_at_once(work)
    stopper.join(60)
    assert {type(each) for each in errors} == {TransportClosedError}
    assert all("stopped" in str(each) for each in errors)


def test_start_and_stop_in_turn_while_others_call(in_memory: Meshes) -> None:
    mesh = blocking.Mesh(in_memory.url, service=Orders())
    over = threading.Event()

    def work(_: int) -> int:
        answers = 0
        while not over.is_set():
            try:
                answers += mesh.request("orders", "echo", {"n": 1}, timeout=10)
            except NuropbTransportError:
                over.wait(0.005)
        return answers

    def restart() -> None:
        try:
            for _ in range(20):
                mesh.start()
                assert mesh.request("orders", "echo", {"n": 1}, timeout=10) == 1
                mesh.stop()
        finally:
            over.set()

    with ThreadPoolExecutor(9) as pool:
        workers = [pool.submit(work, n) for n in range(8)]
        pool.submit(restart).result(60)
        assert all(each.result(20) >= 0 for each in workers)


def test_only_one_of_several_starts(in_memory: Meshes) -> None:
    mesh = blocking.Mesh(in_memory.url)

    def start(_: int) -> str:
        try:
            mesh.start()
        except NuropbTransportError as e:
            return str(e)
        return "started"

    outcomes = all_at_once(start, 10)
    assert outcomes.count("started") == 1
    assert all("already" in each for each in outcomes if each != "started")
    mesh.publish_event("orders.placed", {})
    all_at_once(lambda _: mesh.stop(), 10)
    assert mesh.state is State.STOPPED


def test_stop_ends_a_start(in_memory: Meshes) -> None:
    mesh = blocking.Mesh(NOWHERE, start_timeout=60)
    failed: list[NuropbException] = []

    def start() -> None:
        try:
            mesh.start()
        except NuropbException as e:
            failed.append(e)

    starting = threading.Thread(target=start)
    starting.start()
    until(lambda: mesh.state is State.CONNECTING)
    mesh.stop()
    starting.join(10)
    assert [type(each) for each in failed] == [TransportClosedError]
    assert loop_threads() == []


def test_calls_while_the_loop_ends() -> None:
    """A call in each of the loop's last steps ends with an error, and none leaves a coroutine."""
    thread = loop_thread.LoopThread("nuropb-blocking-test", None)
    calls: list[loop_thread.Call[None]] = []

    async def wait() -> None:
        await asyncio.Event().wait()

    def again() -> None:
        calls.append(thread.call(wait))
        calls[-1].begin()
        thread.loop.call_soon(again)

    thread.loop.call_soon_threadsafe(again)
    thread.loop.call_soon_threadsafe(thread.end)
    thread.join()
    until(lambda: thread.over)
    assert len(calls) > 2
    for call in calls:
        with pytest.raises(TransportClosedError):
            call.outcome(within=30)
    calls.clear()
    gc.collect()  # a coroutine that nobody awaited would be a warning now: an error


def test_stop_says_that_something_blocks_the_loop(
    in_memory: Meshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_thread, "STOPPED_WITHIN", 0.1)
    monkeypatch.setattr(loop_thread, "_MARGIN", 0.1)
    orders = Orders()
    mesh = in_memory.start(orders, sync_in_threads=False)

    def call() -> None:
        with suppress(NuropbException):  # it may be answered, or not
            mesh.request("orders", "block", timeout=30, encrypted=False)

    calling = threading.Thread(target=call)
    calling.start()
    assert orders.begun.wait(5)
    with pytest.raises(NuropbTimeoutError, match="something blocks the mesh's event loop"):
        mesh.stop(grace=0)
    orders.release.set()
    mesh.stop()
    calling.join(10)
    assert loop_threads() == []
