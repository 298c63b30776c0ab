"""The management API on a real broker; servers that misbehave: test_management_errors.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from urllib.parse import quote

import aio_pika
import pytest

from nuropb_rmq.broker.management import ManagementAPI
from nuropb_rmq.exceptions import BrokerAuthenticationError, ServiceNotConfigured
from nuropb_rmq.testing import RabbitMQNode

from ..seams import grant

AWKWARD = "a/b c%é"


def guest(node: RabbitMQNode) -> ManagementAPI:
    return ManagementAPI(node.management_url, username="guest", password="guest")


@pytest.fixture
def awkward_vhost(rabbitmq_node: RabbitMQNode) -> Iterator[str]:
    """The name of a virtual host that does not exist yet, and will not afterwards."""
    yield AWKWARD
    if any(vhost["name"] == AWKWARD for vhost in rabbitmq_node.api("GET", "/api/vhosts")):
        rabbitmq_node.api("DELETE", f"/api/vhosts/{quote(AWKWARD, safe='')}")


async def declare(node: RabbitMQNode, vhost: str) -> None:
    """Declare the queue "q" over AMQP: it takes permissions in the virtual host to do so."""
    url = f"amqp://guest:guest@127.0.0.1:{node.port}/{quote(vhost, safe='')}"
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.declare_queue("q", durable=True)


async def test_overview(rabbitmq_node: RabbitMQNode) -> None:
    async with guest(rabbitmq_node) as api:
        assert (await api.overview())["rabbitmq_version"] == rabbitmq_node.version


async def test_alarms(mortal_node: RabbitMQNode) -> None:
    async with guest(mortal_node) as api:
        assert await api.alarms() == []
        mortal_node.rabbitmqctl("set_disk_free_limit", "90000GB")
        try:
            (alarm,) = await api.alarms()
        finally:
            mortal_node.rabbitmqctl("set_disk_free_limit", "50MB")
        (node,) = mortal_node.api("GET", "/api/nodes")
        assert alarm == {"node": node["name"], "resource": "disk space"}
        assert await api.alarms() == []


async def test_virtual_host_and_queue_round_trip(
    rabbitmq_node: RabbitMQNode, awkward_vhost: str
) -> None:
    async with guest(rabbitmq_node) as api:
        assert await api.vhost_exists("/")
        assert not await api.vhost_exists(awkward_vhost)
        for _ in range(2):
            await api.create_vhost(awkward_vhost)
        assert await api.vhost_exists(awkward_vhost)

        # Over HTTP: aiormq refuses to name such a queue.
        path = f"/api/queues/{quote(awkward_vhost, safe='')}/{quote(AWKWARD, safe='')}"
        rabbitmq_node.api("PUT", path, {"durable": True})
        found = await api.queue(awkward_vhost, AWKWARD)
        assert found is not None
        assert (found["vhost"], found["name"], found["durable"]) == (awkward_vhost, AWKWARD, True)
        assert [queue["name"] for queue in await api.queues(awkward_vhost)] == [AWKWARD]

        for _ in range(2):
            await api.delete_queue(awkward_vhost, AWKWARD)
        assert await api.queue(awkward_vhost, AWKWARD) is None
        assert await api.queues(awkward_vhost) == []
        for _ in range(2):
            await api.delete_vhost(awkward_vhost)
        assert not await api.vhost_exists(awkward_vhost)


async def test_create_vhost_by_several_at_once(
    rabbitmq_node: RabbitMQNode, awkward_vhost: str
) -> None:
    async with guest(rabbitmq_node) as api:
        await asyncio.gather(*(api.create_vhost(awkward_vhost) for _ in range(5)))
        await declare(rabbitmq_node, awkward_vhost)
        assert await api.queue(awkward_vhost, "q") is not None


async def test_create_vhost_completes_what_was_interrupted(
    rabbitmq_node: RabbitMQNode, awkward_vhost: str
) -> None:
    """The virtual host is there, but nobody may use it."""
    segment = quote(awkward_vhost, safe="")
    async with guest(rabbitmq_node) as api:
        await api.create_vhost(awkward_vhost)
        rabbitmq_node.api("DELETE", f"/api/permissions/{segment}/guest")
        await api.create_vhost(awkward_vhost)
        await declare(rabbitmq_node, awkward_vhost)


async def test_create_vhost_widens_no_permission(
    rabbitmq_node: RabbitMQNode, awkward_vhost: str
) -> None:
    path = f"/api/permissions/{quote(awkward_vhost, safe='')}/guest"
    narrow = {"configure": "^x$", "write": "^x$", "read": "^x$"}
    async with guest(rabbitmq_node) as api:
        await api.create_vhost(awkward_vhost)
        rabbitmq_node.api("PUT", path, narrow)
        await api.create_vhost(awkward_vhost)
    assert narrow.items() <= rabbitmq_node.api("GET", path).items()


async def test_a_user_of_another_backend_is_not_granted_to(
    rabbitmq_node: RabbitMQNode, awkward_vhost: str
) -> None:
    segment = quote(awkward_vhost, safe="")
    async with guest(rabbitmq_node) as api:
        await api.create_vhost(awkward_vhost)
        await grant(api, awkward_vhost, "not-in-the-database")
    users = [row["user"] for row in rabbitmq_node.api("GET", f"/api/vhosts/{segment}/permissions")]
    assert users == ["guest"]


async def test_missing_virtual_host(rabbitmq_node: RabbitMQNode, awkward_vhost: str) -> None:
    async with guest(rabbitmq_node) as api:
        assert await api.queue(awkward_vhost, "q") is None
        with pytest.raises(ServiceNotConfigured, match="404"):
            await api.queues(awkward_vhost)


async def test_wrong_password(
    rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = rabbitmq_node.management_url
    async with ManagementAPI(url, username="guest", password="wrong-horse") as api:
        with pytest.raises(BrokerAuthenticationError, match=r"401.*'guest'") as caught:
            await api.vhost_exists("/")
    assert "wrong-horse" not in "".join([str(caught.value), *caplog.messages])


async def test_user_without_the_tag(rabbitmq_node: RabbitMQNode, awkward_vhost: str) -> None:
    """The broker knows who we are, and refuses what we want."""
    rabbitmq_node.api("PUT", "/api/users/viewer", {"password": "wrong-horse", "tags": "monitoring"})
    try:
        url = rabbitmq_node.management_url
        async with ManagementAPI(url, username="viewer", password="wrong-horse") as api:
            assert await api.overview()
            with pytest.raises(BrokerAuthenticationError, match="'viewer'"):
                await api.create_vhost(awkward_vhost)
    finally:
        rabbitmq_node.api("DELETE", "/api/users/viewer")


async def test_credentials_of_the_url(rabbitmq_node: RabbitMQNode) -> None:
    url = rabbitmq_node.management_url.replace("http://", "http://gu%65st:guest@")
    async with ManagementAPI(f"{url}/api") as api:
        assert await api.vhost_exists("/")
    async with ManagementAPI(url, username="guest", password="wrong-horse") as api:
        with pytest.raises(BrokerAuthenticationError):
            await api.overview()
