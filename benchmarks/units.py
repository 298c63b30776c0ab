"""The cost of one of everything, to a broker and to a process of ours: measured, for `scale`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiormq

from nuropb_rmq.testing import RabbitMQNode

from .peers import BATCHED, ROOT, TRANSPORT, Peer
from .process import Side, cpu_of, make_vhost

BUFFERS: Final = {
    "tcp_listen_options.sndbuf": "32768",
    "tcp_listen_options.recbuf": "32768",
}
"""As an operator sets them who has many connections: untuned, each has megabytes set aside."""
SETTLE: Final = 6.0
"""Seconds until a broker's statistics and garbage collections have caught up."""


@dataclass(frozen=True, slots=True)
class Units:
    """Bytes, of a broker after a garbage collection, and seconds of CPU."""

    broker_version: str
    connection: float
    """Bytes of the broker, for a connection without a channel."""
    channel: float
    queue: float
    """A durable classic queue, empty."""
    queue_metadata: float
    """Bytes that every node of a cluster keeps of it; 0 when they are not known (Khepri)."""
    binding: float
    consumer: float
    client_broker: float
    """Bytes of the broker, for a Mesh that calls."""
    client_process: float
    """Bytes of the process that the Mesh is in."""
    client_start: float
    """Broker's seconds until it is ready."""
    client_start_configured: float
    """The same with configure=False: nothing is looked for on the broker."""
    client_idle: float
    """Broker's seconds in a second, while nothing happens: heartbeats and statistics."""
    client_idle_patient: float
    """The same with a heartbeat of 60 s."""
    client_idle_process: float
    service_broker: float
    """The same for a Mesh that serves."""
    service_process: float
    service_start: float
    service_idle: float
    call: float
    """Broker's seconds for a request and its response."""
    event: float
    """Broker's seconds for a persistent event into a queue."""
    delivery: float
    """Broker's seconds for each further subscriber that handles it."""
    serve: float
    """Our seconds for a call, both ends."""
    queue_rate: float
    """Messages a second through one queue, between the floor's publisher and consumer."""


def memory(node: RabbitMQNode) -> int:
    """Bytes that the broker has in use: the resident size of a young one hides what is small."""
    return int(node.rabbitmqctl("eval", f"{_COLLECT} erlang:memory(total)."))


_COLLECT: Final = "[erlang:garbage_collect(P) || P <- erlang:processes()],"


def say(text: str) -> None:
    """Progress."""
    print(text, flush=True)


class Ledger:
    """The growth of the broker's memory since the last look, for each of so many objects."""

    def __init__(self, node: RabbitMQNode, count: int) -> None:
        self._node = node
        self._count = count
        self._last = 0
        self._settled()

    def _settled(self) -> int:
        time.sleep(SETTLE)
        before, self._last = self._last, memory(self._node)
        return self._last - before

    def each(self, what: str) -> float:
        """Bytes."""
        grown = max(0.0, self._settled() / self._count)
        say(f"  {what:32}{grown / 1024:8.1f} KB of the broker")
        return grown


async def raw_units(node: RabbitMQNode, count: int) -> dict[str, float]:
    """Connections, channels, queues, bindings and consumers, one kind after the other."""
    make_vhost(node, "raw")
    url = node.amqp_url + "raw"
    ledger = Ledger(node, count)
    units = {}
    connections = [await aiormq.connect(url) for _ in range(count)]
    units["connection"] = ledger.each("a connection")
    channels = [await connection.channel() for connection in connections]
    units["channel"] = ledger.each("a channel")
    words = _metadata_words(node)
    for number, channel in enumerate(channels):
        await channel.queue_declare(f"queue{number}", durable=True)
    units["queue"] = ledger.each("a durable queue")
    units["queue_metadata"] = max(0.0, (_metadata_words(node) - words) * 8 / count)
    for number, channel in enumerate(channels):
        await channel.queue_bind(f"queue{number}", "nuropb-rpc-exchange", f"key{number}")
    units["binding"] = ledger.each("a binding")

    async def ignore(_: object) -> None:
        pass

    for number, channel in enumerate(channels):
        await channel.basic_consume(f"queue{number}", ignore)
    units["consumer"] = ledger.each("a consumer")
    await asyncio.gather(*(connection.close() for connection in connections))
    node.api("DELETE", "/api/vhosts/raw")
    return units


def _metadata_words(node: RabbitMQNode) -> int:
    """Of the tables that hold queues on every node."""
    asked = (
        "lists:sum([mnesia:table_info(T, memory) || T <- [rabbit_queue, rabbit_durable_queue]])."
    )
    try:
        return int(node.rabbitmqctl("eval", asked))
    except Exception:  # noqa: BLE001 - no Mnesia, or none of these tables: then it is not told
        return 0


