"""The code that inflicts the faults: on the broker, on the wires, on the programs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import httpx

from nuropb_rmq.testing import RabbitMQNode
from nuropb_rmq.waiting import shielded

from .fleet import Fleet, Program
from .journal import now
from .oracle import Inflicted, Run
from .plan import LONG, Fault, Kind, Ways
from .wire import Connection, Proxy, Use

T = TypeVar("T")
LOOK_EVERY = 0.01
SLOW_RATE = 20_000.0
"""Bytes a second."""
CUT_WITHIN = 5.0
"""Seconds in which a broker says something, and be it a heartbeat."""
STOPS_WITHIN = 30.0
"""Seconds after which a program that was told to stop is killed."""
ORDINARY_WATERMARK = "0.4"
"""RabbitMQ's default, a share of the memory that there is."""


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """asyncio.to_thread, but when it is cancelled the thread has ended all the same."""
    thread = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        return await shielded(thread)
    except asyncio.CancelledError:
        await asyncio.wait([thread])
        raise


class Faults:
    """Inflicts faults on a node and a fleet."""

    def __init__(self, node: RabbitMQNode, fleet: Fleet, vhost: str, run: Run) -> None:
        self._node = node
        self._fleet = fleet
        self._vhost = vhost
        self._run = run
        self._how: dict[Kind, Callable[[Fault], Coroutine[Any, Any, Inflicted]]] = {
            Kind.KILL_BROKER: self._kill_broker,
            Kind.RESTART_BROKER: self._restart_broker,
            Kind.HANG_BROKER: self._hang_broker,
            Kind.RESET: self._reset,
            Kind.FIN: self._finish,
            Kind.BLACK_HOLE: self._black_hole,
            Kind.CUT: self._cut,
            Kind.AWAY: self._away,
            Kind.SLOW: self._slow,
            Kind.CLOSE_CHANNEL: self._close_channel,
            Kind.CLOSE_CONNECTION: self._close_connection,
            Kind.DELETE_QUEUE: self._delete_queue,
            Kind.MEMORY_ALARM: self._memory_alarm,
            Kind.KILL_SERVICE: self._kill_service,
            Kind.HANG_SERVICE: self._hang_service,
            Kind.STOP_SERVICE: self._stop_service,
            Kind.STOP_IN_HOLE: self._stop_service,
            Kind.KILL_CLIENT: self._kill_client,
        }

    async def inflict(self, fault: Fault) -> Inflicted:
        """Inflict a fault, with what comes on top of it; returns when there is only to recover."""
        if fault.also is None:
            return await self._how[fault.kind](fault)
        also = fault.also

        async def later() -> Inflicted:
            await asyncio.sleep(fault.delay)
            return await self._how[also.kind](also)

        async with asyncio.TaskGroup() as group:
            both = [group.create_task(self._how[fault.kind](fault)), group.create_task(later())]
        first, second = (each.result() for each in both)
        return first.with_another(second)

    # -- the broker -------------------------------------------------------------------------

    async def _kill_broker(self, fault: Fault) -> Inflicted:
        since = now()
        await in_thread(self._node.kill)
        await asyncio.sleep(fault.seconds)
        return await self._start_broker(fault, since)

    async def _restart_broker(self, fault: Fault) -> Inflicted:
        since = now()
        await in_thread(self._node.shutdown)
        return await self._start_broker(fault, since)

    async def _start_broker(self, fault: Fault, since: float) -> Inflicted:
        async with asyncio.TaskGroup() as group:
            opens = group.create_task(_port_opens(self._node.port))
            group.create_task(self._node.astart())
        hit = frozenset(self._fleet.names())
        return Inflicted(fault.kind.value, since, opens.result(), hit)

    async def _hang_broker(self, fault: Fault) -> Inflicted:
        since = now()
        self._node.suspend()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._node.resume()
        noticed = self._fleet.names() if fault.seconds >= LONG else ()
        return Inflicted(fault.kind.value, since, now(), frozenset(noticed))

    async def _memory_alarm(self, fault: Fault) -> Inflicted:
        since = now()
        await self._set_watermark("absolute", "1MB")
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            await self._set_watermark(ORDINARY_WATERMARK)
        return Inflicted(fault.kind.value, since, now())

    async def _set_watermark(self, *value: str) -> None:
        await in_thread(self._node.rabbitmqctl, "set_vm_memory_high_watermark", *value)

    async def _delete_queue(self, fault: Fault) -> Inflicted:
        since = now()
        path = f"/api/queues/{self._vhost}/nuropb-mayfly-sq"
        await in_thread(self._node.api, "DELETE", path)
        hit = frozenset(
            each.name for each in self._fleet.now.values() if each.role.service == "mayfly"
        )
        return Inflicted(fault.kind.value, since, now(), hit, asks="mayfly")

    async def _close_connection(self, fault: Fault) -> Inflicted:
        since = now()
        hit = set()
        # One may be gone since it was listed; and the broker may be away, when two come at once.
        with suppress(httpx.HTTPError):
            found = await in_thread(self._node.api, "GET", "/api/connections")
            for each in _some([each for each in found if "client_properties" in each], fault):
                await in_thread(self._node.api, "DELETE", f"/api/connections/{each['name']}")
                hit.add(each["client_properties"]["instance_id"])
        return Inflicted(fault.kind.value, since, now(), frozenset(hit))

    # -- the wires --------------------------------------------------------------------------

    def _places(self, fault: Fault) -> list[str]:
        return _some(sorted(self._fleet.wires), fault)

    def _hit(self, places: Sequence[str]) -> frozenset[str]:
        return frozenset(self._fleet.now[place].name for place in places)

    def _break(self, fault: Fault, how: Callable[[Connection], None]) -> Inflicted:
        """Do this to the connections of some wires."""
        since = now()
        places = [each for each in self._places(fault) if self._fleet.wires[each].connections]
        for place in places:
            for connection in self._fleet.wires[place].connections:
                how(connection)
        return Inflicted(fault.kind.value, since, now(), self._hit(places))

    async def _reset(self, fault: Fault) -> Inflicted:
        return self._break(fault, Connection.reset)

    async def _finish(self, fault: Fault) -> Inflicted:
        return self._break(fault, Connection.finish)

    async def _black_hole(self, fault: Fault) -> Inflicted:
        return self._break(fault, lambda connection: connection.silence(fault.ways))

    async def _cut(self, fault: Fault) -> Inflicted:
        since = now()
        hit = []
        for place in self._places(fault):
            cuts = [each.cut(CUT_WITHIN) for each in self._fleet.wires[place].connections]
            if any(await asyncio.gather(*cuts)):
                hit.append(place)
        return Inflicted(fault.kind.value, since, now(), self._hit(hit))

    async def _close_channel(self, fault: Fault) -> Inflicted:
        since = now()
        hit = []
        for place in self._places(fault):
            use = Use.CONSUMING if fault.choice % 2 else Use.PUBLISHING
            spoiled = [await each.spoil(use) for each in self._fleet.wires[place].connections]
            if any(spoiled):
                hit.append(place)
        return Inflicted(fault.kind.value, since, now(), self._hit(hit))

    async def _away(self, fault: Fault) -> Inflicted:
        return await self._for_a_while(fault, lambda wire, away: wire.away(away))

    async def _slow(self, fault: Fault) -> Inflicted:
        def slow(wire: Proxy, is_slow: bool) -> None:
            wire.rate = SLOW_RATE if is_slow else None

        return await self._for_a_while(fault, slow)

    async def _for_a_while(self, fault: Fault, change: Callable[[Proxy, bool], None]) -> Inflicted:
        since = now()
        wires = [self._fleet.wires[place] for place in self._places(fault)]
        for wire in wires:
            change(wire, True)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            for wire in wires:
                change(wire, False)
        return Inflicted(fault.kind.value, since, now())

    # -- the programs -----------------------------------------------------------------------

    def _one_of(self, module: str, fault: Fault) -> Program:
        programs = [self._fleet.now[place] for place in sorted(self._fleet.places(module))]
        living = [each for each in programs if not each.told_to_end]
        return living[fault.choice % len(living)]

    async def _kill_service(self, fault: Fault) -> Inflicted:
        return await self._replace(fault, self._one_of("service", fault))

    async def _kill_client(self, fault: Fault) -> Inflicted:
        return await self._replace(fault, self._one_of("client", fault))

    async def _replace(self, fault: Fault, program: Program) -> Inflicted:
        """Kill it; its successor begins a little later."""
        since = now()
        self._run.killed.add(program.name)
        await self._fleet.kill(program)
        await asyncio.sleep(fault.seconds)
        ref = now()
        successor = await self._fleet.start(program.role)
        return Inflicted(fault.kind.value, since, ref, frozenset({successor.name}))

    async def _stop_service(self, fault: Fault) -> Inflicted:
        """Told to stop; with a black hole around it, nothing of what it says then arrives."""
        since = now()
        program = self._one_of("service", fault)
        if fault.kind is Kind.STOP_IN_HOLE:
            self._run.holed.add(program.name)
            for connection in self._fleet.wires[program.role.place].connections:
                connection.silence(Ways.BOTH)
        if not await self._fleet.stop(program, STOPS_WITHIN):
            self._run.broken.append(f"{program.name} did not end well: {program.last_words()}")
            await self._fleet.kill(program)
        ref = now()
        successor = await self._fleet.start(program.role)
        return Inflicted(fault.kind.value, since, ref, frozenset({successor.name}))

    async def _hang_service(self, fault: Fault) -> Inflicted:
        since = now()
        program = self._one_of("service", fault)
        program.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            program.signal(signal.SIGCONT)
        noticed = {program.name} if fault.seconds >= LONG else ()
        return Inflicted(fault.kind.value, since, now(), frozenset(noticed))


def _some(items: list[Any], fault: Fault) -> list[Any]:
    """The fault's share of these, beginning with its choice."""
    if not items:
        return []
    start = fault.choice % len(items)
    return (items[start:] + items[:start])[: max(1, round(fault.share * len(items)))]


async def _port_opens(port: int) -> float:
    """Wait until somebody listens there; the time at which somebody did."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(LOOK_EVERY)
        else:
            opened = now()
            writer.close()
            return opened
