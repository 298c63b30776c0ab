"""Our Mesh with the default settings: async methods, parameters checked.

Options: `speed`, as for the Transport; `single` (each encrypted call has a key of its own),
`in_place` (nothing is decrypted in a thread), `prometheus` (its metrics are collected), `otel`,
with `sampled` (1 % of the traces), `recorded` (all of them) or `metrics`, or without a provider;
`thread` (the service's method is synchronous).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from .loop import LIVE, PREFETCH, Params, Side, main

if "speed" in sys.argv:
    sys.argv.append("uvloop")
else:
    sys.modules["orjson"] = None  # type: ignore[assignment]

from nuropb_rmq import Mesh, TransportConfig, mesh_event

if "otel" in sys.argv:
    from nuropb_rmq.telemetry import instrument

    from .otel import providers

if "in_place" in sys.argv:
    from nuropb_rmq.protocol.encryption import Encryptor
    from nuropb_rmq.transport import sealing

    sealing.OFFLOAD_BYTES = sys.maxsize
    Encryptor.needs_private_key = lambda *_: False  # type: ignore[method-assign]


class Service:
    """The service."""

    _service_name = "bench"
    _private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    async def echo(self, order_id: str, text: str, lines: list[int]) -> Any:
        """Answer with the parameters."""
        return {"order_id": order_id, "text": text, "lines": lines}


def _echo(_: Service, order_id: str, text: str, lines: list[int]) -> Any:
    """Answer with the parameters, in a thread."""
    return {"order_id": order_id, "text": text, "lines": lines}


class MeshSide(Side):
    """Mesh."""

    distribution = "nuropb-rmq-aio"
    exchange = "nuropb-events-exchange"
    client: Mesh
    subscribers: list[Mesh]

    def config(self, name: str) -> TransportConfig:
        """The defaults, but for the prefetch count that all sides have."""
        return TransportConfig(amqp_url=self.url, service_name=name, prefetch_count=PREFETCH)

    def observe(self, mesh: Mesh) -> None:
        """With the telemetry that the options name."""
        if "prometheus" in self.options:
            from nuropb_rmq.telemetry.prometheus import collect  # noqa: PLC0415 - an extra

            collect(mesh)
        if "otel" in self.options:
            instrument(mesh, **providers(self.options))

    async def start_client(self) -> None:
        """A client."""
        await self.start_publisher()

    def call(self, given: Params) -> Awaitable[Any]:
        """A request."""
        return self.client.request(self.service, "echo", given)

    def call_encrypted(self, given: Params) -> Awaitable[Any]:
        """The same, encrypted."""
        return self.client.request("bench", "echo", given, encrypted=True)

    async def start_publisher(self) -> None:
        """A client."""
        self.client = Mesh(self.url, key_uses=1) if "single" in self.options else Mesh(self.url)
        self.observe(self.client)
        self.subscribers = []
        await self.client.start()

    async def publish(self, topic: str, event: Params) -> None:
        """Until the broker has confirmed it."""
        await self.client.publish_event(topic, event)

    async def subscribe(self, number: int) -> None:
        """A service that listens."""
        side = self

        class Listener:
            @mesh_event(LIVE)
            async def on_event(self, topic: str, event: Params) -> None:
                side.handled()

        mesh = Mesh(self.config(f"listener{number}"), service=Listener())
        await mesh.start()
        self.subscribers.append(mesh)

    async def unsubscribe(self) -> None:
        """Stop them."""
        await asyncio.gather(*(mesh.stop() for mesh in self.subscribers))
        self.subscribers.clear()

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service, its exchanges included."""
        echo = _echo if "thread" in self.options else self.handler(Service.echo)
        kind = type("Service", (Service,), {"echo": echo})
        mesh = Mesh(self.config("bench"), service=kind())
        self.observe(mesh)
        await mesh.start()
        return mesh.stop

    async def relay(self, name: str, to: str) -> None:
        """Its method calls through the mesh that serves it."""

        class Relay:
            _service_name = name

            async def echo(self, order_id: str, text: str, lines: list[int]) -> Any:
                given = {"order_id": order_id, "text": text, "lines": lines}
                return await mesh.request(to, "echo", given)

        mesh = Mesh(self.config(name), service=Relay())
        self.observe(mesh)
        await mesh.start()


if __name__ == "__main__":
    main(MeshSide)
