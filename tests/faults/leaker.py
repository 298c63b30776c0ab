"""Start, stop and cancel, over and over, and report what is left: python -m tests.faults.leaker.

Settings come as JSON in the first argument; see Settings. It writes a JSON object per line: `kind`
is "at" for what there is at a moment, and "end" for what is left when the event loop is closed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

from nuropb_rmq import RMQAPI, Mesh, NuropbException, Transport, TransportConfig, publish_to_mesh

from ..encrypting import private_key
from ..seams import encryptor_of
from ..support import request
from .worker import memory, told


@dataclass(frozen=True)
class Settings:
    """The settings of a run: its broker and seed, and the numbers of cycles and cancellations."""

    url: str
    seed: int
    warm_up: int
    cycles: int
    cancellations: int


class Orders:
    _service_name = "orders"
    _private_key = private_key("orders")

    def blocking(self, number: int) -> int:
        return number

    @publish_to_mesh(requires_encryption=True)
    async def sealed(self, number: int) -> int:
        return number

    async def wait(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def _handle_event_(self, topic: str, event: Any, target: Any, context: Any) -> None:
        await asyncio.sleep(0)


@dataclass
class Left:
    """A count of everything at a moment; memory in KiB."""

    seconds: float
    tasks: int
    sockets: int
    files: int
    threads: list[str]
    rss: int
    objects: int
    ours: dict[str, int]
    """Objects of classes of ours, by class; under "" all others."""


class Leaker:
    """Does it, and looks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._chance = random.Random(settings.seed)
        self._began = time.monotonic()
        self.complaints: list[str] = []
        """Texts that would only be logged: "exception was never retrieved", say, and warnings."""
        self.ended: Counter[str] = Counter()
        """Number of cancelled calls that ended in each way."""

    async def run(self) -> None:
        """Do all of it; report now and then what there is."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, about: self.complaints.append(str(about)[:500]))
        sys.unraisablehook = lambda about: self.complaints.append(f"{about.exc_value!r}"[:500])
        settings = self._settings
        await self._repeat(settings.warm_up, self._cycle)
        self._tell("warm")
        await self._repeat(settings.cycles, self._cycle)
        await self._settled()
        self._tell("cycles")
        await self._cancel_often(settings.cancellations // 10)
        await self._settled()
        self._tell("warm again")
        await self._cancel_often(settings.cancellations)
        await self._settled()
        self._tell("cancellations")

    async def _repeat(self, count: int, do: Callable[[int], Awaitable[None]]) -> None:
        for number in range(1, count + 1):
            await do(number)
            if number % 50 == 0:
                self._tell(f"{do.__name__.strip('_')} {number} of {count}")

    # -- starting and stopping --------------------------------------------------------------

    async def _cycle(self, number: int) -> None:
        match number % 3:
            case 0:
                async with (
                    Mesh(self._settings.url, service=Orders()),
                    Mesh(self._settings.url) as m,
                ):
                    await self._use(m, number)
            case 1:
                await self._api_cycle(number)
            case 2:
                await self._transport_cycle(number)

    async def _use(self, mesh: Mesh, number: int) -> None:
        for method in ("blocking", "sealed"):
            assert await mesh.request("orders", method, {"number": number}) == number
        await mesh.command("orders", "sealed", {"number": number})
        await mesh.publish_event("orders.made", number)

    async def _api_cycle(self, number: int) -> None:
        service = RMQAPI(self._settings.url, service_instance=Orders(), service_name="orders")
        client = RMQAPI(self._settings.url)
        await service.connect()
        await client.connect()
        for method in ("blocking", "sealed"):
            answer = await client.request("orders", method, {"number": number}, context={})
            assert answer == number
        client.command("orders", "blocking", {"number": number}, context={})
        client.publish_event("orders.made", number, context={})
        await client.disconnect()
        await service.disconnect()

    async def _transport_cycle(self, number: int) -> None:
        async def echo(message: Any) -> Any:
            return message.payload["params"]

        config = TransportConfig(amqp_url=self._settings.url, service_name="orders")
        other = TransportConfig(
            amqp_url=self._settings.url, service_name="client", client_only=True
        )
        async with Transport(config, echo), Transport(other) as client:
            answer = await client.request(request(number=number), timeout=10)
            assert answer["result"] == {"number": number}
            with suppress(NuropbException):
                await client.request(request(service="nobody"), timeout=10)

    # -- cancelling -------------------------------------------------------------------------

    async def _cancel_often(self, count: int) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(Mesh(self._settings.url, service=Orders()))
            client = await stack.enter_async_context(Mesh(self._settings.url))
            await client.describe_service("orders")

            ways = (self._cancel_start, self._cancel_stop, self._cancel_call, self._cancel_send)

            async def cancel(number: int) -> None:
                await ways[number % len(ways)](client)

            cancel.__name__ = "cancellation"
            await self._repeat(count, cancel)
            await self._use(client, 1)
            assert client.transport.pending == 0
            assert encryptor_of(client).calls_remembered == 0

    async def _cancelled(self, what: str, call: Awaitable[Any], within: float) -> None:
        """Cancel it at some moment, once or twice; note how it ended."""
        task = asyncio.ensure_future(call)
        await asyncio.sleep(self._chance.uniform(0, within) * self._chance.choice((0.1, 1)))
        task.cancel()
        if self._chance.random() < 0.3:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait((task,))
        if task.cancelled():
            self.ended[f"{what} cancelled"] += 1
        elif isinstance(task.exception(), NuropbException):
            self.ended[f"{what} failed"] += 1
        else:
            task.result()
            self.ended[f"{what} done"] += 1

    def _new(self) -> Mesh:
        service = Orders() if self._chance.random() < 0.5 else None
        return Mesh(self._settings.url, service=service, configure=self._chance.random() < 0.5)

    async def _cancel_start(self, _: Mesh) -> None:
        mesh = self._new()
        await self._cancelled("start", mesh.start(), 0.12)
        await mesh.stop(grace=1)

    async def _cancel_stop(self, client: Mesh) -> None:
        mesh = self._new()
        await mesh.start()
        calls = [
            asyncio.ensure_future(mesh.request("orders", "wait", {"seconds": 0.01}))
            for _ in range(3)
        ]
        await asyncio.sleep(self._chance.uniform(0, 0.01))
        await self._cancelled("stop", mesh.stop(grace=self._chance.choice((0.0, 1.0))), 0.03)
        await mesh.stop()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _cancel_call(self, client: Mesh) -> None:
        method, params = self._chance.choice(
            (("sealed", {"number": 1}), ("blocking", {"number": 1}), ("wait", {"seconds": 0.01}))
        )
        encrypted = self._chance.choice((None, True))
        call = client.request("orders", method, params, timeout=10, encrypted=encrypted)
        await self._cancelled("request", call, 0.015)

    async def _cancel_send(self, client: Mesh) -> None:
        if self._chance.random() < 0.5:
            call = client.command("orders", "sealed", {"number": 1})
        else:
            call = client.publish_event("orders.made", 1)
        await self._cancelled("send", call, 0.004)

    # -- looking ----------------------------------------------------------------------------

    async def _settled(self) -> None:
        """Wait for what is on its way out: threads and sockets that have been told to end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 5
        while loop.time() < deadline:
            left = self.look()
            ours = [name for name in left.threads if name.startswith("nuropb")]
            if not left.tasks and not left.sockets and not ours:
                return
            await asyncio.sleep(0.05)

    def _tell(self, what: str) -> None:
        told(kind="at", what=what, ended=self.ended, **asdict(self.look()))

    def look(self) -> Left:
        """Return a count of everything."""
        gc.collect()
        links = []
        for name in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # that of the listing
                links.append(os.readlink(f"/proc/self/fd/{name}"))
        sockets = sum(link.startswith("socket:") for link in links)
        everything = gc.get_objects()
        return Left(
            seconds=round(time.monotonic() - self._began, 1),
            tasks=_tasks() - 1,
            sockets=sockets - _OF_THE_LOOP,
            files=len(links) - sockets,
            threads=[each.name for each in threading.enumerate()],
            rss=memory()["now"],
            objects=len(everything),
            ours=dict(Counter(map(_name_of_ours, everything))),
        )


def _name_of_ours(thing: object) -> str:
    kind = type(thing)
    return kind.__qualname__ if str(kind.__module__).startswith("nuropb_rmq") else ""


_OF_THE_LOOP = 2
"""Sockets with which an event loop wakes itself."""


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # no loop
        return 1


def main(settings: Settings) -> None:
    """All of it, and what is left in the end."""
    leaker = Leaker(settings)
    asyncio.run(leaker.run())
    left = leaker.look()
    left.sockets += _OF_THE_LOOP
    told(kind="end", complaints=leaker.complaints, **asdict(left))


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])))
