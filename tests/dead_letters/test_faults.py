"""Faults during a replay: nothing is lost, and the result says how far it came."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator

import pytest

from nuropb_rmq import ConnectionLostError, DeadLetter, DeadLetters
from nuropb_rmq.testing import RabbitMQNode

from ..faults import console
from ..faults.proxy import Proxy
from ..support import eventually
from .conftest import may_be_returned, yard_at
from .support import DL_QUEUE, SERVICE_QUEUE, Yard

pytestmark = pytest.mark.broker
KINDS = pytest.mark.parametrize("kind", ["classic", "quorum"])


async def everything_is_there(yard: Yard, count: int, done: int, twice: int = 64) -> None:
    """No letter is lost, and at most so many were replayed and are still there."""
    replayed: list[int] = []
    left: list[int] = []
    async with asyncio.timeout(30):  # what a killed replay held comes back in its time
        while set(replayed) | set(left) != set(range(count)):
            replayed += await yard.replayed()
            left += await yard.left()
    assert len(replayed) >= done
    assert len(replayed) + len(left) <= count + twice


async def exhausted(letters: AsyncGenerator[DeadLetter, None]) -> None:
    """Go on to the end of an iteration."""
    async for _ in letters:
        pass


@KINDS
async def test_the_broker_is_killed(mortal_node: RabbitMQNode, kind: str) -> None:
    vhost = f"killed-{kind}"
    await asyncio.to_thread(mortal_node.api, "PUT", f"/api/vhosts/{vhost}")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    await asyncio.to_thread(mortal_node.api, "PUT", f"/api/permissions/{vhost}/guest", everything)
    url = mortal_node.amqp_url + vhost
    await asyncio.to_thread(may_be_returned, mortal_node, url)
    async with yard_at(url, mortal_node.management_url, queue_type=kind) as yard:
        await yard.fill(3000)
        await yard.declare()
        await asyncio.to_thread(console.metadata_is_written, mortal_node)
        async with yard.dead_letters() as dead:
            replaying = asyncio.create_task(dead.replay())
            await eventually(lambda: dead.progress.looked_at > 300)
            await asyncio.to_thread(mortal_node.kill)
            result = await replaying
    assert result.stopped is not None
    assert result.done < 3000
    await mortal_node.astart()
    async with yard_at(url, mortal_node.management_url, queue_type=kind) as yard:
        # It may not have written to disk which letters were taken out.
        await everything_is_there(yard, 3000, result.done, twice=3000)
    await asyncio.to_thread(mortal_node.api, "DELETE", f"/api/vhosts/{vhost}")


async def test_an_alarm(rabbitmq_node: RabbitMQNode, mesh_url: str) -> None:
    """Looking goes on; a replay gives up after publish_timeout, and says why."""
    async with yard_at(mesh_url, rabbitmq_node.management_url) as yard:
        await yard.fill(200)
        await yard.declare()
        config = dataclasses.replace(yard.config, publish_timeout=0.5)
        async with console.alarm(rabbitmq_node), DeadLetters(config) as dead:
            result = await dead.replay()
            assert result.stopped is not None
            assert "nothing was confirmed for 0.5 s" in result.stopped
            assert "low on memory" in result.stopped
            assert result.done == 0
            assert sum(result.left.values()) <= 64
            assert len([each async for each in dead.list()]) == 200
        await everything_is_there(yard, 200, 0)


@KINDS
async def test_the_connections_are_cut(
    rabbitmq_node: RabbitMQNode, mesh_url: str, kind: str
) -> None:
    await asyncio.to_thread(may_be_returned, rabbitmq_node, mesh_url)
    async with yard_at(mesh_url, rabbitmq_node.management_url, queue_type=kind) as yard:
        await yard.fill(3000)
        await yard.declare()
        async with Proxy(mesh_url) as proxy:
            config = dataclasses.replace(yard.config, amqp_url=proxy.url)
            async with DeadLetters(config, api_url=yard.api_url) as dead:
                replaying = asyncio.create_task(dead.replay())
                await eventually(lambda: dead.progress.looked_at > 100)
                proxy.reset()
                result = await replaying
        assert result.stopped is not None
        assert result.done < 3000
        await everything_is_there(yard, 3000, 0)


async def test_a_connection_is_closed_while_somebody_looks(
    rabbitmq_node: RabbitMQNode, mesh_url: str
) -> None:
    async with yard_at(mesh_url, rabbitmq_node.management_url) as yard:
        await yard.fill(100)
        async with yard.dead_letters() as dead:
            letters = dead.list()
            await anext(letters)
            named = "orders/ dead letters, looking"
            await asyncio.to_thread(console.close_connection, rabbitmq_node, named)
            with pytest.raises(ConnectionLostError, match="test"):
                await exhausted(letters)
            assert len([each async for each in dead.list()]) == 100


@KINDS
async def test_the_service_queue_is_deleted_in_the_middle(
    rabbitmq_node: RabbitMQNode, mesh_url: str, kind: str
) -> None:
    await asyncio.to_thread(may_be_returned, rabbitmq_node, mesh_url)
    async with yard_at(mesh_url, rabbitmq_node.management_url, queue_type=kind) as yard:
        await yard.fill(3000)
        await yard.declare()
        async with yard.dead_letters() as dead:
            replaying = asyncio.create_task(dead.replay())
            await eventually(lambda: dead.progress.looked_at > 100)
            await asyncio.to_thread(console.delete_queue, rabbitmq_node, mesh_url, SERVICE_QUEUE)
            result = await replaying
            # RabbitMQ 3.10 may close the connection over a quorum queue that is gone.
            assert result.stopped is not None
        assert 3000 - result.done <= len(await yard.left()) < 3000


async def test_the_dead_letter_queue_is_deleted_in_the_middle(
    rabbitmq_node: RabbitMQNode, mesh_url: str
) -> None:
    async with yard_at(mesh_url, rabbitmq_node.management_url) as yard:
        await yard.fill(3000)
        await yard.declare()
        async with yard.dead_letters() as dead:
            replaying = asyncio.create_task(dead.replay())
            await eventually(lambda: dead.progress.looked_at > 100)
            await asyncio.to_thread(console.delete_queue, rabbitmq_node, mesh_url, DL_QUEUE)
            result = await replaying
            assert result.looked_at < 3000
            assert result.stopped is not None
            assert "no queue" in result.stopped
