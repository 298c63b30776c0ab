"""Every case runs on a broker in memory and on RabbitMQ, in a place of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from nuropb_rmq import TransportConfig, configure

from ..compat.apis import Apis
from ..compat.programs import Programs
from ..mesh.support import Meshes
from ..support import Transports
from .brokers import MEMORY, RABBITMQ, Broker, InMemory, Place, RabbitMQ
from .raw import Raw, RawChannel, raw


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the broker: a node that is started for one test stays for the others."""
    for item in items:
        names = getattr(item, "fixturenames", [])
        if "broker" in names:
            names.remove("broker")
            names.insert(0, "broker")


@pytest.fixture(scope="session", params=[MEMORY, RABBITMQ])
def broker(request: pytest.FixtureRequest) -> Broker:
    """The broker that the case runs on."""
    if request.param == "memory":
        return InMemory()
    return RabbitMQ(request.getfixturevalue("rabbitmq_node"))


@pytest.fixture
def place(broker: Broker) -> Iterator[Place]:
    """A virtual host, or a name, of the test's own."""
    with broker.place() as made:
        yield made


@pytest.fixture
async def meshes(place: Place) -> AsyncIterator[Meshes]:
    """Starts meshes, and stops them all at the end."""
    made = Meshes(place.url)
    yield made
    await made.stop()


@pytest.fixture
async def configured(place: Place) -> None:
    """The exchanges, and the dead letters of orders."""
    await configure(TransportConfig(amqp_url=place.url, service_name="orders"))


@pytest.fixture
async def transports(place: Place, configured: None) -> AsyncIterator[Transports]:
    """Starts transports, and stops them all at the end."""
    made = Transports(place.url)
    yield made
    await made.stop()


@pytest.fixture
async def programs(place: Place, configured: None) -> AsyncIterator[Programs]:
    """Starts programs of nuropb's RMQTransport, and stops them all at the end."""
    made = Programs(place.url)
    yield made
    await made.stop()


@pytest.fixture
async def apis(place: Place, configured: None) -> AsyncIterator[Apis]:
    """Connects RMQAPIs, and disconnects them at the end."""
    made = Apis(place.url)
    yield made
    await made.stop()


@pytest.fixture
async def connection(place: Place) -> AsyncIterator[Raw]:
    """A plain connection."""
    async with raw(place.url) as made:
        yield made


@pytest.fixture
async def channel(connection: Raw) -> RawChannel:
    """A plain channel."""
    return await connection.channel()
