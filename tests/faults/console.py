"""Actions and queries of an operator on a broker. Plain functions block: call them in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

from nuropb_rmq.testing import RabbitMQNode

EVERYTHING = ".*"
WATERMARK = "0.6"
"""Of the memory: what is set again after an alarm; above the default of all versions."""


def vhost_of(url: str) -> str:
    """The virtual host of an AMQP URL, as a segment of a path."""
    return quote(urlsplit(url).path[1:] or "/", safe="")


# -- reading --------------------------------------------------------------------------------


def connections(node: RabbitMQNode, url: str | None = None) -> set[str]:
    """The pids of the broker's connections; with a URL, of those to its virtual host."""
    listing = node.rabbitmqctl("list_connections", "pid", "vhost", "--silent")
    rows = (line.split("\t") for line in listing.splitlines() if line)
    wanted = None if url is None else urlsplit(url).path[1:] or "/"
    return {pid for pid, vhost in rows if wanted in (None, vhost)}


def queues(node: RabbitMQNode, url: str, *columns: str) -> dict[str, list[str]]:
    """Return the columns that rabbitmqctl lists for each queue, by its name."""
    vhost = urlsplit(url).path[1:] or "/"
    listing = node.rabbitmqctl("list_queues", "-p", vhost, "name", *columns, "--silent")
    rows = (line.split("\t") for line in listing.splitlines() if line)
    return {name: values for name, *values in rows}


def queue_names(node: RabbitMQNode, url: str) -> list[str]:
    """The queues that there are. Quicker than rabbitmqctl, which starts a process."""
    return [each["name"] for each in node.api("GET", f"/api/queues/{vhost_of(url)}")]


def depth(node: RabbitMQNode, url: str, queue: str) -> int:
    """Messages in a queue, those in hand among them, as the broker counts them."""
    return int(queues(node, url, "messages").get(queue, ["0"])[0])


async def until_depths(node: RabbitMQNode, url: str, wanted: dict[str, int]) -> None:
    """Wait until queues hold so many messages, those in hand among them.

    A quorum queue says so every quorum_tick_interval (5 s).
    """
    counts: dict[str, int] = {}
    async with asyncio.timeout(15):
        while counts != wanted:
            found = await asyncio.to_thread(queues, node, url, "messages")
            counts = {name: int(found[name][0]) for name in wanted}


async def until_gone(node: RabbitMQNode, url: str, queue: str) -> None:
    """Wait until the broker has no such queue."""
    async with asyncio.timeout(20):
        while queue in await asyncio.to_thread(queue_names, node, url):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)


def metadata_is_written(node: RabbitMQNode) -> None:
    """Wait until the names of queues and exchanges are on the disk.

    Until 4.x they are in Mnesia, which writes its log in its own time: kill -9 may undo a declare
    that was confirmed a moment ago, and with the queue go its messages. The log of a quorum queue
    is found by a table of its own, without which the queue is there, and never elects a leader.
    """
    node.rabbitmqctl("eval", "catch mnesia:sync_log(), [dets:sync(Name) || Name <- dets:all()].")


# -- breaking -------------------------------------------------------------------------------


def close_connection(node: RabbitMQNode, name: str) -> int:
    """Close what the broker's console shows under this name."""
    return node.rabbitmqctl(
        "eval",
        'length([rabbit_networking:close_connection(proplists:get_value(pid, C), <<"test">>) || '
        "C <- rabbit_networking:connection_info_all([pid, client_properties]), "
        f'lists:keyfind(<<"{name}">>, 3, proplists:get_value(client_properties, C)) =/= false]).',
    ).count("1")


def delete_queue(node: RabbitMQNode, url: str, name: str) -> None:
    """Delete a queue."""
    node.api("DELETE", f"/api/queues/{vhost_of(url)}/{quote(name, safe='')}")


def delete_exchange(node: RabbitMQNode, url: str, name: str) -> None:
    """Delete an exchange."""
    node.api("DELETE", f"/api/exchanges/{vhost_of(url)}/{quote(name, safe='')}")


