"""Places with a dead-letter queue, on each kind of broker and queue."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from nuropb_rmq import TransportConfig, configure
from nuropb_rmq.broker.connecting import open_connection
from nuropb_rmq.memory.host import held
from nuropb_rmq.testing import RabbitMQNode

from ..faults.console import vhost_of
from .support import Hand, Yard

MEMORY = pytest.param("memory", id="memory")
CLASSIC = pytest.param("classic", id="classic", marks=pytest.mark.broker)
QUORUM = pytest.param("quorum", id="quorum", marks=pytest.mark.broker)

OF_LETTERS = {"pattern": "^nuropb-.*-dlq$", "definition": {"delivery-limit": -1}}


def may_be_returned(node: RabbitMQNode, url: str) -> None:
    """Set the policy that quorum queues of dead letters need from RabbitMQ 4.0 on."""
    if int(node.version.partition(".")[0]) >= 4:
        policy = {**OF_LETTERS, "apply-to": "quorum_queues"}
        node.api("PUT", f"/api/policies/{vhost_of(url)}/dlq", policy)


@asynccontextmanager
async def yard_at(url: str, api_url: str | None, **settings: Any) -> AsyncIterator[Yard]:
    """A configured place."""
    config = TransportConfig(amqp_url=url, service_name="orders", **settings)
    await configure(config)
    connection = await open_connection(config, "raw")
    try:
        channel = connection.new_channel(confirms=True)
        await channel.open()
        yield Yard(config, api_url, connection, Hand(connection, channel.number))
    finally:
        await connection.shut()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the broker: a node that is started for one test stays for the others."""
    for item in items:
        names = getattr(item, "fixturenames", [])
        if "kind" in names:
            names.remove("kind")
            names.insert(0, "kind")


@pytest.fixture(scope="session", params=[MEMORY, CLASSIC, QUORUM])
def kind(request: pytest.FixtureRequest) -> str:
    """In memory, or the type of the queues on RabbitMQ, whose node is started."""
    if request.param != "memory":
        request.getfixturevalue("rabbitmq_node")
    return str(request.param)


@pytest.fixture
async def yard(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Yard]:
    """The queues of orders: in memory, classic ones, quorum ones with their policy."""
    if kind == "memory":
        with held(f"test-{secrets.token_hex(6)}") as host:
            async with yard_at(f"memory://{host.name}", None) as made:
                yield made
        return
    url, node = request.getfixturevalue("mesh_url"), request.getfixturevalue("rabbitmq_node")
    if kind == "quorum":
        await asyncio.to_thread(may_be_returned, node, url)
    async with yard_at(url, node.management_url, queue_type=kind) as made:
        yield made
