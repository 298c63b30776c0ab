"""The capacity of a RabbitMQ cluster with this library: measured units and a small model.

    python -m benchmarks.scale FOLDER [--quick] [--units FILE] [options of the model]

measures what one of everything costs (or reads it from FILE), keeps it in FOLDER/scale.json, prints
the model's table, and writes both to FOLDER/scale.md. docs/operations/scale.md
says what the model leaves out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from .report import markdown
from .units import Units, measure

GB: Final = 1024**3
FLEETS: Final = (1_000, 10_000, 100_000, 1_000_000)
GATEWAYS: Final = 300
"""That the largest fleet may be behind: each with one Mesh."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster, and how full it may be."""

    cores: float = 16
    memory: float = 64 * GB
    watermark: float = 0.4
    """Of the memory: above it RabbitMQ stops publishers (vm_memory_high_watermark)."""
    busy: float = 0.6
    """Of the cores: above it latencies grow, and a lost node's work has no place."""
    descriptors: int = 200_000
    """One for each connection."""

    @property
    def usable_memory(self) -> float:
        """Bytes, half of what the watermark allows: the rest is for messages and peaks."""
        return self.memory * self.watermark / 2

    @property
    def usable_cores(self) -> float:
        """Seconds of CPU in a second."""
        return self.cores * self.busy


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh of the model: its programs, and the calls and events that they send."""

    clients: int
    services: int = 20
    calls: float = 0.1
    """Of each client, in a second."""
    events: float = 1.0
    """For each 10 calls of all."""
    subscribers: int = 3
    """Services that handle each event."""
    instance_cpu: float = 0.5
    """Of a core: what an instance of a service may spend on messages."""

    @property
    def calls_per_second(self) -> float:
        """Of all clients."""
        return self.clients * self.calls

    @property
    def events_per_second(self) -> float:
        """Of all services."""
        return self.calls_per_second * self.events / 10

    def instances(self, units: Units) -> int:
        """Processes of all services: at least two of each."""
        # Of a call's CPU about half is the service's; an event is handled for less.
        busy = self.calls_per_second * units.serve / 2
        busy += self.events_per_second * self.subscribers * units.serve / 2
        return max(2 * self.services, math.ceil(busy / self.instance_cpu))


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a mesh on the cluster as a whole."""

    connections: int
    queues: int
    memory: float
    metadata: float
    idle_cores: float
    message_cores: float
    busiest_queue: float
    """Of one queue's rate."""
    start_cpu: float
    """CPU seconds of the brokers until all are back after a restart."""


def load(mesh: Mesh, units: Units) -> Load:
    """The sum of the units."""
    instances = mesh.instances(units)
    queues = mesh.clients + instances + 2 * mesh.services
    deliveries = mesh.events_per_second * mesh.subscribers
    # Calls are spread evenly over the services; each event is one message in a service's queue.
    through_one = (mesh.calls_per_second + deliveries) / mesh.services
    return Load(
        connections=mesh.clients + 2 * instances,
        queues=queues,
        memory=mesh.clients * units.client_broker + instances * units.service_broker,
        metadata=queues * units.queue_metadata,
        idle_cores=mesh.clients * units.client_idle + instances * units.service_idle,
        message_cores=mesh.calls_per_second * units.call
        + mesh.events_per_second * units.event
        + deliveries * units.delivery,
        busiest_queue=through_one / units.queue_rate,
        start_cpu=mesh.clients * units.client_start + instances * units.service_start,
    )


def nodes_for(asked: Load, node: Node) -> dict[str, float]:
    """Return the number of nodes that each resource needs, a fraction; the largest decides."""
    return {
        "memory": asked.memory / max(1.0, node.usable_memory - asked.metadata),
        "CPU, idle": asked.idle_cores / node.usable_cores,
        "CPU, messages": asked.message_cores / node.usable_cores,
        "descriptors": asked.connections / node.descriptors,
    }


def fleets(template: Mesh) -> Iterator[tuple[str, Mesh]]:
    """Yield the meshes to compute: growing numbers of clients, and the most behind gateways."""
    for clients in FLEETS:
        yield f"{clients:,}", replace(template, clients=clients)
    calls = template.calls * FLEETS[-1] / GATEWAYS
    label = f"{FLEETS[-1]:,} behind {GATEWAYS} gateways"
    yield label, replace(template, clients=GATEWAYS, calls=calls)