@contextmanager
def policy(node: RabbitMQNode, url: str, pattern: str, **definition: Any) -> Iterator[None]:
    """Queues whose name matches have these settings for a while."""
    path = f"/api/policies/{vhost_of(url)}/test"
    names = {name.replace("_", "-"): value for name, value in definition.items()}
    node.api("PUT", path, {"pattern": pattern, "definition": names, "apply-to": "queues"})
    try:
        yield
    finally:
        node.api("DELETE", path)


def add_user(node: RabbitMQNode, url: str, name: str, password: str) -> None:
    """Make a user who may do everything in this virtual host."""
    node.api("PUT", f"/api/users/{name}", {"password": password, "tags": ""})
    permit(node, url, name)


def change_password(node: RabbitMQNode, name: str, password: str) -> None:
    """Give a user another password; who is logged in stays so."""
    node.api("PUT", f"/api/users/{name}", {"password": password, "tags": ""})


def permit(
    node: RabbitMQNode,
    url: str,
    name: str,
    configure: str = EVERYTHING,
    write: str = EVERYTHING,
    read: str = EVERYTHING,
) -> None:
    """Set a user's permissions: regular expressions of names."""
    permissions = {"configure": configure, "write": write, "read": read}
    node.api("PUT", f"/api/permissions/{vhost_of(url)}/{name}", permissions)


def set_milliseconds(node: RabbitMQNode, **settings: int) -> None:
    """Settings of the broker, for whatever is opened or declared from now on."""
    calls = (f"application:set_env(rabbit, {name}, {ms})" for name, ms in settings.items())
    node.rabbitmqctl("eval", ", ".join(calls) + ".")


@asynccontextmanager
async def consumer_timeout(node: RabbitMQNode, seconds: float) -> AsyncIterator[None]:
    """Limit how long deliveries stay unacknowledged on channels opened meanwhile (usual: 30 min).

    The broker looks for such deliveries five times a second, in place of once a minute.
    """
    short, usual = int(seconds * 1000), 1_800_000
    await asyncio.to_thread(
        set_milliseconds, node, consumer_timeout=short, channel_tick_interval=200
    )
    try:
        yield
    finally:
        await asyncio.to_thread(
            set_milliseconds, node, consumer_timeout=usual, channel_tick_interval=60_000
        )


def permit_topics(
    node: RabbitMQNode, url: str, name: str, exchange: str, write: str, read: str
) -> None:
    """Of which topics a user may publish, and bind queues to: regular expressions."""
    permissions = {"exchange": exchange, "write": write, "read": read}
    node.api("PUT", f"/api/topic-permissions/{vhost_of(url)}/{name}", permissions)


@asynccontextmanager
async def largest_message(node: RabbitMQNode, size: int) -> AsyncIterator[None]:
    """The broker's max_message_size, in bytes, for channels that are opened meanwhile."""
    # RabbitMQ 3.10 reads the setting whenever a channel is opened, 4.x a copy of it.
    put = (
        "{{ok, Usual}} = application:get_env(rabbit, max_message_size), "
        "application:set_env(rabbit, max_message_size, {0}), "
        "persistent_term:put(max_message_size, {0}), Usual."
    )
    usual = await asyncio.to_thread(node.rabbitmqctl, "eval", put.format(size))
    try:
        yield
    finally:
        await asyncio.to_thread(node.rabbitmqctl, "eval", put.format(usual.strip()))


@asynccontextmanager
async def alarm(node: RabbitMQNode) -> AsyncIterator[None]:
    """A memory alarm for a while: the broker reads nothing more from who publishes."""
    await asyncio.to_thread(node.rabbitmqctl, "set_vm_memory_high_watermark", "0")
    try:
        yield
    finally:
        await asyncio.to_thread(node.rabbitmqctl, "set_vm_memory_high_watermark", WATERMARK)
