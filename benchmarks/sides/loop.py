"""The base of all sides: runs on demand, timed. It needs nothing but the standard library."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import json
import logging
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from statistics import median
from types import FrameType
from typing import Any

LIVE = "bench.live"
"""The topic that the subscribers of a side listen to."""
STORED = "bench.stored"
"""The topic that only STORE is bound to."""
STORE = "bench-store"
"""A durable queue without a consumer, which the harness declares and purges."""
PREFETCH = 100

Params = dict[str, Any]
TraceFunction = Callable[[FrameType, str, Any], Any]


def params(size: int = 0) -> Params:
    """The parameters of a call, or an event: ~600 bytes as JSON, or `size` when that is more."""
    return {"order_id": "A-1", "text": "x" * max(500, size - 60), "lines": [1, 2, 3]}


class Side:
    """One library as the harness sees it. What a side does not override it cannot do."""

    distribution = ""
    """The distribution whose version the results name."""
    exchange = "bench-events"
    """The exchange that its events go to: the harness binds STORE to it."""

    def __init__(self, url: str, options: frozenset[str]) -> None:
        self.url = url
        self.options = options
        self.stop_service: Callable[[], Awaitable[object]]
        self.waits = False
        """True when the service's handler awaits something, as rpc() says, before it answers."""
        self.wait: tuple[int, float] = (0, 0)
        self.service = "bench"
        """Whose method is called."""
        self.carrier: int | None = 0
        """The process that carries its messages; None where there is none, 0: the RabbitMQ."""
        self._handled = 0
        self._wanted = -1
        self._all_handled: asyncio.Future[None] | None = None

    # -- what a side does -------------------------------------------------------------------

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """Start a service, until it can be called; returns what stops it."""
        raise NotImplementedError

    def handler(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """The service's handler: the plain one, or one that waits before it does the same."""
        if not self.waits:
            return plain
        is_async = inspect.iscoroutinefunction(plain)

        @functools.wraps(plain)
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            times, seconds = self.wait
            for _ in range(times):
                await asyncio.sleep(seconds)
            answer = plain(*args, **kwargs)
            return await answer if is_async else answer

        return waiting

    def callback(self, plain: Callable[..., None]) -> Callable[..., None]:
        """The same for a callback that nobody awaits: what waits has a task."""
        waiting = self.handler(plain)
        if waiting is plain:
            return plain
        create_task = asyncio.get_running_loop().create_task

        def begin(*args: Any) -> None:
            create_task(waiting(*args))  # held by what it waits for

        return begin

    async def relay(self, name: str, to: str) -> None:
        """Start a service whose echo method asks that of another one."""
        raise NotImplementedError

    async def start_client(self) -> None:
        """Be ready for call(), when the service is."""
        raise NotImplementedError

    def call(self, given: Params) -> Awaitable[Any]:
        """Call the service's echo method; its result."""
        raise NotImplementedError

    def call_encrypted(self, given: Params) -> Awaitable[Any]:
        """The same, encrypted."""
        raise NotImplementedError

    def begin(self, given: Params) -> Awaitable[Any]:
        """The same call, its answer as this library gives it, with nothing of ours around it."""
        return self.call(given)

    async def start_publisher(self) -> None:
        """Be ready for publish()."""
        raise NotImplementedError

    async def publish(self, topic: str, event: Params) -> None:
        """Publish an event; returns when it is as safe as this library makes it by default."""
        raise NotImplementedError

    async def publish_many(self, topic: str, event: Params, count: int, outstanding: int) -> None:
        """Publish so many, with at most `outstanding` that are not confirmed yet."""

        async def worker(share: int) -> None:
            for _ in range(share):
                await self.publish(topic, event)

        await asyncio.gather(*(worker(share) for share in shares(count, outstanding)))

    async def flush(self) -> None:
        """Without confirms: return when the broker has all that was published."""

    async def subscribe(self, number: int) -> None:
        """Start one more subscriber to LIVE; it calls handled() for each event."""
        raise NotImplementedError

    async def unsubscribe(self) -> None:
        """End the subscribers; their queues stay."""
        raise NotImplementedError

    # -- events -----------------------------------------------------------------------------

    def handled(self) -> None:
        """A subscriber has handled an event."""
        self._handled += 1
        if self._handled == self._wanted and self._all_handled is not None:
            self._all_handled.set_result(None)

    def expect(self, count: int) -> asyncio.Future[None]:
        """Done when so many events have been handled from now on."""
        self._handled, self._wanted = 0, count
        self._all_handled = asyncio.get_running_loop().create_future()
        return self._all_handled


def shares(count: int, workers: int) -> list[int]:
    """`count` divided among at most so many workers, evenly."""
    workers = min(workers, count)
    return [count // workers + (n < count % workers) for n in range(workers)]


class Watch:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """So far."""
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
        }


# -- runs -----------------------------------------------------------------------------------


async def rpc(
    side: Side,
    calls: int,
    concurrency: int,
    size: int = 0,
    encrypted: bool = False,
    wait: tuple[int, float] = (0, 0),
) -> dict[str, float]:
    """So many calls; each worker makes one at a time.

    `wait` is for a side in the role `waiting`: how often its handler awaits a sleep, of how many
    seconds.
    """
    given = params(size)
    side.wait = wait
    call = side.call_encrypted if encrypted else side.call
    latencies: list[float] = []
    clock = time.perf_counter

    async def worker(share: int) -> None:
        for _ in range(share):
            began = clock()
            result = await call(given)
            latencies.append(clock() - began)
            if result != given:
                raise AssertionError("the answer is another")

    watch = Watch()
    await asyncio.gather(*(worker(share) for share in shares(calls, concurrency)))
    figures = watch.read()
    latencies.sort()
    late = latencies[int(len(latencies) * 0.99)]
    return {**figures, "operations": calls, "p50": median(latencies), "p99": late}


async def bytecodes(side: Side, calls: int, concurrency: int) -> dict[str, float]:
    """Count the bytecodes of the main thread: the same figure however busy the machine is."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> TraceFunction:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        figures = await rpc(side, calls, concurrency)
    finally:
        sys.settrace(None)
    return {**figures, "bytecodes": count}


async def beside(side: Side, calls: int, load: int, size: int = 0) -> dict[str, float]:
    """Plain calls, one at a time, while `load` encrypted ones are under way all the time."""
    heavy = params(size)
    going, done = True, 0

    async def keep_busy() -> None:
        nonlocal done
        while going:
            await side.call_encrypted(heavy)
            done += 1

    async with asyncio.TaskGroup() as busy:
        for _ in range(load):
            busy.create_task(keep_busy(), name="encrypted-load")
        try:
            await side.call(params())
            before = done
            figures = await rpc(side, calls, 1)
            figures["load"] = (done - before) / figures["seconds"]
        finally:
            going = False
    return figures


async def publish(side: Side, events: int, outstanding: int) -> dict[str, float]:
    """So many events into a queue that nobody consumes."""
    event = params()
    watch = Watch()
    await side.publish_many(STORED, event, events, outstanding)
    await side.flush()
    return {**watch.read(), "operations": events}


async def deliver(side: Side, events: int, outstanding: int, subscribers: int) -> dict[str, float]:
    """So many events, until every subscriber has handled them all."""
    event = params()
    done = side.expect(events * subscribers)
    watch = Watch()
    await side.publish_many(LIVE, event, events, outstanding)
    await done
    return {**watch.read(), "operations": events}


async def backlog(side: Side, events: int) -> dict[str, float]:
    """Publish so many while nobody consumes; then a subscriber starts and handles them all."""
    await side.subscribe(0)
    await side.unsubscribe()
    await side.publish_many(LIVE, params(), events, 1000)
    await side.flush()
    done = side.expect(events)
    watch = Watch()
    await side.subscribe(0)
    await done
    figures = watch.read()
    await side.unsubscribe()
    return {**figures, "operations": events}


async def start(side: Side) -> dict[str, float]:
    """A service from nothing to ready."""
    watch = Watch()
    stop = await side.ready()
    figures = watch.read()
    await stop()
    return {**figures, "operations": 1}


async def outstanding(side: Side, count: int) -> dict[str, float]:
    """So many calls that nobody answers: what each holds of resident memory, its task included.

    They begin by and by: the buffers of a burst, which the allocator keeps, are not what one holds.
    """
    given = params()
    await side.call(given)
    await side.stop_service()
    gc.collect()
    before = resident()
    watch = Watch()
    tasks = []
    for _ in range(0, count, 100):
        tasks += [asyncio.ensure_future(side.begin(dict(given))) for _ in range(100)]
        await asyncio.sleep(0.01)
    spent = -1.0
    while time.process_time() - spent > 0.01:  # until nothing is done any more
        spent = time.process_time()
        await asyncio.sleep(0.5)
    gc.collect()
    figures = {**watch.read(), "bytes": (resident() - before) / count, "operations": count}
    for task in tasks:
        task.cancel()
    return figures


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


RUNS: Mapping[str, Callable[..., Awaitable[dict[str, float]]]] = {
    "rpc": rpc,
    "bytecodes": bytecodes,
    "beside": beside,
    "publish": publish,
    "deliver": deliver,
    "backlog": backlog,
    "start": start,
    "outstanding": outstanding,
}


# -- the process ----------------------------------------------------------------------------


async def _prepare(side: Side, role: str) -> None:
    match role.split(":"):
        case ["rpc" | "waiting"]:
            side.waits = role == "waiting"
            side.stop_service = await side.ready()
            await side.start_client()
        case ["hops"]:
            side.stop_service = await side.ready()
            await side.relay("second", "bench")
            await side.relay("first", "second")
            side.service = "first"
            await side.start_client()
        case ["publish"]:
            await side.start_publisher()
        case ["events", count]:
            await side.start_publisher()
            for number in range(int(count)):
                await side.subscribe(number)


async def _serve(kind: type[Side]) -> None:
    """Answer the runs that stdin asks for, until it is closed."""
    url, role, *options = sys.argv[1:]
    side = kind(url, frozenset(options))
    await _prepare(side, role)
    told = version(kind.distribution) if kind.distribution else ""
    ready = {"ready": True, "version": told, "exchange": kind.exchange}
    _tell(ready if side.carrier == 0 else {**ready, "carrier": side.carrier})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        figures = await RUNS[asked.pop("run")](side, **asked)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        _tell({**figures, "peak_memory": peak})


def _tell(answer: Mapping[str, object]) -> None:
    print(json.dumps(answer), flush=True)


def main(kind: type[Side]) -> None:
    """Be this side. It ends with its stdin, and leaves the rest to the operating system."""
    logging.disable(logging.CRITICAL)
    if "uvloop" in sys.argv[3:]:
        import uvloop  # noqa: PLC0415 - the peers have none

        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    else:
        loop_factory = None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(kind))