def table(units: Units, node: Node, template: Mesh) -> list[list[str]]:
    """A row for each fleet."""
    rows = []
    for label, mesh in fleets(template):
        asked = load(mesh, units)
        needed = nodes_for(asked, node)
        first = max(needed, key=lambda name: needed[name])
        cores = asked.idle_cores + asked.message_cores
        together = {**needed, "CPU": cores / node.usable_cores}
        nodes = max(1, math.ceil(max(together.values())))
        minutes = asked.start_cpu / (nodes * node.cores) / 60
        rows.append(
            [
                label,
                f"{mesh.calls_per_second:,.0f}",
                f"{mesh.instances(units):,}",
                f"{asked.connections:,}",
                f"{asked.queues:,}",
                f"{asked.memory / GB:,.1f}",
                f"{asked.idle_cores:,.1f}",
                f"{asked.message_cores:,.1f}",
                f"{asked.busiest_queue:.0%}",
                f"{minutes:,.1f}",
                f"{nodes:,}",
                first,
            ]
        )
    return rows


HEAD: Final = [
    "clients",
    "calls/s",
    "instances",
    "connections",
    "queues",
    "GB",
    "cores idle",
    "cores messages",
    "busiest queue",
    "minutes to come back",
    "nodes",
    "gives first",
]


def page(units: Units, node: Node, template: Mesh) -> str:
    """scale.md."""
    parts = [
        "# What a cluster carries\n",
        f"Measured on RabbitMQ {units.broker_version} with its management plugin, and computed "
        "from it. Written by `scripts/bench --scale`; docs/operations/scale.md says how to read "
        "it.\n",
        "## One of everything\n",
        units_table(units),
        "## The model\n",
        f"Nodes of {node.cores:.0f} cores and {node.memory / GB:.0f} GB; {template.services} "
        f"services; {template.calls:g} calls a second of each client; an event for each 10 calls, "
        f"handled by {template.subscribers} services.\n",
        model_table(units, node, template),
    ]
    return "\n".join(parts)


def units_table(units: Units) -> str:
    """The units, as a table."""
    measured = {name: each for name, each in asdict(units).items() if not isinstance(each, str)}
    rows = [[name.replace("_", " "), _told(name, each)] for name, each in measured.items()]
    return markdown(["", "measured"], rows)


def model_table(units: Units, node: Node, template: Mesh) -> str:
    """The model of each fleet, as a table."""
    return markdown(HEAD, table(units, node, template))


_BYTES: Final = frozenset(
    (
        "connection",
        "channel",
        "queue",
        "queue_metadata",
        "binding",
        "consumer",
        "client_broker",
        "client_process",
        "service_broker",
        "service_process",
    )
)


def _told(name: str, value: float) -> str:
    if name in _BYTES:
        return f"{value / 1024:,.1f} KB"
    if name == "queue_rate":
        return f"{value:,.0f} messages/s"
    if "start" in name:
        return f"{value * 1000:,.1f} ms CPU"
    if "idle" in name:
        return f"{value * 1e6:,.0f} µs CPU in each second"
    return f"{value * 1e6:,.0f} µs CPU"


def main() -> None:
    """The command."""
    node, mesh = Node(), Mesh(0)
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer of each: less exact")
    parser.add_argument("--units", type=Path, help="a scale.json of before: nothing is measured")
    parser.add_argument("--cores", type=float, default=node.cores)
    parser.add_argument("--memory-gb", type=float, default=node.memory / GB)
    parser.add_argument("--services", type=int, default=mesh.services)
    parser.add_argument("--calls", type=float, default=mesh.calls, help="of a client, per second")
    parser.add_argument("--events", type=float, default=mesh.events, help="for each 10 calls")
    parser.add_argument("--subscribers", type=int, default=mesh.subscribers)
    given = parser.parse_args()
    if given.units is not None:
        units = Units(**json.loads(given.units.read_text(encoding="utf-8")))
    else:
        units = measure(quick=given.quick)
        given.folder.mkdir(parents=True, exist_ok=True)
        kept = json.dumps(asdict(units), indent=1)
        (given.folder / "scale.json").write_text(kept, encoding="utf-8")
    node = Node(cores=given.cores, memory=given.memory_gb * GB)
    mesh = Mesh(0, given.services, given.calls, given.events, given.subscribers)
    written = page(units, node, mesh)
    (given.folder / "scale.md").write_text(written, encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
