"""The run, from top to bottom: start everything, break it until the time is over, compare."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nuropb_rmq import DeadLetters, TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode

from .faults import Faults, in_thread
from .fleet import MORTAL, ROLES, SUBSCRIBERS, Fleet, Program
from .journal import Tail, now
from .ledger import Ledger
from .oracle import Inflicted, Run
from .plan import Fault, Kind, plan
from .report import Report
from .service import RETRY_DELAYS
from .wire import Proxy

VHOST = "chaos"
LOOK_EVERY = 0.1
"""Seconds between two looks at the logs."""
STARTS_WITHIN = 60.0
WORKS_WITHIN = 90.0
"""Seconds after which a fault counts as one that was not recovered from."""
ENDS_WITHIN = 60.0
"""Seconds for what is under way at the end: more than the longest timeout."""
DRAINED_WITHIN = 240.0
"""Seconds. What came due while the broker was coming back is passed on after three minutes."""
LEAVE_FOR = 20.0
"""Seconds by which a fault may last longer than the run; one that would go on is left out."""


class ChaosError(Exception):
    """The run could not be made; the text says why."""


class Conductor:
    """One run on one node."""

    def __init__(
        self,
        node: RabbitMQNode,
        folder: Path,
        seed: int,
        report: Report,
        *,
        only: Sequence[Kind],
        rate: float,
    ) -> None:
        self._node = node
        self._folder = folder
        self._seed = seed
        self._only = only
        self._report = report
        self._tail = Tail(folder)
        self._fleet = Fleet(folder, VHOST, seed, rate)
        self.ledger = Ledger()
        self.run = Run(subscribers=SUBSCRIBERS, mortal=MORTAL)
        self._faults = Faults(node, self._fleet, VHOST, self.run)

    async def conduct(self, seconds: float) -> None:
        """All of it; every process that it started has ended when it returns, or raises."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._node.astop)
            await self._node.astart()
            self._report.begin(self._node.version, self._seed, seconds, len(ROLES))
            for role in ROLES:
                wire = Proxy(self._node.port)
                self._fleet.wires[role.place] = await stack.enter_async_context(wire)
            stack.push_async_callback(self._fleet.end_all)
            reading = asyncio.create_task(self._read(), name="reading")
            stack.callback(reading.cancel)
            await self._start()
            await self._break_things(now() + seconds)
            await self._finish()
            self._look()

    # -- the logs ---------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            self._look()
            self._report.progress(self.ledger)
            await asyncio.sleep(LOOK_EVERY)

    def _look(self) -> None:
        for name, kind, record in self._tail.records():
            self.ledger.feed(name, kind, record)

    async def _ready(self, names: Iterable[str]) -> None:
        deadline = now() + STARTS_WITHIN
        waiting = set(names)
        while waiting := {each for each in waiting if not self.ledger.is_ready(each)}:
            if now() > deadline:
                raise ChaosError(f"not ready in {STARTS_WITHIN:g} s: {', '.join(sorted(waiting))}")
            await asyncio.sleep(LOOK_EVERY)

    # -- start ------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Services first: then every queue is there before anything is sent."""
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self._folder / "services.pem").write_bytes(pem)
        services = {role.service: role for role in ROLES if role.module == "service"}
        for service, role in sorted(services.items()):
            url = self._node.amqp_url + VHOST
            quorum = role.queue_type == "quorum"
            config = TransportConfig(
                amqp_url=url,
                service_name=service,
                queue_type=role.queue_type,
                retry_delays=RETRY_DELAYS if quorum else (),
            )
            await configure(config, api_url=self._node.management_url)
        for module in ("service", "client"):
            for role in ROLES:
                if role.module == module:
                    await self._fleet.start(role)
            await self._ready(self._fleet.names(module))
        # Until 4.x the metadata store is Mnesia, which writes its log in its own time: a broker
        # that is killed before that has forgotten the queues.
        await in_thread(self._node.rabbitmqctl, "eval", "catch mnesia:sync_log().")

    # -- faults -----------------------------------------------------------------------------

    async def _break_things(self, until: float) -> None:
        await asyncio.sleep(2.0)
        for fault in plan(self._seed, self._only):
            if now() >= until:
                break
            if now() + fault.seconds > until + LEAVE_FOR:
                continue
            self._report.inflicting(fault)
            inflicted = await self._faults.inflict(fault)
            await self._recover(fault, inflicted)
            await asyncio.sleep(fault.pause)
        await self._replace_the_dead()

    async def _recover(self, fault: Fault, inflicted: Inflicted) -> None:
        deadline = inflicted.ref + WORKS_WITHIN
        fleet = self._fleet
        while True:
            await self._replace_the_dead()
            over = inflicted.over(self.ledger, fleet.names(), fleet.names("client"))
            if over is not None:
                self.run.recovered(inflicted.name, over - inflicted.ref)
                self._report.recovered(over - inflicted.ref)
                return
            if now() > deadline:
                missing = inflicted.missing(self.ledger, fleet.names(), fleet.names("client"))
                self.run.stuck.append(f"{fault} ({'; '.join(missing)})")
                self._report.stuck(missing)
                return
            await asyncio.sleep(LOOK_EVERY / 2)

    async def _replace_the_dead(self) -> None:
        """None may end by itself. If one does, that is told, and the run goes on without a gap."""
        for program in self._fleet.dead():
            self.run.broken.append(f"{program.name} ended by itself: {program.last_words()}")
            self.run.killed.add(program.name)
            program.told_to_end = True
            await self._ready([(await self._fleet.start(program.role)).name])

    # -- the end ----------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Clients end what they have begun; then services have to handle what is left."""
        self._report.say("no more faults: waiting for what is under way")
        fleet = self._fleet
        clients = [fleet.now[place] for place in fleet.places("client")]
        await self._end_well(clients, ENDS_WITHIN)
        await self._drained()
        services = [fleet.now[place] for place in fleet.places("service")]
        await self._end_well(services, ENDS_WITHIN)
        await self._count_letters()

    async def _count_letters(self) -> None:
        """Look at what was to fail."""
        for service in sorted({role.service for role in ROLES if role.module == "service"}):
            url = self._node.amqp_url + VHOST
            async with DeadLetters(url, service, allow_delivery_limit=True) as letters:
                async for letter in letters.list():
                    self.ledger.letters[letter.correlation_id] += 1

    async def _end_well(self, programs: list[Program], within: float) -> None:
        ended = await asyncio.gather(*(self._fleet.stop(each, within) for each in programs))
        for program, well in zip(programs, ended, strict=True):
            if not well:
                self.run.broken.append(f"{program.name} did not end well: {program.last_words()}")

    async def _drained(self) -> None:
        """Every queue of a service is empty, by the broker's own count."""
        deadline = now() + DRAINED_WITHIN
        while True:
            listing = await in_thread(
                self._node.rabbitmqctl, "list_queues", "-p", VHOST, "name", "messages", "--silent"
            )
            depths = dict(line.split() for line in listing.splitlines())
            kept = (name for name in depths if name.endswith("-sq") or "-retry-" in name)
            full = {name: depths[name] for name in kept if depths[name] != "0"}
            if not full:
                return
            if now() > deadline:
                self.run.broken.append(f"not drained in {DRAINED_WITHIN:g} s: {full}")
                return
            await asyncio.sleep(LOOK_EVERY)
