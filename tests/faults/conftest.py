"""Fixtures of the fault tests: a broker that may be killed, and a wire that may be cut."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from nuropb_rmq import TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode

from ..compat.conftest import apis
from ..mesh.conftest import meshes
from ..support import Transports
from .common import QUORUM
from .console import delete_queue, set_milliseconds
from .proxy import Proxy

__all__ = ["apis", "meshes", "mortal_mesh", "proxy", "quorum"]


@pytest.fixture
async def quorum(mesh: Transports, rabbitmq_node: RabbitMQNode) -> Transports:
    """A virtual host with a dead-letter queue of the quorum profile."""
    # How often such a queue says how many messages it has; 5 s by itself.
    await asyncio.to_thread(set_milliseconds, rabbitmq_node, quorum_tick_interval=200)
    await asyncio.to_thread(delete_queue, rabbitmq_node, mesh.url, "nuropb-orders-dlq")
    await configure(TransportConfig(amqp_url=mesh.url, service_name="orders", **QUORUM))
    return mesh


@pytest.fixture
async def mortal_mesh(mortal_node: RabbitMQNode) -> AsyncIterator[Transports]:
    """A configured virtual host on the mortal node."""
    vhost = f"mortal-{os.urandom(4).hex()}"
    url = f"{mortal_node.amqp_url}{vhost}"
    await configure(
        TransportConfig(amqp_url=url, service_name="orders"), api_url=mortal_node.management_url
    )
    mesh = Transports(url)
    yield mesh
    await mesh.stop()


@pytest.fixture
async def proxy(mesh: Transports) -> AsyncIterator[Proxy]:
    """A proxy in front of the shared node, to the mesh's virtual host."""
    async with Proxy(mesh.url) as made:
        yield made
