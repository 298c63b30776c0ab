"""examples/fastapi_app under uvicorn, in a process of its own, with the service in another."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from examples.fastapi_app.app import TIMEOUT
from nuropb_rmq.testing import RabbitMQNode

from ..support import eventually
from .programs import Program, Programs

MARGIN = 3.0  # seconds above a call's timeout, for HTTP and a busy machine
BACK_WITHIN = 10.0  # seconds, from when the broker's port is open


@pytest.fixture
async def url(mortal_node: RabbitMQNode) -> AsyncIterator[str]:
    """A virtual host on a broker that may be restarted."""
    vhost = f"front-{os.urandom(4).hex()}"
    await asyncio.to_thread(mortal_node.rabbitmqctl, "add_vhost", vhost)
    everything = ("guest", ".*", ".*", ".*")
    await asyncio.to_thread(mortal_node.rabbitmqctl, "set_permissions", "-p", vhost, *everything)
    yield mortal_node.amqp_url + vhost
    if not mortal_node.running:
        await asyncio.to_thread(mortal_node.start)
    await asyncio.to_thread(mortal_node.rabbitmqctl, "delete_vhost", vhost)


class Front:
    """The application, called over HTTP."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.http: httpx.AsyncClient

    @classmethod
    def start(cls, programs: Programs, url: str, loop: str = "auto", **environment: str) -> Front:
        """Run it; see up()."""
        options = ("--host", "127.0.0.1", "--port", "0", "--loop", loop, "--no-access-log")
        command = ("uvicorn", "examples.fastapi_app.app:app", *options)
        return cls(programs.start(url, *command, **environment))

    async def up(self) -> Front:
        """Wait until it listens."""
        await self.program.says("Uvicorn running on ")
        base = self.program.err.partition("Uvicorn running on ")[2].split()[0]
        self.http = httpx.AsyncClient(base_url=base, timeout=TIMEOUT + MARGIN, trust_env=False)
        return self

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of what is there."""
        answer = await self.http.get(path)
        return answer.status_code, answer.json()

    async def order(self) -> str:
        """Place an order; its number."""
        answer = await self.http.post("/orders", json={"item": "lamp", "count": 2})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["order_id"])

    async def pack(self, order_id: str, seconds: float) -> int:
        """Have it packed; the status."""
        params = {"seconds": seconds}
        return (await self.http.post(f"/orders/{order_id}/packing", params=params)).status_code

    async def until(self, path: str, status: int, within: float) -> None:
        """Ask until this is the status."""
        deadline = asyncio.get_running_loop().time() + within
        while (got := (await self.get(path))[0]) != status:
            assert asyncio.get_running_loop().time() < deadline, f"{path}: {got}, not {status}"


StartFront = Callable[..., Awaitable[Front]]


@pytest.fixture
async def start_front(programs: Programs) -> AsyncIterator[StartFront]:
    """Starts fronts; ends their HTTP clients."""
    started: list[Front] = []

    async def start(url: str, **options: str) -> Front:
        started.append(await Front.start(programs, url, **options).up())
        return started[-1]

    yield start
    for each in started:
        await each.http.aclose()


@pytest.fixture
async def service(programs: Programs, url: str) -> Program:
    """The orders service."""
    return await programs.start(url, "examples.orders.service").says("ready")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_what_it_answers(
    url: str, start_front: StartFront, programs: Programs, loop: str
) -> None:
    front = await start_front(url, loop=loop)
    assert await front.get("/livez") == (200, {"alive": True})
    status, told = await front.get("/readyz")
    assert (status, told["state"]) == (200, "READY")
    nobody = {"error": "NuropbNotDeliveredError", "detail": "the service is not there"}
    assert await front.get("/orders/A-1") == (503, nobody)
    service = await programs.start(url, "examples.orders.service").says("ready")
    order_id = await front.order()
    order = {"order_id": order_id, "item": "lamp", "count": 2, "packed": False}
    assert await front.get(f"/orders/{order_id}") == (200, order)
    assert await front.pack(order_id, 0.01) == 200
    assert await front.get(f"/orders/{order_id}") == (200, {**order, "packed": True})
    assert (await front.http.delete(f"/orders/{order_id}")).status_code == 202
    await front.until(f"/orders/{order_id}", 404, within=30)
    answer = await front.http.post("/orders", json={"item": "yacht"})
    refused = {"error": "NuropbValidationError", "detail": "item: there is no 'yacht'"}
    assert (answer.status_code, answer.json()) == (422, refused)
    assert await front.pack(order_id, 0) == 502  # the service's LookupError
    service.terminate()
    assert await service.ended() == 0
    # Its queue is still there.
    late = {"error": "NuropbTimeoutError", "detail": "the service did not answer in time"}
    assert await front.get("/orders/A-1") == (504, late)


class Calls:
    """Calls that go on until they are told to stop; how each has ended."""

    def __init__(self, front: Front, order_id: str) -> None:
        self._front = front
        self._order_id = order_id
        self._stop = False
        self.packed: list[tuple[float, int]] = []
        """Seconds and status."""
        self.livez: set[int] = set()
        self.readyz: list[int] = []
        """As it changes."""

    async def pack(self) -> None:
        """Call after call to the mesh."""
        clock = asyncio.get_running_loop().time
        while not self._stop:
            began = clock()
            status = await self._front.pack(self._order_id, 0.1)
            self.packed.append((clock() - began, status))
            await asyncio.sleep(0.02)

    async def watch(self) -> None:
        """As an orchestrator does."""
        while not self._stop:
            answer = await self._front.http.get("/livez", timeout=MARGIN)
            self.livez.add(answer.status_code)
            answer = await self._front.http.get("/readyz", timeout=MARGIN)
            if [answer.status_code] != self.readyz[-1:]:
                self.readyz.append(answer.status_code)
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Make no more calls."""
        self._stop = True


