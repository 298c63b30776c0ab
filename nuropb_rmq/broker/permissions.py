"""Find out what a user may do on the broker, without doing it.

The broker checks permissions before anything else, so each request here could not succeed: it
declares with a wrong argument, consumes with a wrong one, or takes out a binding that is not there.
That needs no right beyond those that are asked for, and shows what any authentication backend
says; the management API knows the permissions of the internal one alone, and only administrators
may see them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

import aiormq
from aio_pika import Channel
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelClosed

from ..protocol.constants import new_id
from .error_translation import translated

DEFAULT_EXCHANGE: Final = "amq.default"
"""The name of the default exchange in permissions."""
_READABLE: Final = "amq.direct"
"""Source of bindings that are taken out; it is in every virtual host."""
_REFUSED: Final = re.compile(r"access to (\w+) '(.*)' in vhost")


class Right(StrEnum):
    """The purpose of a permission; see https://www.rabbitmq.com/docs/access-control."""

    CONFIGURE = "configure"
    WRITE = "write"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Permission:
    """A right to a resource; `kind` is queue or exchange."""

    right: Right
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.right} {self.kind} {self.name!r}"


async def refused(
    connection: AbstractConnection, permissions: Sequence[Permission], queue: str
) -> list[Permission]:
    """Return those of the permissions that the broker refuses.

    `queue` is one that the user may write, if any: without it, reading an exchange is not known,
    and counts as permitted. Raises ConnectionLostError.
    """
    return [each for each in permissions if await _is_refused(connection, each, queue)]


async def _is_refused(connection: AbstractConnection, asked: Permission, queue: str) -> bool:
    """Ask on a channel of its own, for the broker closes it."""
    request = _REQUESTS[asked.right, asked.kind]
    with translated(f"permission to {asked}"):
        channel = Channel(connection, publisher_confirms=False)
        await channel.initialize()
        try:
            await request(cast(aiormq.Channel, await channel.get_underlay_channel()), asked, queue)
        except ChannelAccessRefused as e:
            found = _REFUSED.search(str(e))
            return found is not None and found.groups() == (asked.kind, asked.name)
        except ChannelClosed:
            return False  # permitted, and refused for what is wrong with it
        await channel.close()
        return False


async def _configure_queue(channel: aiormq.Channel, asked: Permission, _: str) -> None:
    await channel.queue_declare(asked.name, durable=True, arguments={"x-message-ttl": -1})


async def _read_queue(channel: aiormq.Channel, asked: Permission, _: str) -> None:
    await channel.basic_consume(asked.name, _nothing, arguments={"x-priority": "no number"})


async def _write_queue(channel: aiormq.Channel, asked: Permission, _: str) -> None:
    await channel.queue_unbind(asked.name, _READABLE, new_id())


async def _write_exchange(channel: aiormq.Channel, asked: Permission, _: str) -> None:
    name = "" if asked.name == DEFAULT_EXCHANGE else asked.name
    await channel.exchange_unbind(name, _READABLE, new_id())


async def _read_exchange(channel: aiormq.Channel, asked: Permission, queue: str) -> None:
    await channel.queue_unbind(queue, asked.name, new_id())


async def _nothing(_: object) -> None:
    """Stands for a consumer that never is."""


_REQUESTS: Final[
    dict[tuple[Right, str], Callable[[aiormq.Channel, Permission, str], Awaitable[None]]]
] = {
    (Right.CONFIGURE, "queue"): _configure_queue,
    (Right.READ, "queue"): _read_queue,
    (Right.WRITE, "queue"): _write_queue,
    (Right.WRITE, "exchange"): _write_exchange,
    (Right.READ, "exchange"): _read_exchange,
}
