"""Queues: messages in order, and the consumers that get them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..amqp.frames import Content
from .arguments import QUORUM, TYPE
from .message import Death, Stored, died

if TYPE_CHECKING:
    import asyncio

QUORUM_PRIORITIES: Final = 31
"""The highest priority of a quorum queue, from RabbitMQ 4.3 on."""
QUORUM_DEFAULT_PRIORITY: Final = 4
QUORUM_DELIVERY_LIMIT: Final = 20
"""The delivery limit of a quorum queue without x-delivery-limit, from RabbitMQ 4.0 on."""


class Subscriber(Protocol):
    """The part of a channel that its queue uses: it has one consumer."""

    @property
    def room(self) -> bool:
        """True while it may take one message more."""

    def deliver(self, queue: StoredQueue, message: Stored) -> None:
        """Hand a message to the consumer."""

    def cancelled(self) -> None:
        """Tell the consumer that its queue is gone."""


class DeadLetters(Protocol):
    """The part of a virtual host that its queues use."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of its connections; None when there are none."""

    def bury(self, exchange: str, letter: Stored, why: Death) -> None:
        """Publish a dead letter; nobody hears of one that goes nowhere."""

    def emptied(self, queue: StoredQueue) -> None:
        """Delete a queue whose last consumer has gone."""


