"""One robust connection: hosts, TLS, login, backoff; foreign errors become ours.

aio-pika's RobustConnection owns the socket's life and reconnects it. What is added: a transport
factory that tries every host and puts the frame router on the socket, a jittered exponential
pause, and errors that tell an operator what to mend.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import random
import ssl
from collections.abc import Callable
from typing import Any

from aio_pika import RobustConnection
from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPError
from yarl import URL

from .broker import Broker
from .config import TransportConfig
from .exceptions import (
    BrokerAuthenticationError,
    BrokerTLSError,
    ConnectionLostError,
    NuropbConfigurationError,
    NuropbTransportError,
    ServiceNotConfigured,
)
from .protocol import NUROPB_PROTOCOL_VERSION, NUROPB_VERSION
from .refusals import about_tls, failure, refusal
from .wire.router import PROTOCOL_HEADER, FrameRouter

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
"""Seconds, about, before the first attempt after a loss."""
CLOSE_WITHIN = 2.0
"""Seconds that a close may take before the socket is aborted."""

SILENT_HEARTBEATS = 3
"""Heartbeats without a byte from the broker, which sends two in each, after which it is lost."""


class RouterFactory(TransportFactory):
    """Opens the socket of every attempt; raises only OSError, as aio-pika's retry expects."""

    def __init__(
        self,
        broker: Broker,
        connect_timeout: float,
        *,
        on_blocked: Callable[[str | None], None],
        on_lost: Callable[[ConnectionLostError], None],
    ) -> None:
        self._broker = broker
        # Of an attempt over several hosts, something is left for the login at the last of them.
        shares = len(broker.hosts) + (len(broker.hosts) > 1)
        self._timeout = max(1.0, connect_timeout / shares)
        self._on_blocked = on_blocked
        self._on_lost = on_lost
        self._next_host = 0
        self.attempts = 0
        self.router: FrameRouter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first host that greets, beginning behind the one used last."""
        self.attempts += 1
        self.router = None
        context = await self._tls_context()
        hosts = self._broker.hosts
        errors: dict[str, OSError] = {}
        for _ in hosts:
            host, port = hosts[self._next_host % len(hosts)]
            self._next_host += 1
            try:
                return await self._open(host, port, context)
            except OSError as e:
                errors[f"{host}:{port}"] = e
            except ValueError as e:  # a host name that cannot be encoded
                errors[f"{host}:{port}"] = OSError(f"{host}: {e}")
        first = next(iter(errors.values()))
        if len(errors) == 1:
            raise first
        told = "; ".join(f"{where}: {error}" for where, error in errors.items())
        raise OSError(f"none of the hosts answered: {told}") from first

    async def _tls_context(self) -> ssl.SSLContext | None:
        tls = self._broker.tls
        if tls is None:
            return None
        try:
            # Read anew for each attempt, so that renewed certificates are taken up.
            return await asyncio.get_running_loop().run_in_executor(None, tls.context)
        except NuropbConfigurationError as e:
            raise ssl.SSLError(f"{e}") from e

    async def _open(
        self, host: str, port: int, context: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        router = FrameRouter(reader, loop, on_blocked=self._on_blocked, on_lost=self._on_lost)
        try:
            async with asyncio.timeout(self._timeout):
                transport, _ = await loop.create_connection(
                    lambda: router,
                    host,
                    port,
                    ssl=context,
                    server_hostname=host if context else None,
                )
                self.router = router
                # A host may accept and stay silent: then it is the next one's turn.
                await router.greet()
        except TimeoutError as e:
            raise TimeoutError(f"no answer in {self._timeout:.3g} s") from e
        return reader, _Greeted(transport, router, reader, loop)


class _Greeted(asyncio.StreamWriter):
    """aiormq's writer. The protocol header was sent, and aiormq's own is dropped."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write frames, which begin with their type, and never with an "A"."""
        if data != PROTOCOL_HEADER:
            super().write(data)


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
        self._factory = RouterFactory(
            config.broker, config.connect_timeout, on_blocked=on_blocked, on_lost=self._lost
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
        pause: float = FIRST_PAUSE * 2 ** min(self._factory.attempts, 10)
        return min(pause, self._attempt_cap) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    @reconnect_interval.setter
    def reconnect_interval(self, _: object) -> None:
        """aio-pika's own setting has no effect here."""

    async def open(self) -> None:
        """Make the first connection.

        Raises a NuropbTransportError when no host answers, or when what answers refuses.
        Whoever calls sets the deadline.
        """
        try:
            await self.connect(timeout=self._config.connect_timeout)
        except (OSError, AMQPError, RuntimeError) as e:
            raise self._translate(e) from e

    async def usable(self) -> None:
        """Wait until the connection is up.

        Raises the NuropbTransportError after which trying again has no sense: credentials
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

    def _abort(self) -> None:
        if self._factory.router is not None:
            self._factory.router.abort("closed")

    def settled(self) -> None:
        """The session is ready: the next loss starts from short pauses again."""
        self._factory.attempts = 0

    def _lost(self, reason: ConnectionLostError) -> None:
        self._up_or_fatal.clear()
        self._tell_lost(reason)

    async def _on_connected(self) -> None:
        await super()._on_connected()
        if self._config.heartbeat:
            self.router.watch(SILENT_HEARTBEATS * self._config.heartbeat)
        if self.router.lost is None:
            self._up_or_fatal.set()

    async def _on_connection_close(self, closing: asyncio.Future[Any]) -> None:
        """Awaited by aio-pika for every loss and every failed attempt."""
        self._up_or_fatal.clear()
        error = self._translate(None if closing.cancelled() else closing.exception())
        await super()._on_connection_close(closing)
        if isinstance(error, BrokerAuthenticationError | ServiceNotConfigured):
            self._fatal = error
            self._up_or_fatal.set()
        elif not self._close_called:
            # The link has told of the loss, and aio-pika tells of each attempt that fails.
            logger.debug("%s", error)

    def _translate(self, error: BaseException | None) -> NuropbTransportError:
        """What happened, from the broker's own words when it said any."""
        broker = self._config.broker
        router = self._factory.router
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
    """The URL that aiormq logs in with; the factory chooses the host."""
    host, port = broker.hosts[0]
    return URL.build(
        scheme="amqps" if broker.tls else "amqp",
        user=broker.username,
        password=broker.password,
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
