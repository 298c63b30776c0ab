"""Meshes that the tests start, and stop at the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from nuropb_rmq import Handler, Mesh, State, Transport
from nuropb_rmq.config.settings import TransportConfig

from ..encrypting import Tap


class Meshes:
    """Starts meshes, and stops them all at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made: list[Mesh | Transport] = []

    def mesh(self, service: object | None = None, **options: Any) -> Mesh:
        """A mesh that is not started; stopped with the others. Its name is `orders`."""
        if service is not None and not hasattr(service, "_service_name"):
            options.setdefault("service_name", "orders")
        made = Mesh(options.pop("amqp_url", self.url), service=service, **options)
        self._made.append(made)
        return made

    async def serve(self, service: object, **options: Any) -> Mesh:
        """A started mesh that serves this object."""
        made = self.mesh(service, **options)
        await made.start()
        return made

    async def client(self, **options: Any) -> Mesh:
        """A started mesh that only calls."""
        return await self.serve(None, **options)

    async def bare(self, handler: Handler, name: str = "bare") -> Transport:
        """A started transport that serves by this handler: a service without a Mesh."""
        made = Transport(self.config(name), handler)
        self._made.append(made)
        await made.start()
        return made

    def config(self, name: str = "orders", **settings: Any) -> TransportConfig:
        """For what has no option of its own."""
        return TransportConfig(amqp_url=self.url, service_name=name, **settings)

    def quick(self, url: str, name: str, **settings: Any) -> TransportConfig:
        """Of another address, and with short pauses at recoveries."""
        settings = {"reconnect_cap": 0.3, **settings}
        return TransportConfig(amqp_url=url, service_name=name, **settings)

    async def taken(self, queue: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many messages in a queue, and take them; their payloads."""

        def take() -> list[dict[str, Any]]:
            tap = Tap(self.url)
            try:
                return [json.loads(body) for _, body in tap.take(queue, count)]
            finally:
                tap.close()

        return await asyncio.to_thread(take)

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(each.stop(grace=1) for each in self._made))
        assert all(each.state in (State.STOPPED, State.FAILED) for each in self._made)
        self._made.clear()  # pytest keeps this object: what they hold must not look like a leak