def fleet_units(node: RabbitMQNode, kind: str, count: int, idle: float) -> dict[str, float]:
    """So many Meshes of a kind: what each costs to start, to have, and to leave alone."""
    vhost = f"fleet-{kind}"
    make_vhost(node, vhost)
    ledger = Ledger(node, count)
    cpu = cpu_of(node.pid)
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sides.fleet", node.amqp_url + vhost, kind, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        units = {"process": told["memory"], "start": (cpu_of(node.pid) - cpu) / count}
        units["broker"] = ledger.each(f"a Mesh that is a {kind}")

        def ask() -> float:
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return float(json.loads(process.stdout.readline())["idle"])  # type: ignore[union-attr]

        ask()
        cpu = cpu_of(node.pid)
        time.sleep(idle)
        units["idle"] = (cpu_of(node.pid) - cpu) / count / idle
        units["idle_process"] = ask() / count / idle
        process.stdin.close()
    say(
        f"  {'':32}{units['process'] / 1024:8.1f} KB of its process, "
        f"{units['start'] * 1000:.1f} ms of the broker's CPU to start, "
        f"{units['idle'] * 1e6:.0f} µs in each second to idle"
    )
    node.api("DELETE", f"/api/vhosts/{vhost}")
    return units


def idle_baseline(node: RabbitMQNode, idle: float) -> float:
    """The broker's seconds in a second with nobody connected."""
    time.sleep(SETTLE)
    cpu = cpu_of(node.pid)
    time.sleep(idle)
    return (cpu_of(node.pid) - cpu) / idle


def message_units(node: RabbitMQNode, scale: float) -> dict[str, float]:
    """A call, an event, a delivery; and what one queue lets through."""
    units = {}

    def costs(
        peer: Peer, role: str, ask: Callable[[Side, int], dict[str, float]], n: int
    ) -> dict[str, float]:
        side = Side(peer, role, node)
        try:
            ask(side, max(1000, int(n * scale / 10)))
            return ask(side, int(n * scale))
        finally:
            side.close()

    def deliver(subscribers: int) -> Callable[[Side, int], dict[str, float]]:
        return lambda side, n: side.run(
            "deliver", events=n, outstanding=1000, subscribers=subscribers
        )

    calls = costs(
        TRANSPORT, "rpc", lambda side, n: side.run("rpc", calls=n, concurrency=32), 40_000
    )
    units["call"] = calls["broker"] / calls["operations"]
    units["serve"] = calls["cpu"] / calls["operations"]
    stored = costs(
        TRANSPORT,
        "publish",
        lambda side, n: side.run("publish", events=n, outstanding=1000),
        40_000,
    )
    units["event"] = stored["broker"] / stored["operations"]
    one = costs(TRANSPORT, "events:1", deliver(1), 30_000)
    ten = costs(TRANSPORT, "events:10", deliver(10), 6_000)
    each = (ten["broker"] / ten["operations"] - one["broker"] / one["operations"]) / 9
    units["delivery"] = max(0.0, each)
    lean = costs(BATCHED, "events:1", deliver(1), 100_000)
    units["queue_rate"] = lean["operations"] / lean["seconds"]
    say(
        f"  a call {units['call'] * 1e6:.0f} µs of the broker's CPU, an event "
        f"{units['event'] * 1e6:.0f} µs, a further delivery {units['delivery'] * 1e6:.0f} µs; "
        f"one queue lets {units['queue_rate']:,.0f} messages through in a second"
    )
    return units


def measure(*, quick: bool) -> Units:
    """All of it, on a node of its own: two minutes, or one."""
    count, idle, scale = (60, 5.0, 0.1) if quick else (300, 15.0, 1.0)
    with RabbitMQNode(extra_config=BUFFERS) as node:
        say(f"RabbitMQ {node.version}; {count} of each")
        raw = asyncio.run(raw_units(node, count))
        nothing = idle_baseline(node, idle) / count
        client = fleet_units(node, "client", count, idle)
        patient = fleet_units(node, "patient", count, idle)
        service = fleet_units(node, "service", count // 3, idle)
        messages = message_units(node, scale)
        return Units(
            broker_version=node.version,
            **raw,
            **messages,
            client_broker=client["broker"],
            client_process=client["process"],
            client_start=client["start"],
            client_start_configured=patient["start"],
            client_idle_patient=max(0.0, patient["idle"] - nothing),
            client_idle=max(0.0, client["idle"] - nothing),
            client_idle_process=client["idle_process"],
            service_broker=service["broker"],
            service_process=service["process"],
            service_start=service["start"],
            service_idle=max(0.0, service["idle"] - nothing * 3),
        )