async def test_the_broker_is_restarted_under_it(
    mortal_node: RabbitMQNode, url: str, start_front: StartFront, service: Program
) -> None:
    front = await start_front(url)
    order_id = await front.order()
    calls = Calls(front, order_id)
    running = [asyncio.create_task(calls.pack()) for _ in range(8)]
    running.append(asyncio.create_task(calls.watch()))
    await eventually(lambda: len(calls.packed) > 16)
    assert {status for _, status in calls.packed} == {200}

    begun = service.out.count("packing")
    in_flight = [asyncio.create_task(front.pack(order_id, 2.0)) for _ in range(5)]
    await service.says("packing", begun + 8 + 5)
    began = asyncio.get_running_loop().time()
    await asyncio.to_thread(mortal_node.shutdown)
    assert {503, 504, 200} >= set(await asyncio.gather(*in_flight))
    assert asyncio.get_running_loop().time() - began < TIMEOUT + MARGIN + 5  # the shutdown itself

    await eventually(lambda: calls.readyz == [200, 503])
    await asyncio.to_thread(mortal_node.start)
    await front.until("/readyz", 200, BACK_WITHIN)
    worked = len(calls.packed)
    await eventually(lambda: [status for _, status in calls.packed[worked:]].count(200) > 16)
    calls.stop()
    await asyncio.gather(*running)
    assert calls.livez == {200}
    assert calls.readyz == [200, 503, 200]
    assert {status for _, status in calls.packed} <= {200, 503, 504}
    assert max(seconds for seconds, _ in calls.packed) < TIMEOUT + MARGIN
    assert "Traceback" not in front.program.err + service.err


@pytest.mark.parametrize("which", ["front", "service", "both"])
async def test_sigterm_while_calls_are_in_flight_cuts_none_off(
    url: str, start_front: StartFront, service: Program, which: str
) -> None:
    front = await start_front(url)
    order_id = await front.order()
    calls = [asyncio.create_task(front.pack(order_id, 2.0)) for _ in range(20)]
    await service.says("packing", 20)
    if which != "service":
        front.program.terminate()
    if which != "front":
        service.terminate()
    assert await asyncio.gather(*calls) == [200] * 20
    if which != "service":
        assert await front.program.ended() == -signal.SIGTERM  # uvicorn ends of it at last
        assert "Application shutdown complete" in front.program.err
        assert "Traceback" not in front.program.err
    if which != "front":
        assert (await service.ended(), service.err) == (0, "")


async def test_without_the_broker_it_does_not_start_and_says_why(programs: Programs) -> None:
    front = Front.start(programs, "amqp://guest:hunter2@127.0.0.1:1/")
    assert await front.program.ended() == 3  # uvicorn's STARTUP_FAILURE
    log = front.program.err.splitlines()
    assert any(line.startswith("nuropb_rmq.exceptions.BrokerUnreachableError: ") for line in log)
    assert len(log) < 20, "what it says is buried"
    assert "hunter2" not in front.program.err


async def test_started_degraded_it_waits_for_the_broker(
    mortal_node: RabbitMQNode, url: str, start_front: StartFront, programs: Programs
) -> None:
    await asyncio.to_thread(mortal_node.shutdown)
    try:
        front = await start_front(url, START_DEGRADED="1")
        assert await front.get("/livez") == (200, {"alive": True})
        status, told = await front.get("/readyz")
        assert status == 503
        assert "guest:***@127.0.0.1" in told["reason"]
        unreachable = {"error": "TransportClosedError", "detail": "the broker cannot be reached"}
        assert await front.get("/orders/A-1") == (503, unreachable)
    finally:
        await asyncio.to_thread(mortal_node.start)
    await front.until("/readyz", 200, BACK_WITHIN)
    await programs.start(url, "examples.orders.service").says("ready")
    assert (await front.get("/orders/A-1"))[0] == 404
    front.program.terminate()
    assert await front.program.ended() == -signal.SIGTERM
