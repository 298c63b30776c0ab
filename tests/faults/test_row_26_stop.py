"""Row 26: stop() with work in flight."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from itertools import product
from typing import Any

import pytest

from nuropb_rmq import (
    Message,
    NuropbOutcomeUnknownError,
    NuropbValidationError,
    State,
    Transport,
    TransportClosedError,
)
from nuropb_rmq.broker.session import Run
from nuropb_rmq.testing import RabbitMQNode
from nuropb_rmq.transport.hooks import Hooks

from ..seams import publisher_of
from ..support import Recorder, Transports, Watch, command, eventually, request, result_of
from .common import seconds_of
from .console import alarm, depth, queues
from .proxy import Proxy, Way

GRACE = 1.0
STOPPED_WITHIN = GRACE + 5
QUEUE = "nuropb-orders-sq"


class Shift:
    """A handler that ends what it is let to, and notes what it has done."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self.let = asyncio.Event()
        """The even ones may end; after `all` the others may, too."""
        self.all = asyncio.Event()
        self._stubborn = stubborn

    async def __call__(self, message: Message) -> int:
        number: int = message.payload["params"]["n"]
        self.begun.append(number)
        gate = self.all if number % 2 else self.let
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                if not self._stubborn:
                    raise
        self.done.append(number)
        return number


async def test_row_26_what_is_begun_is_finished_and_the_rest_goes_back(mesh: Transports) -> None:
    """Handlers have the grace period to end in; what was not begun, others have at once."""
    grace = 5.0  # the second one starts within it
    first, second = Shift(), Shift()
    service = await mesh.service(first, instance_id="one", prefetch_count=4)
    client = await mesh.client()
    calls = [asyncio.create_task(client.request(request(n=n))) for n in range(4)]
    await eventually(lambda: len(first.begun) == 4)
    for n in range(4, 20):
        await client.send(command(n=n))
    stopping = asyncio.create_task(seconds_of(service.stop(grace=grace)))
    second.let.set()
    second.all.set()
    await mesh.service(second, instance_id="two")
    await eventually(lambda: sorted(second.done) == list(range(4, 20)), within=GRACE)
    assert not stopping.done()
    first.let.set()  # two of the four can end; the others are given back after the grace period
    print(f"stop(): {(took := await stopping):.2f} s, with handlers that do not end")
    assert grace < took < grace + 5
    assert [result_of(await call) for call in calls] == [0, 1, 2, 3]
    assert sorted(first.done) == [0, 2]
    assert Counter(first.done + second.done) == Counter(range(20))
    assert service.state is State.STOPPED


