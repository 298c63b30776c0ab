"""The two brokers of the suite: how a place for one test is made, and changed from outside."""

from __future__ import annotations

import asyncio
import json
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection
from typing import Any, Protocol
from urllib.parse import quote

import aiormq
import pytest

from nuropb_rmq.memory.host import VirtualHost, held
from nuropb_rmq.testing import RabbitMQNode


class Place(Protocol):
    """A virtual host of the test's own, and what an operator does there."""

    url: str
    name: str
    """As texts of the broker have it."""

    async def depth(self, queue: str) -> int:
        """Return how many messages are ready in a queue."""

    async def consumers(self, queue: str) -> int:
        """Return how many consumers a queue has."""

    async def exists(self, queue: str) -> bool:
        """Return whether there is such a queue."""

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue."""

    async def purge(self, queue: str) -> int:
        """Drop what is ready; return how many messages."""

    async def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange."""

    async def unbind(self, queue: str, exchange: str, key: str) -> None:
        """Take a binding out."""


async def becomes(read: Callable[[], Awaitable[object]], expected: object) -> None:
    """Wait until a look at a place shows this."""
    found: object = None
    for _ in range(500):
        found = await read()
        if found == expected:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"expected {expected!r}, got {found!r} for 5 s")


class Memory:
    """A place in memory; the host is held, so that it outlives the meshes of the test."""

    def __init__(self, host: VirtualHost) -> None:
        self.url = f"memory://{host.name}"
        self.name = host.name
        self._host = host

    async def depth(self, queue: str) -> int:
        """Return how many messages are ready in a queue."""
        return len(self._host.queues[queue])

    async def consumers(self, queue: str) -> int:
        """Return how many consumers a queue has."""
        return self._host.queues[queue].consumers

    async def exists(self, queue: str) -> bool:
        """Return whether there is such a queue."""
        return queue in self._host.queues

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue."""
        self._host.delete_queue(self._host.queues[queue])

    async def purge(self, queue: str) -> int:
        """Drop what is ready; return how many messages."""
        return self._host.queues[queue].purge()

    async def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange."""
        self._host.delete_exchange(exchange)

    async def unbind(self, queue: str, exchange: str, key: str) -> None:
        """Take a binding out."""
        self._host.exchange(exchange).unbind(self._host.queues[queue], key, {})


class OnNode:
    """A virtual host of a RabbitMQ node."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[aiormq.abc.AbstractChannel]:
        connection = await aiormq.connect(self.url)
        try:
            yield await connection.channel()
        finally:
            await connection.close()

    async def depth(self, queue: str) -> int:
        """Return how many messages are ready in a queue."""
        async with self._channel() as channel:
            return (await channel.queue_declare(queue, passive=True)).message_count or 0

    async def consumers(self, queue: str) -> int:
        """Return how many consumers a queue has."""
        async with self._channel() as channel:
            return (await channel.queue_declare(queue, passive=True)).consumer_count or 0

    async def exists(self, queue: str) -> bool:
        """Return whether there is such a queue."""
        try:
            async with self._channel() as channel:
                await channel.queue_declare(queue, passive=True)
        except aiormq.exceptions.ChannelNotFoundEntity:
            return False
        except aiormq.exceptions.ChannelLockedResource:
            pass
        return True

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue."""
        async with self._channel() as channel:
            await channel.queue_delete(queue)

    async def purge(self, queue: str) -> int:
        """Drop what is ready; return how many messages."""
        async with self._channel() as channel:
            return (await channel.queue_purge(queue)).message_count or 0

    async def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange."""
        async with self._channel() as channel:
            await channel.exchange_delete(exchange)

    async def unbind(self, queue: str, exchange: str, key: str) -> None:
        """Take a binding out."""
        async with self._channel() as channel:
            await channel.queue_unbind(queue, exchange, key)


class Broker(Protocol):
    """One of the two."""

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Make a place for one test."""


class InMemory:
    """Brokers inside this process."""

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Make a name for one test."""
        with held(f"test-{secrets.token_hex(6)}") as host:
            yield Memory(host)


class RabbitMQ:
    """Virtual hosts of a node that runs for the whole session.

    One that a test has left is emptied for the next: to make one takes longer than most tests.
    """

    def __init__(self, node: RabbitMQNode) -> None:
        self._node = node
        self._free: list[str] = []

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Take an empty virtual host for one test."""
        name = self._free.pop() if self._free else self._make()
        yield OnNode(self._node.amqp_url + name, name)
        self._empty(name)
        self._free.append(name)

    def _make(self) -> str:
        name = f"test-{secrets.token_hex(6)}"
        self._node.api("PUT", f"/api/vhosts/{name}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._node.api("PUT", f"/api/permissions/{name}/guest", everything)
        return name

    def _empty(self, vhost: str) -> None:
        for _ in range(100):
            found = [
                f"/api/{kind}/{vhost}/{quote(entry['name'], safe='')}"
                for kind in ("queues", "exchanges")
                for entry in self._call("GET", f"/api/{kind}/{vhost}?columns=name")
                if entry["name"] and not entry["name"].startswith("amq.")
            ]
            if not found:
                return
            for path in found:
                self._call("DELETE", path)
        raise AssertionError(f"left on the broker: {found}")

    def _call(self, method: str, path: str) -> Any:
        """Ask the management API; httpx would read certificates for every call."""
        connection = HTTPConnection("127.0.0.1", self._node.management_port, timeout=10)
        try:
            connection.request(method, path, headers={"Authorization": f"Basic {_GUEST}"})
            answer = connection.getresponse()
            body = answer.read()
            # An exclusive queue cannot be deleted, and goes by itself meanwhile.
            assert answer.status in (200, 204, 400, 404), body
            return json.loads(body) if method == "GET" else None
        finally:
            connection.close()


_GUEST = b64encode(b"guest:guest").decode()
MEMORY = pytest.param("memory", id="memory")
RABBITMQ = pytest.param("rabbitmq", id="rabbitmq", marks=pytest.mark.broker)
