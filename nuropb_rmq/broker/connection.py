"""One robust connection: login, backoff; foreign errors become ours.

aio-pika's RobustConnection owns the socket's life and reconnects it. What is added: a transport
factory that puts the frame router on the socket (`dialing`), a jittered exponential pause, and
errors that tell an operator what to mend. What is secret is written by us: aio-pika and aiormq
never learn the password, nor any token.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable
from typing import Any

from aio_pika import RobustConnection
from aiormq.exceptions import AMQPError
from yarl import URL

from ..amqp.router import FrameRouter
from ..config.address import Broker
from ..config.settings import TransportConfig
from ..exceptions import (
    BrokerAuthenticationError,
    BrokerTLSError,
    ConnectionLostError,
    NuropbTransportError,
    TokenProviderError,
)
from ..protocol.constants import NUROPB_PROTOCOL_VERSION, NUROPB_VERSION
from ..safe_logging import report
from .backoff import pause
from .dialing import RouterFactory
from .error_translation import about_tls, failure, refusal
from .login import Credentials
from .patience import Patience

logger = logging.getLogger("nuropb_rmq.broker")

CLOSE_WITHIN = 2.0
"""Seconds that a close may take before the socket is aborted."""

SILENT_HEARTBEATS = 3
"""Heartbeats without a byte from the broker, which sends two in each, after which it is lost."""


class BrokerConnection(RobustConnection):
    """A RobustConnection with the frame router on its socket.

    `usable` waits until the connection is up; `on_lost` is told, synchronously, when it is not.
    """

    def __init__(
        self,
        config: TransportConfig,
        *,
        purpose: str,
        instance_id: str,
        on_blocked: Callable[[str | None], None],
        on_lost: Callable[[ConnectionLostError], None],
    ) -> None:
        self._config = config
        self._attempt_cap = config.reconnect_cap
        self._tell_lost = on_lost
        self._credentials = Credentials(config)
        self._keeping: asyncio.Task[None] | None = None
        self.patience = Patience(config, renewable=self._credentials.renewable)
        self._factory = RouterFactory(
            config.broker,
            self._credentials,
            config.connect_timeout,
            on_blocked=on_blocked,
            on_lost=self._lost,
        )
        super().__init__(
            _aiormq_url(config.broker, config.heartbeat),
            client_properties=_client_properties(config, purpose, instance_id),
        )
        self.kwargs["transport_factory"] = self._factory
        self._up_or_fatal = asyncio.Event()
        self._fatal: NuropbTransportError | None = None

    @property
    def router(self) -> FrameRouter:
        """The protocol of the socket in use. Raises ConnectionLostError when there is none."""
        router = self._factory.router
        if router is None:
            raise ConnectionLostError("not connected")
        return router

    # aio-pika assigns and reads this attribute, several times per attempt and after a success
    # too: it must be a pure function of the number of failures in a row.
    @property
    def reconnect_interval(self) -> float:
        """Seconds until the next attempt: short and jittered first, doubling up to the cap."""
        return pause(self._factory.attempts, self._attempt_cap)

    @reconnect_interval.setter
    def reconnect_interval(self, _: object) -> None:
        """aio-pika's own setting has no effect here."""

    async def open(self) -> None:
        """Make the first connection.

        Raises a NuropbTransportError when no host answers, or when what answers refuses, or when
        there is no token to log in with.
        Whoever calls sets the deadline.
        """
        try:
            await self.connect(timeout=self._config.connect_timeout)
        except (OSError, AMQPError, RuntimeError) as e:
            raise self._translate(e) from e

    async def usable(self) -> None:
        """Wait until the connection is up.

        Raises the NuropbTransportError after which trying again makes no sense: credentials
        refused, virtual host missing.
        """
        await self._up_or_fatal.wait()
        if self._fatal is not None:
            raise self._fatal

    async def shut(self, within: float = CLOSE_WITHIN) -> None:
        """Close, and abort the socket when that takes more than `within` seconds."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(within, self._abort)
        try:
            await self.close()
        finally:
            timer.cancel()
            self._abort()
            if self._keeping is not None:
                await asyncio.wait([self._keeping], timeout=CLOSE_WITHIN)

    def abandon(self) -> None:
        """Close the socket, past an event loop that is closed itself."""
        self._factory.abandon()

    def _abort(self, reason: str = "closed") -> None:
        if self._factory.router is not None:
            self._factory.router.abort(reason)

    def settled(self) -> None:
        """The session is ready: the next loss starts from short pauses again."""
        self._factory.attempts = 0
        self.patience.settled()

    def given_up(self, error: NuropbTransportError) -> bool:
        """Return whether trying again makes no sense after this; see Patience."""
        if self.patience.is_over(error):
            return True
        if isinstance(error, BrokerAuthenticationError) and self._credentials.renewable:
            logger.warning("the token is refused, another one is asked for: %s", error)
            self._abort(f"{error}")  # it may have been refused for less than the login
        return False

    def _lost(self, reason: ConnectionLostError) -> None:
        self._up_or_fatal.clear()
        if self._keeping is not None:
            self._keeping.cancel()
        self._tell_lost(reason)

    async def _on_connected(self) -> None:
        await super()._on_connected()
        if heartbeat := self._config.heartbeat:
            self.router.watch(heartbeat, SILENT_HEARTBEATS * heartbeat)
        if self.router.lost is None:
            self._up_or_fatal.set()
            if self._credentials.renewable:
                keeping = self._credentials.keep(self.router)
                self._keeping = asyncio.create_task(keeping, name="nuropb-token")

    async def _on_connection_close(self, closing: asyncio.Future[Any]) -> None:
        """Awaited by aio-pika for every loss and every failed attempt."""
        self._up_or_fatal.clear()
        attempted = not self.connected.is_set()
        error = self._translate(None if closing.cancelled() else closing.exception())
        await super()._on_connection_close(closing)
        if self.given_up(error):
            self._fatal = error
            self._up_or_fatal.set()
        elif not self._close_called:
            self._tell_of_failure(error, attempted)

    def _tell_of_failure(self, error: NuropbTransportError, attempted: bool) -> None:
        """The link has told of the loss, and aio-pika tells of each attempt that fails."""
        if attempted and not isinstance(error, BrokerAuthenticationError):
            self.patience.unrelated()
        first = self.patience.was_settled and self._factory.attempts == 1
        if isinstance(error, TokenProviderError) and first:
            report(logger, logging.WARNING, error, "no token to log in with: %s", error)
        else:
            logger.debug("%s", error)

    def _translate(self, error: BaseException | None) -> NuropbTransportError:
        """What happened, from the broker's own words when it said any."""
        broker = self._config.broker
        router = self._factory.router
        if self._factory.no_token is not None:
            return self._factory.no_token
        if router is not None and router.lost is not None and router.lost.code:
            return refusal(broker, router.lost)
        if broker.tls and router is not None and not router.heard and not about_tls(error):
            return BrokerTLSError(
                f"{broker}: closed right behind the TLS handshake: does the broker want a client "
                "certificate of an authority that it knows (certfile, keyfile)?",
                None,
                error,
            )
        return failure(broker, self._config.connect_timeout, error)


def _aiormq_url(broker: Broker, heartbeat: int) -> URL:
    """The URL that aiormq goes by; the factory chooses the host, and LoginWriter knows the rest."""
    host, port = broker.hosts[0]
    return URL.build(
        scheme="amqps" if broker.tls else "amqp",
        user=broker.username,
        host=host,
        port=port,
        path="/" if broker.vhost == "/" else f"/{broker.vhost.replace('/', '%2F')}",
        query={"heartbeat": str(heartbeat)},
    )


def _client_properties(config: TransportConfig, purpose: str, instance_id: str) -> dict[str, Any]:
    """What the broker's console shows of this connection."""
    return {
        "product": "nuropb_rmq",
        "version": NUROPB_VERSION,
        "protocol": NUROPB_PROTOCOL_VERSION,
        "platform": f"Python {platform.python_version()}",
        "information": "asyncio transport for NuroPb over RabbitMQ",
        "connection_name": f"{config.service_name}/{instance_id} {purpose}",
        "name": config.service_name,
        "instance_id": instance_id,
        "client_only": str(config.client_only).lower(),
    }
