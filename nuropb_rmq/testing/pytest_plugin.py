"""pytest fixtures: a private RabbitMQ node, and a virtual host of each test's own on it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from .node import RabbitMQNode

__all__ = ["mesh_url", "rabbitmq_node"]


@pytest.fixture(scope="session")
def rabbitmq_node() -> Iterator[RabbitMQNode]:
    """A node that runs for the whole session. Raises BrokerNotInstalled, BrokerStartError."""
    with RabbitMQNode() as node:
        yield node


@pytest.fixture
def mesh_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The AMQP URL of a fresh virtual host, deleted after the test.

    With NUROPB_RMQ_TEST_URL in the environment it is that URL, as it is, and no node is started:
    whatever the tests leave on that broker remains there.
    """
    given = os.environ.get("NUROPB_RMQ_TEST_URL")
    if given:
        yield given
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
