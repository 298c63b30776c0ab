"""RMQAPIs on a configured virtual host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nuropb_rmq import RMQAPI, TransportConfig, configure


class Apis:
    """Connects RMQAPIs, and disconnects them all at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made: list[RMQAPI] = []

    def api(self, service: object | None = None, **options: Any) -> RMQAPI:
        """One that is not connected; a service's name is its own."""
        if service is not None:
            options.setdefault("service_name", getattr(service, "_service_name", "orders"))
        made = RMQAPI(self.url, service_instance=service, **options)
        self._made.append(made)
        return made

    async def connect(self, service: object | None = None, **options: Any) -> RMQAPI:
        """One that is connected."""
        made = self.api(service, **options)
        await made.connect()
        return made

    async def stop(self) -> None:
        """Disconnect them all."""
        await asyncio.gather(*(each.disconnect() for each in self._made))
        self._made.clear()


@pytest.fixture
async def apis(mesh_url: str) -> AsyncIterator[Apis]:
    """On the virtual host of the test."""
    await configure(TransportConfig(amqp_url=mesh_url, service_name="orders"))
    made = Apis(mesh_url)
    yield made
    await made.stop()
