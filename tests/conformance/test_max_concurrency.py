"""Methods and event handlers of which at most so many calls run at a time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from nuropb_rmq import (
    NuropbAuthorizationError,
    NuropbContextManager,
    NuropbTimeoutError,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)

from ..mesh.support import Meshes
from ..seams import in_hand
from ..support import eventually
from .brokers import Place, becomes

MOST = 2


class Orders:
    """A service whose calls run until they are let go."""

    _service_name = "orders"

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.order: list[int] = []
        self.gate = asyncio.Semaphore(0)
        self.lock = threading.Lock()
        self.go = threading.Semaphore(0)

    async def _work(self, n: int) -> int:
        self.order.append(n)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.acquire()
            return n
        finally:
            self.running -= 1

    @publish_to_mesh(max_concurrency=MOST)
    async def bounded(self, n: int) -> int:
        return await self._work(n)

    @nuropb_context
    @publish_to_mesh(authorize_func=lambda token: token == "good" or None, max_concurrency=MOST)
    async def guarded(self, ctx: NuropbContextManager, n: int) -> int:
        return await self._work(n)

    @mesh_event("orders.made", max_concurrency=MOST)
    async def on_made(self, event: int) -> None:
        await self._work(event)

    @publish_to_mesh(max_concurrency=MOST)
    def in_thread(self, n: int) -> int:
        with self.lock:
            self.order.append(n)
            self.running += 1
            self.most = max(self.most, self.running)
        self.go.acquire(timeout=10)
        with self.lock:
            self.running -= 1
        return n

    async def free(self) -> str:
        return "at once"


async def calls(client: Any, method: str, count: int, **options: Any) -> list[asyncio.Task[int]]:
    """Calls that were sent one after the other."""
    made = []
    for n in range(count):
        call = client.request("orders", method, {"n": n}, encrypted=False, **options)
        made.append(asyncio.create_task(call))
        await asyncio.sleep(0)
    return made


@pytest.mark.parametrize("method", ["bounded", "guarded"])
async def test_at_most_so_many_in_order(meshes: Meshes, method: str) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    waiting = await calls(client, method, 6, context={"Authorization": "good"})
    await eventually(lambda: orders.running == MOST)
    assert await client.request("orders", "free") == "at once"
    assert orders.order == [0, 1]
    for _ in range(6):
        orders.gate.release()
    assert await asyncio.gather(*waiting) == list(range(6))
    assert orders.order == list(range(6))
    assert orders.most == MOST


async def test_a_method_in_threads(meshes: Meshes) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    waiting = await calls(client, "in_thread", 6)
    await eventually(lambda: orders.running == MOST)
    for _ in range(6):
        orders.go.release()
    assert await asyncio.gather(*waiting) == list(range(6))
    assert orders.most == MOST


async def test_an_event_handler(meshes: Meshes) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    for n in range(6):
        await client.publish_event("orders.made", n)
    await eventually(lambda: orders.running == MOST)
    for _ in range(6):
        orders.gate.release()
    await eventually(lambda: not orders.running and len(orders.order) == 6)
    assert orders.order == list(range(6))
    assert orders.most == MOST


async def test_who_is_not_authorized_does_not_wait(meshes: Meshes) -> None:
    class Guarded(Orders):
        @nuropb_context
        @publish_to_mesh(authorize_func=lambda token: None, max_concurrency=1)
        async def refused(self, ctx: NuropbContextManager, n: int) -> int:
            return await self._work(n)

        async def _claims(token: str) -> None:  # type: ignore[misc]  # noqa: N805
            return None

        @publish_to_mesh(authorize_func=_claims, max_concurrency=1)
        async def refused_async(self, n: int) -> int:
            return await self._work(n)

    await meshes.serve(Guarded())
    client = await meshes.client()
    for method in ("refused", "refused_async"):
        with pytest.raises(NuropbAuthorizationError):
            await client.request("orders", method, {"n": 1}, context={"Authorization": "bad"})


async def test_one_that_fails_or_is_too_late_frees_its_place(meshes: Meshes) -> None:
    """A call that waits for its turn is ended by handler_timeout, too."""
    orders = Orders()
    await meshes.serve(orders, amqp_url=meshes.config(handler_timeout=0.3))
    client = await meshes.client()
    late = await calls(client, "bounded", 4)
    failed = await asyncio.gather(*late, return_exceptions=True)
    assert all("handler_timeout" in str(each) for each in failed), failed
    await eventually(lambda: not orders.running)
    orders.gate.release()
    assert await client.request("orders", "bounded", {"n": 9}) == 9


async def test_a_call_whose_time_is_over_before_its_turn_is_not_run(
    meshes: Meshes, place: Place
) -> None:
    orders = Orders()
    mesh = await meshes.serve(orders)
    client = await meshes.client()
    held = await calls(client, "bounded", MOST)
    await eventually(lambda: orders.running == MOST)
    with pytest.raises(NuropbTimeoutError):
        await client.request("orders", "bounded", {"n": 7}, timeout=0.1)
    await eventually(lambda: any(work.expired() for work in in_hand(mesh.transport)))
    for _ in range(MOST):
        orders.gate.release()
    assert await asyncio.gather(*held) == [0, 1]
    await becomes(lambda: place.depth("nuropb-orders-sq"), 0)
    orders.gate.release()
    assert await client.request("orders", "bounded", {"n": 8}) == 8
    assert 7 not in orders.order


async def test_stop_while_calls_wait(meshes: Meshes, place: Place) -> None:
    """Calls that have not had their turn go back, as those that run."""
    orders = Orders()
    mesh = await meshes.serve(orders)
    client = await meshes.client()
    for n in range(5):
        await client.command("orders", "bounded", {"n": n})
    await eventually(lambda: orders.running == MOST)
    await mesh.stop(grace=0.1)
    await becomes(lambda: place.depth("nuropb-orders-sq"), 5)
    assert not orders.running
    for _ in range(5):
        orders.gate.release()
    await mesh.start()  # the same object, and the same turns
    await eventually(lambda: len(orders.order) == 2 + 5)
    await becomes(lambda: place.depth("nuropb-orders-sq"), 0)


def test_in_another_event_loop(place: Place) -> None:
    """A mesh can be started in one loop after another; each has the whole number."""
    orders = Orders()

    async def run() -> None:
        orders.gate = asyncio.Semaphore(0)
        meshes = Meshes(place.url)
        await meshes.serve(orders)
        client = await meshes.client()
        waiting = await calls(client, "bounded", 4)
        await eventually(lambda: orders.running == MOST)
        for _ in range(4):
            orders.gate.release()
        await asyncio.gather(*waiting)
        await meshes.stop()

    for _ in range(2):
        asyncio.run(run())
    assert orders.most == MOST
