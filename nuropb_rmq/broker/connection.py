"""One robust connection: login, backoff, translated errors.

aio-pika's RobustConnection opens the socket and reconnects it. Added here: a transport factory
that puts the frame router on the socket (`dialing`), a jittered exponential pause, and errors that
tell an operator what to do. Secrets are written by us: aio-pika and aiormq never learn the
password, nor any token.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
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
    TransportClosedError,
)
from ..protocol.constants import NUROPB_PROTOCOL_VERSION, NUROPB_VERSION
from ..safe_logging import ServiceLog, report
from .backoff import pause
from .control_channel import AmqpChannel
from .dialing import RouterFactory
from .error_translation import failure, refusal, tls_error
from .login import Credentials
from .retry_limit import RetryLimit

logger = logging.getLogger("nuropb_rmq.broker")

CLOSE_WITHIN = 2.0
"""Seconds that a close may take before the socket is aborted."""

SILENT_HEARTBEATS = 3
"""Heartbeat intervals without a byte from the broker, which sends two in each, until it is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """Limits that the broker tells at login (AMQP 0-9-1, section 1.4.2.5); 0: none."""

    frame_max: int
    channel_max: int


class BrokerConnection(RobustConnection):
    """A RobustConnection with the frame router on its socket.

    `usable` waits until the connection is up; `on_lost` is called, synchronously, when it is lost.
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
        self._log = ServiceLog(logger, config.service_name, instance_id, connection=purpose)
        self._credentials = Credentials(config, self._log)
        # Renews the token.
        self._keeping: asyncio.Task[None] | None = None
        renewable = self._credentials.renewable
        self.retry_limit = RetryLimit(config, self._log, renewable=renewable)
        self._factory = RouterFactory(
            config.broker,
            self._credentials,
            config.connect_timeout,
            self._log,
            on_blocked=on_blocked,
            on_lost=self._lost,
        )
        super().__init__(
            _aiormq_url(config.broker, config.heartbeat),
            client_properties=_client_properties(config, purpose, instance_id),
        )
        self.kwargs["transport_factory"] = self._factory
        # Set while the connection is up, and for good once there is a fatal error.
        self._up_or_fatal = asyncio.Event()
        self._fatal: NuropbTransportError | None = None

    @property
    def router(self) -> FrameRouter:
        """The protocol of the open socket; raises ConnectionLostError when there is none."""
        router = self._factory.router
        if router is None:
            raise ConnectionLostError("not connected")
        return router

    # aio-pika assigns and reads this attribute, several times per attempt and after a success
    # too: it must be a pure function of the number of failures in a row.
    @property
    def reconnect_interval(self) -> float:
        """Seconds until the next attempt: short at first, doubling up to the cap, with jitter."""
        return pause(self._factory.attempts, self._attempt_cap)

    @reconnect_interval.setter
    def reconnect_interval(self, _: object) -> None:
        """Ignore aio-pika's own setting."""

    @property
    def version(self) -> str:
        """Version of the broker, once the connection is open; "" when it does not tell."""
        transport = self.transport
        properties = {} if transport is None else transport.connection.server_properties
        return str(properties.get("version", ""))

    @property
    def tuned(self) -> Tuned:
        """The broker's limits, once the connection is open."""
        tune = self.transport.connection.connection_tune if self.transport else None
        if tune is None:
            raise ConnectionLostError("not connected")
        return Tuned(frame_max=tune.frame_max, channel_max=tune.channel_max)

    def new_channel(self, *, confirms: bool = False) -> AmqpChannel:
        """Return a channel that is not open yet."""
        return AmqpChannel(self, confirms=confirms)

    async def open(self) -> None:
        """Make the first connection; the caller sets the deadline.

        Raises a NuropbTransportError when no host answers, when the broker refuses us, or when
        there is no token to log in with.
        """
        try:
            await self.connect(timeout=self._config.connect_timeout)
        except (OSError, AMQPError, RuntimeError) as e:
            raise self._translate(e) from e

    async def usable(self) -> None:
        """Wait until the connection is up.

        Raises the NuropbTransportError that ended the retries: credentials refused, virtual host
        missing; TransportClosedError after shut().
        """
        if self._fatal is None:
            await self._up_or_fatal.wait()
        if self._fatal is not None:
            raise self._fatal

    async def shut(self, within: float = CLOSE_WITHIN) -> None:
        """Close; abort the socket if that takes more than `within` seconds, or is cancelled."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(within, self._abort)
        self._fatal = self._fatal or TransportClosedError("the connection was closed")
        self._up_or_fatal.set()  # nobody waits for it in vain
        try:
            await self.close()
        finally:
            timer.cancel()
            self._abort()
            if self._keeping is not None:
                await asyncio.wait([self._keeping], timeout=CLOSE_WITHIN)

    def abandon(self) -> None:
        """Close the socket without its event loop, which is closed itself."""
        self._factory.abandon()

    def _abort(self, reason: str = "closed") -> None:
        if self._factory.router is not None:
            self._factory.router.abort(reason)

    def settled(self) -> None:
        """Begin again with short pauses at the next loss, for the session is ready."""
        self._factory.attempts = 0
        self.retry_limit.settled()

    def should_give_up(self, error: NuropbTransportError) -> bool:
        """Return whether to stop retrying after this error; see RetryLimit."""
        if self.retry_limit.reached(error):
            return True
        if isinstance(error, BrokerAuthenticationError) and self._credentials.renewable:
            self._log.warning("the broker refuses the token; requesting another: %s", error)
            self._abort(f"{error}")  # perhaps only a permission was refused, not the login
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
        """Handle a loss or a failed attempt; aio-pika awaits this for each."""
        self._up_or_fatal.clear()
        attempted = not self.connected.is_set()
        error = self._translate(None if closing.cancelled() else closing.exception())
        await super()._on_connection_close(closing)
        if self.should_give_up(error):
            self._fatal = error
            self._up_or_fatal.set()
        elif not self._close_called:
            self._log_failure(error, attempted)

    def _log_failure(self, error: NuropbTransportError, attempted: bool) -> None:
        """Log at DEBUG, for the link has logged the loss; but at WARNING the lack of a token."""
        if attempted and not isinstance(error, BrokerAuthenticationError):
            self.retry_limit.unrelated()
        first = self.retry_limit.was_settled and self._factory.attempts == 1
        if isinstance(error, TokenProviderError) and first:
            report(self._log, logging.WARNING, error, "no token to log in with: %s", error)
        else:
            self._log.debug("%s", error)

    def _translate(self, error: BaseException | None) -> NuropbTransportError:
        """Return our error for a lost connection; from the broker's reason if it gave one."""
        broker = self._config.broker
        router = self._factory.router
        if self._factory.no_token is not None:
            return self._factory.no_token
        if router is not None and router.lost is not None and router.lost.code:
            return refusal(broker, router.lost)
        explained = isinstance(error, TimeoutError) or tls_error(error)
        if broker.tls and router is not None and not router.heard and not explained:
            return BrokerTLSError(
                f"{broker}: closed right after the TLS handshake: does the broker want a client "
                "certificate of an authority that it knows (certfile, keyfile)?",
                None,
                error,
            )
        return failure(broker, self._config.connect_timeout, error)


def _aiormq_url(broker: Broker, heartbeat: int) -> URL:
    """Return a URL for aiormq; the factory chooses the host, and LoginWriter adds the secrets."""
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
    """Return the properties of this connection that the broker's console shows."""
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
