"""Programs as they were written for nuropb, on a virtual host of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from nuropb_rmq import TransportConfig, configure

from ..support import Transports
from .apis import Apis
from .programs import Programs


@pytest.fixture
async def programs(mesh: Transports) -> AsyncIterator[Programs]:
    """Starts programs on one virtual host, and stops them all at the end."""
    made = Programs(mesh.url)
    yield made
    await made.stop()


@pytest.fixture
async def apis(mesh_url: str) -> AsyncIterator[Apis]:
    """Connects RMQAPIs on the virtual host of the test, and disconnects them at the end."""
    await configure(TransportConfig(amqp_url=mesh_url, service_name="orders"))
    made = Apis(mesh_url)
    yield made
    await made.stop()
