"""Looks now and then at what a session needs on the broker: somebody may have deleted it.

The broker tells nobody that an exchange or a binding was deleted. Who publishes to an exchange
that is gone learns it; who listens hears nothing more, and takes it for silence.

Why: docs/decisions/008-what-is-missing-on-the-broker.md
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aio_pika import Channel

from ..config.settings import TransportConfig
from ..exceptions import (
    BrokerAuthenticationError,
    ConnectionLostError,
    InstanceInUseError,
    NuropbTransportError,
    ServiceNotConfigured,
)
from ..safe_logging import report
from .bindings import bind
from .connection import BrokerConnection
from .error_translation import is_missing, translated
from .topology import Binding, Exchange, Queue

logger = logging.getLogger("nuropb_rmq.broker")

Configure = Callable[[BrokerConnection, TransportConfig], Awaitable[None]]
"""Makes exchanges, and what else is needed beside them, over this connection."""

EXCHANGES, BINDINGS = "exchanges", "bindings"
"""The two kinds of look."""
JITTER = 0.2
"""Of an interval: how much more or less it may be, lest a thousand instances look at once."""


def noticed_after(config: TransportConfig) -> float:
    """Seconds after which all instances have noticed that an exchange is missing.

    Whoever makes it sooner hides from the others that they have to make their bindings again.
    """
    everybody = (1 + 2 * JITTER) * (config.exchange_check or 0.0)
    return min(everybody, config.missing_timeout / 2)


async def probe(channel: Channel, exchange: Exchange) -> None:
    """Raise ServiceNotConfigured unless there is such an exchange."""
    with translated(f"exchange {exchange.name!r}"):
        await channel.declare_exchange(exchange.name, exchange.kind, passive=True)


class Watch:
    """The looks of one session, each on a channel that is closed behind it."""

    def __init__(
        self,
        connection: BrokerConnection,
        config: TransportConfig,
        *,
        exchanges: Sequence[Exchange],
        queues: Sequence[Queue],
        bindings: Sequence[Binding],
        configure: Configure | None,
        refused: set[str],
        channels: list[Channel],
    ) -> None:
        """`queues` are looked at with the exchanges; `refused` are kinds of look that are over.

        `channels` are those of the session: what a look leaves open is closed with them.
        """
        self._connection = connection
        self._config = config
        self._exchanges = exchanges
        self._queues = queues
        self._bindings = bindings
        self._configure = configure
        self._refused = refused
        self._channels = channels
        self._missing_since: float | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self, end: Callable[[ConnectionLostError], None]) -> None:
        """Look until cancelled; `end` is called when the session has to begin anew."""
        intervals = {EXCHANGES: self._config.exchange_check or 0.0}
        if self._bindings:
            intervals[BINDINGS] = self._config.binding_renewal or 0.0
        due = {
            kind: self._loop.time() + _jittered(interval)
            for kind, interval in intervals.items()
            if interval and kind not in self._refused
        }
        try:
            while due:
                kind = min(due, key=due.__getitem__)
                await asyncio.sleep(due[kind] - self._loop.time())
                pause = await self._look(kind, _jittered(intervals[kind]))
                due[kind] = self._loop.time() + pause
                if kind in self._refused:
                    del due[kind]
        except (ServiceNotConfigured, InstanceInUseError) as e:
            end(ConnectionLostError(f"{e}"))
        except Exception as e:  # noqa: BLE001 - it is the task's outermost loop
            report(
                logger, logging.ERROR, e, "%s: looks ended, they never should", self._config.broker
            )

    async def _look(self, kind: str, interval: float) -> float:
        """Look once; returns the seconds until the next look of this kind.

        Raises ServiceNotConfigured when something is missing that cannot be made here, and
        InstanceInUseError when another connection has taken the response queue.
        """
        broker = self._config.broker
        try:
            async with self._in_time():
                await (self._bind() if kind == BINDINGS else self._exist())
        except BrokerAuthenticationError as e:
            self._refused.add(kind)
            logger.warning("%s: the %s are not looked at any more: %s", broker, kind, e)
        except ServiceNotConfigured as e:
            if self._configure is None or not is_missing(e):
                raise
            return await self._missing(self._configure, e, interval)
        except InstanceInUseError:
            raise
        except (NuropbTransportError, TimeoutError) as e:
            # The session notices by itself when its connection is gone.
            logger.debug("%s: the %s could not be looked at: %r", broker, kind, e)
        return interval

    async def _exist(self) -> None:
        async with self._channel() as channel:
            for exchange in self._exchanges:
                await probe(channel, exchange)
            for queue in self._queues:
                with translated(f"queue {queue.name!r}"):
                    await channel.declare_queue(queue.name, passive=True)
        if self._missing_since is not None:
            await self._bind()
            self._back("is there again")

    async def _bind(self) -> None:
        async with self._channel() as channel:
            async for _ in bind(channel, self._bindings, self._open_channel):
                pass

    async def _open_channel(self) -> Channel:
        channel = Channel(self._connection)
        self._channels.append(channel)
        await channel.initialize()
        return channel

    async def _missing(
        self, configure: Configure, missing: ServiceNotConfigured, interval: float
    ) -> float:
        """Make what is missing when everybody has noticed; until then look more often."""
        if self._missing_since is None:
            self._missing_since = self._loop.time()
            logger.warning("%s: %s; it is made again", self._config.broker, missing)
        if self._loop.time() - self._missing_since < noticed_after(self._config):
            return interval / 10
        try:
            async with self._in_time():
                with translated("exchanges"):
                    await configure(self._connection, self._config)
                await self._bind()
        except (NuropbTransportError, TimeoutError) as e:
            raise ServiceNotConfigured(
                f"{missing}, and cannot be made: {e}", None, missing.exception
            ) from e
        self._back("was made again")
        return interval

    def _back(self, how: str) -> None:
        self._missing_since = None
        bindings = len(self._bindings)
        logger.warning(
            "%s: what was missing %s, with %d bindings", self._config.broker, how, bindings
        )

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Within connect_timeout; a cancellation that got lost in aiormq on the way is not lost."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - narrows for mypy
        before = task.cancelling()
        async with asyncio.timeout(self._config.connect_timeout):
            try:
                yield
            finally:
                if task.cancelling() > before:
                    raise asyncio.CancelledError

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Channel]:
        channel = Channel(self._connection)
        self._channels.append(channel)
        try:
            with translated("a look"):
                await channel.initialize()
                yield channel
                await channel.close()
        except (BrokerAuthenticationError, InstanceInUseError, ServiceNotConfigured):
            self._channels.remove(channel)  # the broker has closed it
            raise
        self._channels.remove(channel)


def _jittered(interval: float) -> float:
    return interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - it is no secret
