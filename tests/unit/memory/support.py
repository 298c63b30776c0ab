"""Queues without a host, and consumers that keep what they get."""

from __future__ import annotations

import asyncio
from typing import Any

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Properties
from nuropb_rmq.memory.message import Death, Stored, published
from nuropb_rmq.memory.queue import StoredQueue


def message(body: str = "", key: str = "q", exchange: str = "", **properties: Any) -> Stored:
    """A message as a publisher sends it."""
    route = frames.shortstr(exchange) + frames.shortstr(key)
    packed = frames.encode_properties(Properties(**properties))
    return published(route, key, packed, body.encode())


def bodies(messages: Any) -> str:
    """The bodies, in their order."""
    return b" ".join(each.body for each in messages).decode()


class Host:
    """Keeps the dead letters of its queues."""

    def __init__(self) -> None:
        self.buried: list[tuple[str, Stored, Death]] = []
        self.deleted: list[str] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The running loop, if there is one."""
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return None

    def bury(self, exchange: str, letter: Stored, why: Death) -> None:
        """Keep a dead letter."""
        self.buried.append((exchange, letter, why))

    def emptied(self, queue: StoredQueue) -> None:
        """Note the end of an auto-delete queue."""
        self.deleted.append(queue.name)

    def queue(self, name: str = "q", *, auto_delete: bool = False, **arguments: Any) -> StoredQueue:
        """A queue; names with x_ are arguments."""
        declared = {key.replace("_", "-"): value for key, value in arguments.items()}
        return StoredQueue(
            self, name, durable=True, auto_delete=auto_delete, arguments=declared, owner=None
        )

    @property
    def letters(self) -> str:
        """The bodies of the dead letters, each with its reason."""
        return " ".join(f"{each.body.decode()}:{why.value}" for _, each, why in self.buried)


class Taker:
    """A consumer that keeps what it gets; it has room for `most` messages."""

    def __init__(self, most: int = 1000) -> None:
        self.taken: list[Stored] = []
        self.gone = False
        self._most = most

    @property
    def room(self) -> bool:
        """Return whether it may take one more."""
        return len(self.taken) < self._most

    def deliver(self, queue: StoredQueue, message: Stored) -> None:
        """Keep a message."""
        self.taken.append(message)

    def cancelled(self) -> None:
        """Note that the queue is gone."""
        self.gone = True

    def give(self, queue: StoredQueue, count: int = 1, *, counts: bool = True) -> None:
        """Give back the first messages."""
        returned, self.taken = self.taken[:count], self.taken[count:]
        queue.give_back(returned, counts=counts)
