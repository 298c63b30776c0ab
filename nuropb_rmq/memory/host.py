"""Virtual hosts of this process, by name: exchanges, queues, and what channels ask of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

from ..exceptions import NuropbTransportError
from . import arguments as queue_arguments
from .errors import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    ChannelError,
)
from .exchange import KINDS, StoredExchange
from .message import Death, Stored
from .queue import StoredQueue

RESERVED: Final = "amq."


class Member(Protocol):
    """The part of a connection that its virtual host uses."""

    def forsake(self) -> None:
        """Give back what is not settled, and tell nobody: its event loop is closed."""


Tap = Callable[[Stored, bool], None]
"""Called with each message that the broker takes; True for a dead letter."""


class VirtualHost:
    """One broker inside the process. It lives while it has connections, or is held()."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process = os.getpid()
        self.keepers: dict[object, Tap | None] = {}
        """Those that keep it without a connection; they may listen to its messages."""
        self.exchanges: dict[str, StoredExchange] = {}
        self.queues: dict[str, StoredQueue] = {}
        self._members: set[Member] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        for kind in KINDS:
            self.exchanges[f"amq.{kind}"] = StoredExchange(f"amq.{kind}", kind, durable=True)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of its connections; None when there are none."""
        return self._loop

    def check_process(self) -> None:
        """Raise NuropbTransportError in another process than the one that it was made in."""
        if self.process != os.getpid():
            raise NuropbTransportError(
                f"memory://{self.name} is of process {self.process}, and this is process "
                f"{os.getpid()}: a broker in memory has one process; use a RabbitMQ to reach others"
            )

    def check_loop(self) -> None:
        """Raise NuropbTransportError in another event loop than that of its connections."""
        if self._loop not in (None, asyncio.get_running_loop()):
            raise NuropbTransportError(
                f"memory://{self.name} is in use in another event loop: a broker in memory has one "
                "loop; use one name for each loop, or a RabbitMQ"
            )

    # -- its life ---------------------------------------------------------------------------

    def join(self, member: Member) -> None:
        """Keep it for a connection, in the running event loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for queue in tuple(self.queues.values()):
                queue.deliver()  # what has expired meanwhile
        self._members.add(member)

    def leave(self, member: Member) -> None:
        """Drop a connection, and its exclusive queues."""
        self._members.discard(member)
        for queue in [queue for queue in self.queues.values() if queue.owner is member]:
            self.delete_queue(queue)
        if not self._members:
            self._loop = None
            for queue in self.queues.values():
                queue.rest()
        self._end_unless_used()

    def release(self, keeper: object) -> None:
        """End it, unless it is in use; see held()."""
        self.keepers.pop(keeper, None)
        self.clear_of_closed_loop()
        self._end_unless_used()

    def clear_of_closed_loop(self) -> None:
        """Drop the connections of an event loop that was closed."""
        if self._loop is not None and self._loop.is_closed():
            self._loop = None
            for member in tuple(self._members):
                member.forsake()
            for member in tuple(self._members):
                self.leave(member)

    def _end_unless_used(self) -> None:
        if not self._members and not self.keepers and _hosts.get(self.name) is self:
            del _hosts[self.name]

    # -- exchanges and queues ---------------------------------------------------------------

    def exchange(self, name: str) -> StoredExchange:
        """Return an exchange. Raises ChannelError when there is none, and for the default one."""
        if not name:
            raise ChannelError(ACCESS_REFUSED, "operation not permitted on the default exchange")
        found = self.exchanges.get(name)
        if found is None:
            raise ChannelError(NOT_FOUND, f"no exchange '{name}' in vhost '{self.name}'")
        return found

    def queue(self, name: str, owner: object) -> StoredQueue:
        """Return a queue. Raises ChannelError when there is none, or another owner has it."""
        found = self.queues.get(name)
        if found is None:
            raise ChannelError(NOT_FOUND, f"no queue '{name}' in vhost '{self.name}'")
        if found.owner not in (None, owner):
            raise self._locked(name)
        return found

    def declare_exchange(self, name: str, kind: str, *, durable: bool) -> None:
        """Make an exchange, or compare with the one that is there. Raises ChannelError."""
        found = self.exchanges.get(name) if name else self.exchange(name)
        if kind not in KINDS:
            raise ChannelError(PRECONDITION_FAILED, f"unknown exchange type '{kind}'")
        if found is not None:
            properties = ("type", kind, found.kind), ("durable", durable, found.durable)
            queue_arguments.compare(self._where("exchange", name), properties, {}, {})
            return
        self._check_name("exchange", name)
        self.exchanges[name] = StoredExchange(name, kind, durable=durable)

    def declare_queue(
        self,
        name: str,
        *,
        durable: bool,
        auto_delete: bool,
        arguments: Mapping[str, Any],
        exclusive: bool,
        owner: object,
    ) -> None:
        """Make a queue, or compare with the one that is there. Raises ChannelError."""
        where, owned = self._where("queue", name), owner if exclusive else None
        found = self.queues.get(name)
        if found is None:
            self._check_name("queue", name)
            lacking = {
                "exclusive-owner": exclusive, "auto-delete": auto_delete, "non-durable": not durable
            }  # fmt: skip
            queue_arguments.check(where, arguments, lacking)
            self.queues[name] = StoredQueue(
                self,
                name,
                durable=durable,
                auto_delete=auto_delete,
                arguments=arguments,
                owner=owned,
            )
            return
        if found.owner is not owned:
            raise self._locked(name)
        # RabbitMQ does not compare whether an exclusive queue is durable: it goes all the same.
        properties = [("auto_delete", auto_delete, found.auto_delete)]
        if not exclusive:
            properties.insert(0, ("durable", durable, found.durable))
        queue_arguments.compare(where, tuple(properties), arguments, found.arguments)

    def _where(self, what: str, name: str) -> str:
        return f"{what} '{name}' in vhost '{self.name}'"

    def _locked(self, name: str) -> ChannelError:
        return ChannelError(
            RESOURCE_LOCKED,
            f"cannot obtain exclusive access to locked {self._where('queue', name)}. It could be "
            "originally declared on another connection or the exclusive property value does not "
            "match that of the original declaration.",
        )

    def _check_name(self, what: str, name: str) -> None:
        if name.startswith(RESERVED):
            raise ChannelError(
                ACCESS_REFUSED, f"{what} name '{name}' contains reserved prefix '{RESERVED}*'"
            )

    def bind(
        self,
        queue: str,
        exchange: str,
        key: str,
        owner: object,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind a queue to an exchange. Raises ChannelError."""
        self.exchange(exchange).bind(self.queue(queue, owner), key, arguments or {})

    def unbind(
        self,
        queue: str,
        exchange: str,
        key: str,
        owner: object,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Take out a binding, if there is one of this key and arguments. Raises ChannelError."""
        self.exchange(exchange).unbind(self.queue(queue, owner), key, arguments or {})

    def bind_exchange(self, destination: str, source: str, key: str = "") -> None:
        """Bind an exchange to another. Raises ChannelError."""
        self.exchange(source).bind(self.exchange(destination), key, {})

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange with its bindings. Raises ChannelError."""
        deleted = self.exchange(name)
        del self.exchanges[name]
        for exchange in self.exchanges.values():
            exchange.forget(deleted)

    def delete_queue(self, queue: StoredQueue) -> None:
        """Delete a queue with its messages and bindings, and cancel its consumers."""
        del self.queues[queue.name]
        for exchange in self.exchanges.values():
            exchange.forget(queue)
        queue.end()

    def emptied(self, queue: StoredQueue) -> None:
        """Delete an auto-delete queue."""
        self.delete_queue(queue)

    # -- messages ---------------------------------------------------------------------------

    def route(self, exchange: str, message: Stored) -> list[StoredQueue]:
        """Return the queues of a message. Raises ChannelError when there is no such exchange."""
        if not exchange:
            found = self.queues.get(message.routing_key)
            return [] if found is None else [found]
        return list(self.exchange(exchange).route(message.routing_key, message.headers))

    def bury(self, exchange: str, letter: Stored, why: Death) -> None:
        """Publish a dead letter: where the exchange or a queue of it is missing, it is gone."""
        try:
            queues = self.route(exchange, letter)
        except ChannelError:
            return
        if why is not Death.REJECTED:
            queues = [queue for queue in queues if not letter.would_cycle(queue.name)]
        queues = [queue for queue in queues if queue.admits(letter)]
        if queues:
            self.tell(letter, dead=True)
        for queue in queues:
            queue.put(letter.copy())

    def tell(self, message: Stored, *, dead: bool = False) -> None:
        """Tell those that listen of a message."""
        for tap in tuple(self.keepers.values()):
            if tap is not None:
                tap(message, dead)


_hosts: dict[str, VirtualHost] = {}


def virtual_host(name: str) -> VirtualHost:
    """Return the virtual host of this name in this process; made when there is none.

    Connections of an event loop that was closed are gone, and so is a host that nothing else keeps.
    """
    found = _hosts.get(name)
    if found is not None:
        found.clear_of_closed_loop()
        found = _hosts.get(name)
    if found is None:
        found = _hosts[name] = VirtualHost(name)
    return found


@contextmanager
def held(name: str, tap: Tap | None = None) -> Iterator[VirtualHost]:
    """Keep a virtual host for as long as the context lasts, from event loop to event loop.

    `tap` listens to its messages.
    """
    host = virtual_host(name)
    keeper = object()
    host.keepers[keeper] = tap
    try:
        yield host
    finally:
        host.release(keeper)
