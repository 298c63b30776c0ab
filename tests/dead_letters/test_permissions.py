"""Tests of access to dead letters: quorum queues' delivery limit, SECURITY.md's permissions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from nuropb_rmq import (
    BrokerAuthenticationError,
    BrokerUnreachableError,
    DeadLetters,
    ServiceNotConfigured,
    TransportConfig,
)
from nuropb_rmq.testing import RabbitMQNode

from ..faults import console
from ..faults.ear import with_credentials
from .conftest import may_be_returned, yard_at
from .support import DL_QUEUE, Yard

pytestmark = pytest.mark.broker
NOBODY = "http://127.0.0.1:1"  # where no management API is
LIMITED = "its delivery limit cannot be seen"


def has_limits(node: RabbitMQNode) -> bool:
    """Return whether its quorum queues have a limit by themselves."""
    return int(node.version.partition(".")[0]) >= 4


@pytest.fixture
async def quorum(rabbitmq_node: RabbitMQNode, mesh_url: str) -> AsyncIterator[Yard]:
    """A quorum queue of dead letters without a policy."""
    async with yard_at(mesh_url, rabbitmq_node.management_url, queue_type="quorum") as made:
        yield made


async def refused(yard: Yard, match: str, *, api_url: str | None = None) -> None:
    """Nothing is looked at; who takes the risk may all the same."""
    await yard.fill(3)
    api_url = api_url or yard.api_url
    with pytest.raises(ServiceNotConfigured, match=match) as caught:
        async with DeadLetters(yard.config, api_url=api_url):
            pass
    for text in ("after 21 times", "policy delivery-limit -1", "allow_delivery_limit=True"):
        assert text in str(caught.value)
    async with DeadLetters(yard.config, api_url=api_url, allow_delivery_limit=True) as dead:
        assert len([each async for each in dead.list()]) == 3


async def test_a_quorum_queue_without_the_policy_is_not_looked_at(
    quorum: Yard, rabbitmq_node: RabbitMQNode
) -> None:
    if not has_limits(rabbitmq_node):
        async with DeadLetters(quorum.config, api_url=NOBODY) as dead:
            assert await dead.groups() == ()
        return
    await refused(quorum, "a quorum queue with a delivery limit of 20")
    await asyncio.to_thread(may_be_returned, rabbitmq_node, quorum.url)
    async with quorum.dead_letters() as dead:
        assert (await dead.purge()).done == 3


async def test_a_policy_that_cannot_be_seen(quorum: Yard, rabbitmq_node: RabbitMQNode) -> None:
    if has_limits(rabbitmq_node):
        await asyncio.to_thread(may_be_returned, rabbitmq_node, quorum.url)
        await refused(quorum, rf"{LIMITED}.*management API {NOBODY}", api_url=NOBODY)


async def test_another_limit(quorum: Yard, rabbitmq_node: RabbitMQNode) -> None:
    if has_limits(rabbitmq_node):
        policy = {"pattern": DL_QUEUE, "definition": {"delivery-limit": 7}}
        path = f"/api/policies/{console.vhost_of(quorum.url)}/dlq"
        await asyncio.to_thread(rabbitmq_node.api, "PUT", path, policy)
        with pytest.raises(ServiceNotConfigured, match=r"limit of 7.*after 8 times"):
            async with quorum.dead_letters():
                pass


@pytest.fixture(params=["classic", "quorum"])
async def restricted(
    request: pytest.FixtureRequest, rabbitmq_node: RabbitMQNode, mesh_url: str
) -> AsyncIterator[tuple[Yard, TransportConfig]]:
    """A place, and the configuration of a user who may do what SECURITY.md says of `operator`."""
    name = f"operator-{console.vhost_of(mesh_url)}"

    def permit() -> None:
        console.add_user(rabbitmq_node, mesh_url, name, "secret")
        console.permit(rabbitmq_node, mesh_url, name, "^$", r"^amq\.default$", f"^{DL_QUEUE}$")

    await asyncio.to_thread(permit)
    url = with_credentials(mesh_url, name, "secret")
    kind = request.param
    async with yard_at(mesh_url, rabbitmq_node.management_url, queue_type=kind) as made:
        yield made, TransportConfig(amqp_url=url, service_name="orders", queue_type=kind)
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/users/{name}")


async def test_the_documented_permissions_are_enough(
    restricted: tuple[Yard, TransportConfig], rabbitmq_node: RabbitMQNode
) -> None:
    """But on 4.x for the type of the queue: the user may not ask the management API for it."""
    yard, config = restricted
    await yard.fill(40, 20)
    await yard.declare()
    if has_limits(rabbitmq_node):
        with pytest.raises(
            ServiceNotConfigured, match="its type and delivery limit cannot be"
        ) as caught:
            async with DeadLetters(config, api_url=yard.api_url):
                pass
        assert "secret" not in str(caught.value)
    async with DeadLetters(config, api_url=yard.api_url, allow_delivery_limit=True) as dead:
        bodies = [each.body async for each in dead.list()]
        assert len(bodies) == 60
        assert [each.body async for each in dead.list(limit=3)] == bodies[:3]
        assert [each.body async for each in dead.list()] == bodies
        assert (await dead.replay(limit=10)).done == 10
        assert (await dead.purge()).done == 30
    assert await yard.replayed() == list(range(10))


async def test_with_the_tag_management_it_is_seen_what_may_be_looked_at(
    restricted: tuple[Yard, TransportConfig], rabbitmq_node: RabbitMQNode
) -> None:
    yard, config = restricted
    tagged = {"password": "secret", "tags": "management"}
    name = f"operator-{console.vhost_of(yard.url)}"
    await asyncio.to_thread(rabbitmq_node.api, "PUT", f"/api/users/{name}", tagged)
    await asyncio.to_thread(may_be_returned, rabbitmq_node, yard.url)
    async with DeadLetters(config, api_url=yard.api_url) as dead:
        assert await dead.groups() == ()


async def test_the_management_api_may_have_a_user_of_its_own(
    restricted: tuple[Yard, TransportConfig], rabbitmq_node: RabbitMQNode
) -> None:
    yard, config = restricted
    await asyncio.to_thread(may_be_returned, rabbitmq_node, yard.url)
    assert yard.api_url is not None
    api_url = yard.api_url.replace("http://", "http://guest:guest@")
    async with DeadLetters(config, api_url=api_url) as dead:
        assert await dead.groups() == ()


async def test_what_is_not_permitted_is_told(mesh_url: str, rabbitmq_node: RabbitMQNode) -> None:
    async with yard_at(mesh_url, rabbitmq_node.management_url) as yard:
        await yard.fill(3)
        await yard.declare()
        name = f"nobody-{console.vhost_of(mesh_url)}"
        url = with_credentials(mesh_url, name, "secret")
        for write, read in ((r"^amq\.default$", "^$"), ("^$", ".*")):

            def permit(write: str = write, read: str = read) -> None:
                console.add_user(rabbitmq_node, mesh_url, name, "secret")
                console.permit(rabbitmq_node, mesh_url, name, "^$", write, read)

            await asyncio.to_thread(permit)
            config = TransportConfig(amqp_url=url, service_name="orders")
            async with DeadLetters(config, allow_delivery_limit=True) as dead:
                result = await dead.replay()
                assert result.done == 0
                assert "ACCESS_REFUSED" in str(result.stopped)
        await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/users/{name}")
        assert await yard.left() == [0, 1, 2]


async def test_no_broker() -> None:
    config = TransportConfig(amqp_url="amqp://127.0.0.1:1", service_name="orders")
    with pytest.raises(BrokerUnreachableError, match=r"127\.0\.0\.1:1"):
        async with DeadLetters(config):
            pass


async def test_a_wrong_password(mesh_url: str) -> None:
    url = with_credentials(mesh_url, "guest", "wrong")
    with pytest.raises(BrokerAuthenticationError, match="refused user 'guest'"):
        async with DeadLetters(url, "orders"):
            pass