async def test_row_26_handlers_that_ignore_their_cancellation(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """They are left behind; what they had in hand is another's, and their answers are nobody's."""
    first, second = Shift(stubborn=True), Recorder()
    service = await mesh.service(first, instance_id="one")
    client = await mesh.client()
    calls = [asyncio.create_task(client.request(request(n=n))) for n in range(5)]
    await eventually(lambda: len(first.begun) == 5)
    print(
        f"stop(): {(took := await seconds_of(service.stop(grace=GRACE))):.2f} s, with stubborn ones"
    )
    assert took < STOPPED_WITHIN
    await mesh.service(second, instance_id="two")
    assert [result_of(await call)["n"] for call in calls] == list(range(5))
    first.let.set()
    first.all.set()
    await eventually(lambda: len(first.done) == 5)
    assert client.dropped == {}
    assert await asyncio.to_thread(depth, rabbitmq_node, mesh.url, QUEUE) == 0


HOLES: dict[str, list[Way]] = {"both": list(Way), "up": [Way.UP], "down": [Way.DOWN]}


async def test_row_26_black_holed(mesh: Transports) -> None:
    """The socket stays open and nothing is passed on, one way or both: it is aborted in time."""
    shifts: list[Shift] = []
    stops: dict[str, asyncio.Task[float]] = {}
    waiting: list[asyncio.Task[Any]] = []
    async with AsyncExitStack() as stack:
        for hole, stubborn in product(HOLES, (False, True)):
            name, shift = hole + "-stubborn" * stubborn, Shift(stubborn=stubborn)
            shifts.append(shift)
            proxy = await stack.enter_async_context(Proxy(mesh.url))
            service = await mesh.service(shift, name, amqp_url=proxy.url)
            client = await mesh.client(f"client-of-{name}", amqp_url=proxy.url)
            calls = [request(service=name, n=n) for n in range(4)]
            waiting += [asyncio.create_task(client.request(each)) for each in calls]
            await eventually(lambda: len(shift.begun) == 4)  # noqa: B023
            for way in HOLES[hole]:
                proxy.hole(way)
            waiting += [asyncio.create_task(service.request(each)) for each in calls]
            waiting.append(asyncio.create_task(client.send(command(service=name))))
            shift.let.set()  # the answers are written, and their confirms do not come
            for who, each in {"service": service, "client": client}.items():
                stop = asyncio.create_task(seconds_of(each.stop(grace=GRACE)))
                stops[f"{who}, {name}"] = stop
        took = {name: await stop for name, stop in stops.items()}
        print("stop():", {name: f"{seconds:.2f} s" for name, seconds in took.items()})
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        for shift in shifts:
            shift.all.set()
    assert max(took.values()) < STOPPED_WITHIN, took
    assert {type(each) for each in outcomes} == {TransportClosedError, NuropbOutcomeUnknownError}


async def test_row_26_blocked_with_30_mb_unsent(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """The broker reads nothing more: half of it is in the socket's buffers, half in the outbox."""
    service = await mesh.service(Recorder(), max_body_bytes=20 * 2**20)
    client = await mesh.client(max_body_bytes=20 * 2**20)
    sends = []
    async with alarm(rabbitmq_node):
        for each in (service, client):
            first = asyncio.create_task(each.send(command(text="x" * 15 * 2**20)))
            sends.append(first)  # the broker tells of its alarm when something is published
            await eventually(lambda: each.state is State.BLOCKED)  # noqa: B023
            sends += [asyncio.create_task(each.send(command(text="x" * 2**20))) for _ in range(15)]
            await eventually(lambda: publisher_of(each).waiting == 15)  # noqa: B023
        took = await asyncio.gather(
            *(seconds_of(each.stop(grace=GRACE)) for each in (service, client))
        )
        print("stop():", [f"{seconds:.2f} s" for seconds in took], "blocked with 30 MB unsent")
        assert max(took) < STOPPED_WITHIN, took
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert Counter(type(each) for each in outcomes) == {
        NuropbOutcomeUnknownError: 2,
        TransportClosedError: 30,
    }


async def test_row_26_stop_twice_at_once_and_cancelled(mesh: Transports) -> None:
    """All callers wait for the same end; a cancelled one waits no longer, and the stop goes on."""
    shift = Shift()
    service = await mesh.service(shift)
    client = await mesh.client()
    watch = Watch(service)
    call = asyncio.create_task(client.request(request(n=0)))
    await eventually(lambda: shift.begun)
    cancelled = asyncio.create_task(service.stop())
    await service.wait_for(State.DRAINING)
    others = [asyncio.create_task(service.stop(grace=0)) for _ in range(3)]
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert watch.states == [State.DRAINING]
    assert not any(each.done() for each in others)
    shift.let.set()
    await asyncio.gather(*others)
    assert result_of(await call) == 0
    assert watch.states == [State.DRAINING, State.STOPPED]
    await service.stop()


class Paused:
    """Takes the steps of a session, and waits before the one that is named."""

    def __init__(self) -> None:
        self.before = ""
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, name: str, run: Run) -> None:
        if name == self.before:
            self.reached.set()
            await self.go.wait()
        await run()


async def test_row_26_nothing_more_is_taken_wherever_a_recovery_is(
    mesh: Transports, rabbitmq_node: RabbitMQNode, proxy: Proxy
) -> None:
    """Consuming is stopped while a session is being set up, before it has begun to consume."""
    recorder, steps = Recorder(), Paused()
    service = Transport(
        mesh.config("orders", amqp_url=proxy.url), recorder, hooks=Hooks(steps=steps)
    )
    async with service:
        steps.before = "declare_service_queue"
        proxy.reset()
        await steps.reached.wait()
        await service.stop_consuming()
        steps.go.set()
        await service.wait_for(State.READY, timeout=10)
        client = await mesh.client()
        await client.send(command(n=1))
        counted = await asyncio.to_thread(
            queues, rabbitmq_node, mesh.url, "consumers", "messages_ready"
        )
        assert counted[QUEUE] == ["0", "1"]
    assert recorder.seen == []


@pytest.mark.parametrize("grace", [-1, float("nan"), 10**400, "1"])
async def test_row_26_a_grace_period_that_is_none(mesh: Transports, grace: object) -> None:
    client = await mesh.client()
    with pytest.raises(NuropbValidationError, match="grace"):
        await client.stop(grace=grace)  # type: ignore[arg-type]
    assert client.state is State.READY
