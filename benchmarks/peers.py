"""The peers that are measured: for each a program of `sides`, its environment and options."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

OURS: Final = Path(sys.executable)
PEER: Final = ROOT / ".venv-peer" / "bin" / "python"
BENCH: Final = ROOT / ".venv-bench" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Peer:
    """One side. `label` is what tables and pictures call it."""

    label: str
    module: str
    options: tuple[str, ...] = ()
    python: Path = OURS
    root: Path = ROOT
    """The checkout whose library it uses, where that is ours."""

    @property
    def ours(self) -> bool:
        """True when it is this library."""
        return self.module in ("transport", "mesh", "adapter")


TRANSPORT: Final = Peer("Transport", "transport")
SPEED: Final = Peer("Transport, speed", "transport", ("speed",))
TRANSIENT: Final = Peer("Transport, transient", "transport", ("transient",))
POSTED: Final = Peer("Transport, post()", "transport", ("post",))
MESH: Final = Peer("Mesh", "mesh")
MESH_SPEED: Final = Peer("Mesh, speed", "mesh", ("speed",))
MESH_THREAD: Final = Peer("Mesh, in a thread", "mesh", ("thread",))
MESH_PROMETHEUS: Final = Peer("Mesh, Prometheus", "mesh", ("prometheus",))
OTEL: Final = (
    Peer("Mesh, otel, no provider", "mesh", ("otel",)),
    Peer("Mesh, otel, 1 % sampled", "mesh", ("otel", "sampled")),
    Peer("Mesh, otel, metrics", "mesh", ("otel", "metrics")),
    Peer("Mesh, otel, all spans", "mesh", ("otel", "recorded")),
)
ADAPTER: Final = Peer("RMQTransport", "adapter")
NUROPB: Final = Peer("nuropb 0.1.8", "nuropb_0_1_8", python=PEER)
BESIDE_KEYS: Final = (
    Peer("unwrapped in a thread", "mesh", ("single",)),
    Peer("unwrapped in place", "mesh", ("single", "in_place")),
)
BESIDE_BODIES: Final = (
    Peer("opened in a thread", "mesh"),
    Peer("opened in place", "mesh", ("in_place",)),
)
AIO_PIKA: Final = Peer("aio-pika RPC", "aio_pika_rpc", python=BENCH)
FASTSTREAM: Final = Peer("FastStream", "faststream_rabbit", python=BENCH)
NUROPB_RMQ: Final = Peer("nuropb-rmq 1.0.0", "nuropb_rmq_1_0", python=BENCH)
TRACED: Final = (
    AIO_PIKA,
    Peer("aio-pika RPC, all spans", "aio_pika_rpc", ("recorded",), BENCH),
    FASTSTREAM,
    Peer("FastStream, all spans", "faststream_rabbit", ("recorded",), BENCH),
)
"""Others, without and with the instrumentation that is made for them."""
AIORMQ: Final = Peer("bare aiormq", "aiormq_raw", python=BENCH)
NATS: Final = Peer("NATS", "nats_request", python=BENCH)
GRPC: Final = Peer("gRPC", "grpc_aio", python=BENCH)
HTTP: Final = Peer("HTTP", "http_fastapi", python=BENCH)
FLOOR: Final = Peer("floor", "floor")
BATCHED: Final = Peer("floor, batched", "floor", ("batched",))

OTHERS: Final = (NUROPB, NUROPB_RMQ, AIO_PIKA, FASTSTREAM, AIORMQ)
ELSEWHERE: Final = (NATS, GRPC, HTTP)
"""Not over RabbitMQ."""
FLOORS: Final = (FLOOR, BATCHED)
