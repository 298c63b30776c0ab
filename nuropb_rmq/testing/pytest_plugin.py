"""pytest fixtures: a broker in memory for each test, or a virtual host on a private RabbitMQ node.

Nothing of nuropb_rmq but this folder is loaded until a test uses one of them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ._runners import fixture_for, register_fixtures

# pytest loads this file in every run: the fixtures load what they need.
if TYPE_CHECKING:
    from .memory import MemoryBroker, MemoryMesh
    from .node import RabbitMQNode

__all__ = ["memory_mesh", "mesh_broker", "mesh_url", "rabbitmq_node"]


def pytest_configure(config: pytest.Config) -> None:
    """Add the fixtures that memory_mesh needs of other plugins."""
    register_fixtures(config)


@pytest.fixture
def mesh_broker(request: pytest.FixtureRequest) -> Iterator[MemoryBroker]:
    """A broker in memory of the test's own, and all messages that it takes.

    `mesh_broker.url` is for a Mesh or an application that the test makes itself.
    """
    from .memory import memory_broker, unique_name

    with memory_broker(unique_name(request.node.name)) as broker:
        yield broker


@pytest.fixture
def memory_mesh(request: pytest.FixtureRequest, mesh_broker: MemoryBroker) -> MemoryMesh:
    """Start meshes on the test's broker in memory: `mesh = await memory_mesh(Orders())`.

    They are stopped at the end of the test. Runs with pytest-asyncio in either mode, and with
    anyio's plugin on asyncio.
    """
    meshes: MemoryMesh = request.getfixturevalue(fixture_for(request))
    return meshes


@pytest.fixture(scope="session")
def rabbitmq_node() -> Iterator[RabbitMQNode]:
    """Run a node for the whole session. Raises BrokerNotInstalled, BrokerStartError."""
    from .node import RabbitMQNode

    with RabbitMQNode() as node:
        yield node


@pytest.fixture
def mesh_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Make a virtual host, deleted after the test, and yield its AMQP URL.

    If NUROPB_RMQ_TEST_URL is set, yield that URL instead, and start no node: anything that the
    tests leave on that broker remains there.
    """
    url = os.environ.get("NUROPB_RMQ_TEST_URL")
    if url:
        yield url
        return
    node: RabbitMQNode = request.getfixturevalue("rabbitmq_node")
    vhost = f"test-{secrets.token_hex(6)}"
    node.api("PUT", f"/api/vhosts/{vhost}")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    node.api("PUT", f"/api/permissions/{vhost}/guest", everything)
    try:
        yield node.amqp_url + vhost
    finally:
        if node.running:
            node.api("DELETE", f"/api/vhosts/{vhost}")
