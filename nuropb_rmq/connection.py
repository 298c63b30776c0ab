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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aio_pika import RobustConnection
from aiormq.connection import TransportFactory
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from yarl import URL

from .broker import Broker
from .config import TransportConfig
from .exceptions import (
    BrokerAuthenticationError,
    BrokerTLSError,
    BrokerUnreachableError,
    ConnectionLostError,
    InstanceInUseError,
    NuropbConfigurationError,
    NuropbTransportError,
    ServiceNotConfigured,
)
from .protocol import NUROPB_PROTOCOL_VERSION, NUROPB_VERSION
from .wire.router import FrameRouter

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
        self._timeout = max(1.0, connect_timeout / len(broker.hosts))
        self._on_blocked = on_blocked
        self._on_lost = on_lost
        self._next_host = 0
        self.attempts = 0
        self.router: FrameRouter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first host that answers, beginning behind the one used last."""
        self.attempts += 1
        self.router = None
        context = await self._tls_context()
        hosts = self._broker.hosts
        errors: list[OSError] = []
        for _ in hosts:
            host, port = hosts[self._next_host % len(hosts)]
            self._next_host += 1
            try:
                return await self._open(host, port, context)
            except OSError as e:
                errors.append(e)
            except ValueError as e:  # a host name that cannot be encoded
                errors.append(OSError(f"{host}: {e}"))
        if len(errors) == 1:
            raise errors[0]
        told = "; ".join(f"{host}:{port}" for host, port in hosts)
        raise OSError(f"none of the hosts answered ({told}): {errors[0]}") from errors[0]

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
        except TimeoutError as e:
            raise TimeoutError(f"{host}:{port} did not answer in {self._timeout:g} s") from e
        self.router = router
        return reader, asyncio.StreamWriter(transport, router, reader, loop)


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
            return _refusal(broker, router.lost)
        if broker.tls and router is not None and not router.heard and not _about_tls(error):
            return BrokerTLSError(
                f"{broker}: closed right behind the TLS handshake: does the broker want a client "
                "certificate of an authority that it knows (certfile, keyfile)?",
                None,
                error,
            )
        return _failure(broker, self._config.connect_timeout, error)


def _about_tls(error: BaseException | None) -> bool:
    return isinstance(error, TimeoutError | ssl.SSLError) or (
        error is not None and isinstance(error.__cause__, ssl.SSLError)
    )


def _failure(broker: Broker, timeout: float, error: BaseException | None) -> NuropbTransportError:
    """A failure about which the broker said nothing."""
    if error is not None and isinstance(error.__cause__, ssl.SSLError):
        error = error.__cause__
    match error:
        case ssl.SSLError():
            return BrokerTLSError(f"{broker}: TLS failed: {_tls_text(error)}", None, error)
        case AuthenticationError():
            return BrokerAuthenticationError(f"{broker}: {error!r}", None, error)
        case TimeoutError():
            text = str(error) or f"no answer in {timeout:g} s"
        case _:
            text = str(error or "closed")
    return BrokerUnreachableError(f"{broker}: {text}", None, error)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what aiormq raises while setting up `what` into errors of ours."""
    try:
        yield
    except NuropbTransportError:
        raise
    except asyncio.CancelledError as e:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # aiormq ends its waiters with CancelledError when a connection goes: that is not ours.
        raise ConnectionLostError(f"{what}: the connection was lost during setup") from e
    except ChannelLockedResource as e:
        raise InstanceInUseError(
            f"{what} is held by another connection: is an instance with the same instance_id "
            f"running? ({e})",
            e,
        ) from e
    except ChannelNotFoundEntity as e:
        if "home node" in str(e):
            raise ConnectionLostError(f"{what}: {e}", 404, str(e)) from e
        raise ServiceNotConfigured(f"{what} does not exist: run configure() ({e})", None, e) from e
    except ChannelPreconditionFailed as e:
        raise ServiceNotConfigured(f"{what} exists with other properties: {e}", None, e) from e
    except ChannelAccessRefused as e:
        raise BrokerAuthenticationError(f"{what}: permission refused: {e}", None, e) from e
    except TimeoutError:
        raise
    except (AMQPError, OSError, RuntimeError) as e:
        raise ConnectionLostError(f"{what}: {e or type(e).__name__}") from e


def _refusal(broker: Broker, lost: ConnectionLostError) -> NuropbTransportError:
    """Connection.Close of the broker (AMQP 0-9-1, 1.4): what it says about us, by its code."""
    if lost.code == 403:
        return BrokerAuthenticationError(
            f"{broker}: the broker refused user {broker.username!r}: {lost.text}", None, lost
        )
    if lost.code == 530 and "not found" in lost.text:
        return ServiceNotConfigured(
            f"{broker}: virtual host {broker.vhost!r} does not exist: create it, or configure()",
            None,
            lost,
        )
    if lost.code == 530 and "refused for user" in lost.text and "limit" not in lost.text:
        return BrokerAuthenticationError(f"{broker}: {lost.text}", None, lost)
    return BrokerUnreachableError(f"{broker}: {lost}", None, lost)


# What OpenSSL calls it → what an operator can do about it.
_TLS_ADVICE = {
    "CERTIFICATE_VERIFY_FAILED": "the broker's certificate is not to be trusted here: check cafile",
    "WRONG_VERSION_NUMBER": "what answers does not speak TLS: is this the port for plain AMQP?",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker wants a client certificate: set certfile",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the broker wants a client certificate: set certfile",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not know the authority behind certfile",
}
_NO_UNKNOWN_AUTHORITY = ("expired", "mismatch", "not yet valid", "not valid for")


def _tls_text(error: ssl.SSLError) -> str:
    """OpenSSL's words, and what they mean for the settings."""
    reason = getattr(error, "reason", None) or ""
    told = getattr(error, "verify_message", "") or reason or str(error)
    if any(each in told for each in _NO_UNKNOWN_AUTHORITY):
        return told
    advice = _TLS_ADVICE.get(reason)
    return f"{told} ({advice})" if advice else told


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
