"""Check regularly that the exchanges and bindings of a session exist.

The broker does not report that an exchange or a binding was deleted. A publisher learns it by an
error; a consumer only gets no more messages.

Why: docs/decisions/008-what-is-missing-on-the-broker.md
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from ..config.settings import TransportConfig
from ..exceptions import (
    BrokerAuthenticationError,
    ConnectionLostError,
    InstanceInUseError,
    NuropbTransportError,
    ServiceNotConfigured,
)
from ..safe_logging import ServiceLog, report
from ..waiting import time_limit
from .bindings import bind
from .connecting import Connection
from .control_channel import ControlChannel
from .error_translation import is_missing, translated
from .topology import Binding, Exchange, Queue

Declare = Callable[[Connection, TransportConfig], Awaitable[None]]
"""Makes the exchanges and the dead-letter queue over this connection."""

EXCHANGES, BINDINGS = "exchanges", "bindings"
"""The two kinds of checks."""
JITTER = 0.2
"""Share by which an interval varies, lest a thousand instances check at once."""


def noticed_after(config: TransportConfig) -> float:
    """Return seconds after which all instances have noticed that an exchange is missing.

    If one is made sooner, other instances do not notice that they must make their bindings again.
    """
    everybody = (1 + 2 * JITTER) * (config.exchange_check or 0.0)
    return min(everybody, config.missing_timeout / 2)


async def probe(channel: ControlChannel, exchange: Exchange) -> None:
    """Raise ServiceNotConfigured unless the exchange exists."""
    with translated(f"exchange {exchange.name!r}"):
        await channel.declare_exchange(exchange, passive=True)


class Watch:
    """The checks of one session, each on a channel of its own."""

    def __init__(
        self,
        connection: Connection,
        config: TransportConfig,
        log: ServiceLog,
        *,
        exchanges: Sequence[Exchange],
        queues: Sequence[Queue],
        bindings: Sequence[Binding],
        declare: Declare | None,
        refused: set[str],
        channels: list[ControlChannel],
    ) -> None:
        """Check `queues` with the exchanges, but nothing of the kinds in `refused`.

        `channels` are those of the session, which closes any that a check leaves open there.
        """
        self._connection = connection
        self._config = config
        self._log = log
        self._exchanges = exchanges
        self._queues = queues
        self._bindings = bindings
        self._declare = declare
        self._refused = refused
        self._channels = channels
        self._missing_since: float | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self, end: Callable[[ConnectionLostError], None]) -> None:
        """Check until cancelled; call `end` when the session has to begin anew."""
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
                pause = await self._check(kind, _jittered(intervals[kind]))
                due[kind] = self._loop.time() + pause
                if kind in self._refused:
                    del due[kind]
        except (ServiceNotConfigured, InstanceInUseError) as e:
            end(ConnectionLostError(f"{e}"))
        except Exception as e:  # noqa: BLE001 - it is the task's outermost loop
            never = "%s: checks of exchanges and bindings ended (a bug in nuropb_rmq)"
            report(self._log, logging.ERROR, e, never, self._config.broker)

    async def _check(self, kind: str, interval: float) -> float:
        """Check once; return the seconds until the next check of this kind.

        Raises ServiceNotConfigured when something is missing that cannot be made here, and
        InstanceInUseError when another connection has the response queue.
        """
        broker = self._config.broker
        try:
            async with time_limit(self._config.connect_timeout):
                await (self._bind() if kind == BINDINGS else self._exist())
        except BrokerAuthenticationError as e:
            self._refused.add(kind)
            self._log.warning("%s: the %s are no longer checked: %s", broker, kind, e)
        except ServiceNotConfigured as e:
            if self._declare is None or not is_missing(e):
                raise
            return await self._missing(self._declare, e, interval)
        except InstanceInUseError:
            raise
        except (NuropbTransportError, TimeoutError) as e:
            # The session notices by itself when its connection is gone.
            self._log.debug("%s: the %s could not be checked: %r", broker, kind, e)
        return interval

    async def _exist(self) -> None:
        async with self._channel() as channel:
            for exchange in self._exchanges:
                await probe(channel, exchange)
            for queue in self._queues:
                with translated(f"queue {queue.name!r}"):
                    await channel.declare_queue(queue, passive=True)
        if self._missing_since is not None:
            await self._bind()
            self._back("exists again")

    async def _bind(self) -> None:
        async with self._channel() as channel:
            async for _ in bind(channel, self._bindings, self._open_channel):
                pass

    async def _open_channel(self) -> ControlChannel:
        channel = self._connection.new_channel()
        self._channels.append(channel)
        await channel.open()
        return channel

    async def _missing(
        self, declare: Declare, missing: ServiceNotConfigured, interval: float
    ) -> float:
        """Make what is missing once all instances have noticed; until then check more often."""
        if self._missing_since is None:
            self._missing_since = self._loop.time()
            self._log.warning("%s: %s; it will be made again", self._config.broker, missing)
        if self._loop.time() - self._missing_since < noticed_after(self._config):
            return interval / 10
        try:
            async with time_limit(self._config.connect_timeout):
                with translated("exchanges"):
                    await declare(self._connection, self._config)
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
        self._log.warning(
            "%s: what was missing %s, with %d bindings", self._config.broker, how, bindings
        )

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[ControlChannel]:
        channel = self._connection.new_channel()
        self._channels.append(channel)
        try:
            with translated("a check"):
                await channel.open()
                yield channel
                await channel.close()
        except (NuropbTransportError, TimeoutError):
            self._channels.remove(channel)  # the broker, or aiormq, has closed it
            raise
        self._channels.remove(channel)


def _jittered(interval: float) -> float:
    return interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - it is no secret
