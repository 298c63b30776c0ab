"""Handle messages that may crash their process one at a time.

A quorum queue counts how often a message came back because its consumer was lost. When a message
kills its process, the counts of all messages in hand rise, and at the delivery limit all of them
become dead letters. So messages with a high count are handled one at a time: the harmless ones are
settled, and only the one that crashes the process is lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from ..amqp.consumer import Consumer
from ..amqp.frames import Content
from ..amqp.settlement import Settlement
from ..config.settings import TransportConfig
from ..protocol.reader import Head
from ..safe_logging import ServiceLog
from ..waiting import Changes
from .redelivery import DELIVERY_COUNT

USUAL_LIMIT: Final = 20
"""The broker's own delivery limit, from RabbitMQ 4.0 on
(https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling)."""
GATHER: Final = 0.2
"""Seconds until the first is handled, so that all that were delivered together have arrived."""
ALONE_FOR: Final = 10.0
"""Seconds after which the next one is begun although the last still runs.

Waiting messages are unacknowledged. With the usual prefetch of 32 each of them begins well within
the broker's consumer_timeout of 30 minutes."""


class Suspects:
    """Messages set aside, and the task that begins them one at a time.

    `begin` begins to handle a delivery; `idle` returns when nothing is in hand.
    """

    def __init__(
        self,
        config: TransportConfig,
        log: ServiceLog,
        changes: Changes,
        *,
        begin: Callable[[Consumer, Content], None],
        idle: Callable[[], Awaitable[None]],
    ) -> None:
        limit = USUAL_LIMIT if config.delivery_limit is None else config.delivery_limit
        self._limit = limit
        # The count from which on a message is set aside. Lost connections count as well, and
        # handling alone is slow, so the first quarter of the limit is spared. In each round after
        # that, a harmless message has an even chance to be handled before the one that crashes.
        self._from = max(1, limit // 4)
        self._begin = begin
        self._idle = idle
        self._log = log
        self._changes = changes
        # Suspects with their counts, and other deliveries that wait until no suspect is left.
        self._aside: list[tuple[Consumer, Content, int]] = []
        self._held: list[tuple[Consumer, Content]] = []
        self._task: asyncio.Task[None] | None = None
        self.active = False
        """True while there are suspects: no other delivery may begin."""

    def set_aside(self, consumer: Consumer, content: Content) -> bool:
        """Set a delivery aside if it came back too often; return whether it did."""
        count = Head(content).shape.headers.get(DELIVERY_COUNT)
        if not isinstance(count, int) or count < self._from:
            return False
        self._aside.append((consumer, content, count))
        if not self.active:
            self.active = True
            self._task = asyncio.create_task(self._run(), name="nuropb-suspects")
        return True

    def hold(self, consumer: Consumer, content: Content) -> Awaitable[None]:
        """Keep another delivery until no suspect is left; await that before the next delivery."""
        self._held.append((consumer, content))
        return self._changes.until(lambda: not self.active)

    async def _run(self) -> None:
        await asyncio.sleep(GATHER)
        while True:
            await self._alone()
            # The broker delivers those of ended channels again, here or elsewhere.
            self._aside = [suspect for suspect in self._aside if suspect[0].port.open]
            if not self._aside:
                break
            # In a fixed order, the messages behind the one that crashes would never have their
            # turn before the limit.
            at = random.randrange(len(self._aside))  # noqa: S311 - no secret
            consumer, content, count = self._aside.pop(at)
            self._warn(content, count)
            self._begin(consumer, content)
        self.active = False
        held, self._held = self._held, []
        for consumer, content in held:
            if consumer.port.open:
                self._begin(consumer, content)
        self._changes.wake()

    async def _alone(self) -> None:
        try:
            async with asyncio.timeout(ALONE_FOR):
                await self._idle()
        except TimeoutError:
            self._log.debug("a suspect has run for %g s: the next one begins", ALONE_FOR)

    def _warn(self, content: Content, count: int) -> None:
        """Log it before it begins: if it ends the process, this is the log's last line."""
        head = Head(content)
        self._log.warning(
            "%s %s came back %d times because its channel or process was lost; it is handled "
            "alone, and dead-lettered at more than %d (delivery_limit)",
            head.kind.value,
            head.correlation_id,
            count,
            self._limit,
            about=head,
        )

    def give_back(self) -> None:
        """Requeue all of them; another instance may take them at once."""
        aside, self._aside = self._aside, []
        held, self._held = self._held, []
        for consumer, content in (*(suspect[:2] for suspect in aside), *held):
            consumer.settle(content, Settlement.REQUEUE)

    async def cancel(self) -> None:
        """Requeue all, and end the task."""
        self.give_back()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