class StoredQueue:
    """A queue, with the arguments of Queue.Declare that it obeys.

    x-queue-type, x-message-ttl, x-max-length, x-max-length-bytes, x-overflow, x-max-priority,
    x-dead-letter-exchange, x-dead-letter-routing-key, x-delivery-limit, x-single-active-consumer.
    Others change nothing.
    """

    def __init__(
        self,
        host: DeadLetters,
        name: str,
        *,
        durable: bool,
        auto_delete: bool,
        arguments: Mapping[str, Any],
        owner: object | None,
    ) -> None:
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.arguments = dict(arguments)
        self.owner = owner
        """The connection that alone may use it; None: any may."""
        self._host = host
        self._quorum = arguments.get(TYPE) == QUORUM
        self._ttl: int | None = arguments.get("x-message-ttl")
        self._most = int(arguments.get("x-max-length", sys.maxsize))
        self._most_bytes: int | None = arguments.get("x-max-length-bytes")
        self._limited = not arguments.keys().isdisjoint(("x-max-length", "x-max-length-bytes"))
        self._overflow = arguments.get("x-overflow", "drop-head")
        # A negative one is none.
        self._limit = int(arguments.get("x-delivery-limit", QUORUM_DELIVERY_LIMIT))
        self._single_active = bool(arguments.get("x-single-active-consumer"))
        highest = QUORUM_PRIORITIES if self._quorum else int(arguments.get("x-max-priority", 0))
        self._highest = highest
        # By priority. Above them, of a quorum queue, what came back, in the order of its return.
        self._ready: list[deque[Stored]] = [
            deque() for _ in range(highest + (2 if self._quorum else 1))
        ]
        self._count = 0
        self._consumers: deque[Subscriber] = deque()
        self._number = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._gone = False

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Stored]:
        """Its messages, in the order in which they will be delivered."""
        for level in reversed(self._ready):
            yield from level

    # -- messages ---------------------------------------------------------------------------

    def admits(self, message: Stored) -> bool:
        """Return whether it takes one message more; with x-overflow reject-publish it may not."""
        if not self._limited or self._overflow == "drop-head":
            return True
        # A quorum queue notices that it is full when it is over the limit.
        fits = self._fits(0, 0) if self._quorum else self._fits(1, len(message.body))
        if not fits and self._overflow == "reject-publish-dlx":
            self._bury(message, Death.MAXLEN)
        return fits

    def put(self, message: Stored) -> None:
        """Take a message, and deliver it if somebody may have it."""
        self._number += 1
        message.number = self._number
        lives = [life for life in (self._ttl, message.life) if life is not None]
        if lives:
            message.expires = monotonic() + min(lives) / 1000
        if not self._count and (consumer := self._next_consumer()) is not None:
            message.redelivered = False  # also of a dead letter that was delivered before
            consumer.deliver(self, message)  # also one that expires at once: it has not waited
            return
        level = self._ready[self._level(message)]
        level.append(message)
        self._count += 1
        self._drop_overflow()
        if message.expires is not None and len(level) == 1:  # else there is a head before it
            self._watch_expiry()

    def _level(self, message: Stored) -> int:
        priority = message.priority
        if priority is None:
            return QUORUM_DEFAULT_PRIORITY if self._quorum else 0
        return min(priority, self._highest)

    def _fits(self, more: int, bytes_more: int) -> bool:
        if self._count + more > self._most:
            return False
        most = self._most_bytes
        return most is None or sum(len(m.body) for m in self) + bytes_more <= most

    def _drop_overflow(self) -> None:
        if self._limited and self._overflow == "drop-head" and not self._fits(0, 0):
            while self._count and not self._fits(0, 0):
                self._bury(self._pop(), Death.MAXLEN)
            self._watch_expiry()

    def give_back(self, messages: Sequence[Stored], *, counts: bool) -> None:
        """Take back what a consumer did not settle; call deliver() behind it.

        It goes where it stood before; in a quorum queue, before all others. `counts` is whether
        that counts against the delivery limit of a quorum queue.
        """
        if self._gone:
            return
        for message in messages if self._quorum else reversed(messages):  # from the head on
            message.redelivered = True
            self._count += 1
            if not self._quorum:
                level = self._ready[self._level(message)]
                later = (n for n, other in enumerate(level) if other.number > message.number)
                level.insert(next(later, len(level)), message)
                continue
            message.acquired += 1
            message.returned += counts
            if 0 <= self._limit < message.returned:
                self._count -= 1
                self._bury(message, Death.DELIVERY_LIMIT)
            else:
                self._ready[-1].append(message)
        self._drop_overflow()

    def get(self) -> Stored | None:
        """Take the next message without being a consumer; None when there is none."""
        self._drop_expired()
        if not self._count:
            return None
        message = self._pop()
        self._watch_expiry()
        return message

    def reject(self, message: Stored) -> None:
        """Let a message go to the dead letters."""
        if not self._gone:
            self._bury(message, Death.REJECTED)

    def purge(self) -> int:
        """Drop all that waits; return how many messages."""
        count, self._count = self._count, 0
        for level in self._ready:
            level.clear()
        return count

    def _pop(self) -> Stored:
        self._count -= 1
        for level in reversed(self._ready):
            if level:
                return level.popleft()
        raise IndexError("the queue is empty")

    def _bury(self, message: Stored, why: Death) -> None:
        exchange = self.arguments.get("x-dead-letter-exchange")
        if exchange is not None:
            key = self.arguments.get("x-dead-letter-routing-key")
            self._host.bury(exchange, died(message, self.name, why, exchange, key), why)

    # -- consumers --------------------------------------------------------------------------

    def subscribe(self, consumer: Subscriber) -> None:
        """Deliver to this consumer, too."""
        self._consumers.append(consumer)

    def unsubscribe(self, consumer: Subscriber) -> None:
        """Deliver nothing more to it; an auto-delete queue goes with its last one."""
        self._consumers.remove(consumer)
        if self.auto_delete and not self._consumers:
            self._host.emptied(self)

    def has_room(self, consumer: Subscriber) -> None:
        """Let a consumer that had no room wait for its turn behind the others."""
        if not self._single_active and len(self._consumers) > 1:
            self._consumers.remove(consumer)
            self._consumers.append(consumer)

    @property
    def consumers(self) -> int:
        """Return the number of consumers."""
        return len(self._consumers)

    def end(self) -> None:
        """Drop all messages, and tell every consumer that the queue is gone."""
        self._gone = True
        self.purge()
        self.rest()
        consumers, self._consumers = self._consumers, deque()
        for consumer in consumers:
            consumer.cancelled()

    def rest(self) -> None:
        """Look at no expiration until the next deliver()."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def deliver(self) -> None:
        """Deliver what waits, in turn, to consumers that have room."""
        while self._count:
            self._drop_expired()
            if not self._count or (consumer := self._next_consumer()) is None:
                break
            consumer.deliver(self, self._pop())
        if self._count:
            self._watch_expiry()

    def content(self, message: Stored, tag: int) -> Content:
        """Return a message as a consumer gets it."""
        properties = message.counted() if message.acquired else message.properties
        body = message.body
        return Content(tag, message.redelivered, message.route, 0, "", properties, len(body), body)

    def _next_consumer(self) -> Subscriber | None:
        consumers = self._consumers
        for at, consumer in enumerate(consumers):
            if consumer.room:
                if len(consumers) > 1 and not self._single_active:
                    del consumers[at]
                    consumers.append(consumer)
                return consumer
            if self._single_active:
                break
        return None

    # -- expiration: at the head only, as in a broker ---------------------------------------

    def _heads(self) -> Iterator[deque[Stored]]:
        """Yield what may expire: of a quorum queue the head of each level, else the very head."""
        for level in reversed(self._ready):
            if level:
                yield level
                if level and not self._quorum:
                    return

    def _drop_expired(self) -> None:
        now = monotonic()
        for level in self._heads():
            while level and level[0].expires is not None and level[0].expires <= now:
                self._count -= 1
                self._bury(level.popleft(), Death.EXPIRED)

    def _watch_expiry(self) -> None:
        """Look again when the first head expires; a look that is due sooner will see to it."""
        loop = self._host.loop
        if loop is None:
            return  # the next connection drops what has expired meanwhile
        ends = [at for level in self._heads() if (at := level[0].expires) is not None]
        if not ends:
            return
        due = loop.time() + max(0.0, min(ends) - monotonic())
        if self._expiry is not None:
            if self._expiry.when() <= due:
                return
            self._expiry.cancel()
        self._expiry = loop.call_at(due, self._look)

    def _look(self) -> None:
        self._expiry = None
        self.deliver()
