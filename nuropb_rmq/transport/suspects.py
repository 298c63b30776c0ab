"""Handle messages that may crash their process one at a time.

A quorum queue counts how often a message came back because its consumer was lost. When a message
kills its process, that counts for all messages in hand, and at the delivery limit they all become
dead letters. So from a certain count on messages are handled one at a time: the innocent ones are
settled, and only the one that crashes the process is lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from ..amqp.consumer import Consumer
from ..amqp.frames import Content
from ..amqp.settlement import Settlement
from ..config.settings import TransportConfig
from ..protocol.reader import Head
from .changes import Changes
from .redelivery import DELIVERY_COUNT

logger = logging.getLogger("nuropb_rmq.transport")

USUAL_LIMIT: Final = 20
"""The broker's own delivery limit, from RabbitMQ 4.0 on
(https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling)."""
GATHER: Final = 0.2
"""Seconds until the first is handled: those that were delivered together arrive in that time."""
ALONE_FOR: Final = 10.0
"""Seconds after which the next is begun beside one that still runs.

Those that wait are unacknowledged, and with the usual prefetch of 32 each begins well within the
broker's consumer_timeout of 30 minutes."""


class Suspects:
    """Messages that are set aside, and the task that begins them one at a time.

    `begin` begins to handle a delivery; `idle` returns when nothing is in hand.
    """

    def __init__(
        self,
        config: TransportConfig,
        changes: Changes,
        *,
        begin: Callable[[Consumer, Content], None],
        idle: Callable[[], Awaitable[None]],
    ) -> None:
        limit = USUAL_LIMIT if config.delivery_limit is None else config.delivery_limit
        self._limit = limit
        # Each round with the culprit gives an innocent message an even chance to be handled before
        # it, so most of the limit is left for these rounds. The first quarter is for connections
        # that were lost, which count as well: handling alone is slow.
        self._from = max(1, limit // 4)
        self._begin = begin
        self._idle = idle
        self._changes = changes
        self._aside: list[tuple[Consumer, Content, int]] = []
        self._held: list[tuple[Consumer, Content]] = []
        self._task: asyncio.Task[None] | None = None
        self.active = False
        """Some are set aside, or handled: nothing else may begin."""

    def set_aside(self, consumer: Consumer, content: Content) -> bool:
        """Take a delivery that came back too often; False when it did not."""
        count = Head(content).shape.headers.get(DELIVERY_COUNT)
        if not isinstance(count, int) or count < self._from:
            return False
        self._aside.append((consumer, content, count))
        if not self.active:
            self.active = True
            self._task = asyncio.create_task(self._run(), name="nuropb-suspects")
        return True

    def hold(self, consumer: Consumer, content: Content) -> Awaitable[None]:
        """Keep another delivery until no suspect is left, which ends the awaitable."""
        self._held.append((consumer, content))
        return self._changes.until(lambda: not self.active)

    async def _run(self) -> None:
        await asyncio.sleep(GATHER)
        while True:
            await self._alone()
            # Those whose channel has ended are delivered again, to whomever.
            self._aside = [each for each in self._aside if each[0].port.open]
            if not self._aside:
                break
            # In any fixed order those behind the culprit would not have their turn before the
            # limit: it comes back first as well.
            at = random.randrange(len(self._aside))  # noqa: S311 - it is no secret
            consumer, content, count = self._aside.pop(at)
            self._say(content, count)
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
            logger.debug("what is in hand has taken %g s: the next one is begun", ALONE_FOR)

    def _say(self, content: Content, count: int) -> None:
        """Name it before it begins: if it ends the process, this is the last line of the log."""
        head = Head(content)
        logger.warning(
            "%s %s came back %d times because its channel or process was lost; it is handled "
            "alone, and dead-lettered at more than %d (delivery_limit)",
            head.kind.value,
            head.correlation_id,
            count,
            self._limit,
        )

    def give_back(self) -> None:
        """Return all of them to the queue, where another instance may take them at once."""
        aside, self._aside = self._aside, []
        held, self._held = self._held, []
        for consumer, content in (*((each[0], each[1]) for each in aside), *held):
            consumer.settle(content, Settlement.REQUEUE)

    async def cancel(self) -> None:
        """End the task."""
        self.give_back()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
