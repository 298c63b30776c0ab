"""Queues of delays that a service may not make, or that somebody else has made otherwise."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from nuropb_rmq import BrokerAuthenticationError, Retry, ServiceNotConfigured
from nuropb_rmq.testing import RabbitMQNode

from ..faults.console import add_user, permit, vhost_of
from ..faults.ear import with_credentials
from ..mesh.conftest import meshes
from ..mesh.support import Meshes
from ..support import Transports

__all__ = ["meshes"]

RETRY = Retry(attempts=3, delays=(0.05, 7))
QUEUE = "nuropb-orders-retry-7000"


class Orders:
    """A service."""

    _service_name = "orders"

    async def get(self) -> None:
        """Return nothing."""


@pytest.fixture
async def user(mesh: Transports, rabbitmq_node: RabbitMQNode) -> AsyncIterator[str]:
    """The name of a user who may do everything."""
    name = f"orders-{os.urandom(4).hex()}"
    await asyncio.to_thread(add_user, rabbitmq_node, mesh.url, name, "secret")
    yield name
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/users/{name}")


async def test_a_queue_that_it_may_not_make(
    mesh: Transports, user: str, rabbitmq_node: RabbitMQNode, meshes: Meshes
) -> None:
    but = rf"^(?!{QUEUE}$).*"
    await asyncio.to_thread(permit, rabbitmq_node, mesh.url, user, but)
    url = with_credentials(mesh.url, user, "secret")
    with pytest.raises(BrokerAuthenticationError, match=rf"{QUEUE}.*retry_delays"):
        await meshes.serve(Orders(), amqp_url=url, retry=RETRY)


async def test_a_queue_of_somebody_else(
    mesh: Transports, rabbitmq_node: RabbitMQNode, meshes: Meshes
) -> None:
    path = f"/api/queues/{vhost_of(mesh.url)}/{QUEUE}"
    await asyncio.to_thread(rabbitmq_node.api, "PUT", path, {"durable": True})
    with pytest.raises(ServiceNotConfigured, match=rf"{QUEUE}.*retry_delays"):
        await meshes.serve(Orders(), retry=RETRY)
