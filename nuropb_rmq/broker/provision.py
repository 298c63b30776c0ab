"""What must be on the broker before services start: virtual host, exchanges, dead letters.

Exchanges and the dead-letter queue are declared over AMQP; the management HTTP API is asked only
when the virtual host is missing. Doing it again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aio_pika import Channel

from ..config.address import typed
from ..config.settings import TransportConfig
from ..exceptions import (
    BrokerAuthenticationError,
    BrokerUnreachableError,
    ConnectionLostError,
    NuropbConfigurationError,
    NuropbTransportError,
    ServiceNotConfigured,
)
from .connection import BrokerConnection
from .error_translation import located, translated
from .quiet import quietly
from .topology import Binding, Exchange, Queue, Topology

logger = logging.getLogger("nuropb_rmq.broker")

VHOST_IS_DOWN = 541  # AMQP's internal-error: RabbitMQ has no other code for it
PAUSE = 0.1
"""Seconds between two attempts to enter a virtual host that is down."""


@quietly
async def configure(
    config: TransportConfig, *, api_url: str | None = None, create_vhost: bool = True
) -> None:
    """Make what is missing: the virtual host, the three exchanges, the dead-letter queue.

    A virtual host is made with a WARNING in the log, for its name may be a typing error; with
    create_vhost=False one that is missing is an error.

    `api_url` is the management API's address; without it, it is derived from the AMQP URL (port
    + 10000). Credentials in it are used there, else those of the AMQP URL, or the token provider.

    Permissions: to configure what is missing; to write the dead-letter queue and read the
    dead-letter exchange always, for AMQP cannot tell whether they are bound; to make a virtual
    host, the tag `administrator`.

    Raises the errors of Transport.start(); ServiceNotConfigured also when an exchange exists with
    other properties, NuropbTransportError when the virtual host is missing and cannot be made.
    """
    typed("create_vhost", create_vhost, bool, "True or False")
    try:
        connection = await _connect(config)
    except ServiceNotConfigured:  # all that a connection can lack
        if not create_vhost:
            text = (
                f"{config.broker}: virtual host {config.broker.vhost!r} does not exist: is its name"
            )
            raise ServiceNotConfigured(f"{text} right? It has to be created beforehand") from None
        await _create_vhost(config, api_url)
        connection = await _connect(config)
    try:
        async with _in_time(config):
            with translated("connection"):
                await declare_all(connection, config)
    except NuropbTransportError as e:
        located(config.broker, e)
        raise
    finally:
        await connection.shut()


async def _connect(config: TransportConfig) -> BrokerConnection:
    """Connect; a virtual host that somebody is making right now is down for a moment."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + config.connect_timeout
    while True:
        try:
            return await _connect_once(config)
        except BrokerUnreachableError as e:
            lost = e.exception
            is_down = isinstance(lost, ConnectionLostError) and lost.code == VHOST_IS_DOWN
            if not is_down or loop.time() + PAUSE > deadline:
                raise
        await asyncio.sleep(PAUSE)


async def _connect_once(config: TransportConfig) -> BrokerConnection:
    connection = BrokerConnection(
        config,
        purpose="configure",
        instance_id=config.instance_id or "",
        on_blocked=lambda _: None,
        on_lost=lambda _: None,
    )
    try:
        async with _in_time(config):
            await connection.open()
    except BaseException:
        await connection.shut()
        raise
    return connection


@asynccontextmanager
async def _in_time(config: TransportConfig) -> AsyncIterator[None]:
    """Within connect_timeout; a cancellation that got lost in aiormq on the way is not lost."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - narrows for mypy
    before = task.cancelling()
    try:
        async with asyncio.timeout(config.connect_timeout):
            try:
                yield
            finally:
                if task.cancelling() > before:
                    raise asyncio.CancelledError
    except TimeoutError as e:
        raise BrokerUnreachableError(
            f"{config.broker}: not configured within {config.connect_timeout:g} s (connect_timeout)"
        ) from e


async def _create_vhost(config: TransportConfig, api_url: str | None) -> None:
    """Make the virtual host; what stands in the way is told together with what is missing."""
    # Few programs come here, and httpx would be a third of what importing nuropb_rmq takes.
    from .management import ManagementAPI  # noqa: PLC0415

    broker = config.broker
    missing = f"virtual host {broker.vhost!r} does not exist, and cannot be made"
    own = api_url is None or "@" not in api_url
    try:
        async with ManagementAPI(
            api_url or broker.management_url(),
            username=broker.username if own else None,
            password=broker.password if own else None,
            token_provider=config.token_provider if own else None,
            verify=True if broker.tls is None else broker.tls.context(),
        ) as api:
            await api.create_vhost(broker.vhost)
        logger.warning("%s: virtual host %r did not exist, and was made", broker, broker.vhost)
    except BrokerAuthenticationError as e:
        raise BrokerAuthenticationError(
            f"{missing}: {e}; create it, or give this user the tag administrator", None, e
        ) from e
    except NuropbTransportError as e:
        raise type(e)(f"{missing}: {e}", None, e) from e
    except NuropbConfigurationError as e:
        raise NuropbConfigurationError("api_url", f"{missing}: {e.description}") from e


async def declare_all(connection: BrokerConnection, config: TransportConfig) -> None:
    """Make exchanges and the dead-letter queue, over a connection to their virtual host."""
    topology = Topology.of(config, config.instance_id or "configure")
    for exchange in topology.exchanges:
        await _ensure_exchange(connection, exchange)
    if topology.dl_queue is not None and topology.dl_binding is not None:
        await _ensure_dead_letter_queue(connection, topology.dl_queue)
        await _bind(connection, topology.dl_binding)


async def _ensure_exchange(connection: BrokerConnection, exchange: Exchange) -> None:
    """Declare an exchange; the broker compares it with one that is there.

    Where we may not declare, one that is there will do: asking passively tells nothing of its
    type, and needs no permission to configure, but on RabbitMQ 4.2.6 and 4.3.0.
    """
    what = f"exchange {exchange.name!r}"
    with _advised():
        try:
            async with _channel(connection) as channel:
                with translated(what):
                    await channel.declare_exchange(
                        exchange.name, exchange.kind, durable=exchange.durable
                    )
        except BrokerAuthenticationError as refused:
            try:
                async with _channel(connection) as channel:
                    with translated(what):
                        await channel.declare_exchange(exchange.name, exchange.kind, passive=True)
            except ServiceNotConfigured:
                raise refused from None


async def _ensure_dead_letter_queue(connection: BrokerConnection, queue: Queue) -> None:
    """Take a queue that is there as it is (an old peer's is transient), else declare ours."""
    what = f"queue {queue.name!r}"
    with _advised():
        try:
            async with _channel(connection) as channel:
                with translated(what):
                    await channel.declare_queue(queue.name, passive=True)
        except ServiceNotConfigured:
            async with _channel(connection) as channel:
                with translated(what):
                    await channel.declare_queue(
                        queue.name, durable=queue.durable, arguments=dict(queue.arguments)
                    )


@contextmanager
def _advised() -> Iterator[None]:
    """Say what to permit, when a declaration is refused."""
    try:
        yield
    except BrokerAuthenticationError as refused:
        advice = "permit this user to configure it, or let another one configure()"
        text = f"{refused}; {advice}"
        raise BrokerAuthenticationError(text, None, refused.exception) from refused


async def _bind(connection: BrokerConnection, binding: Binding) -> None:
    what = f"binding of queue {binding.queue!r} to exchange {binding.exchange!r}"
    try:
        async with _channel(connection) as channel:
            with translated(what):
                queue = await channel.get_queue(binding.queue, ensure=False)
                await queue.bind(binding.exchange, binding.routing_key)
    except BrokerAuthenticationError as e:
        raise BrokerAuthenticationError(
            f"{e}; AMQP cannot tell whether it is there already: permit this user to write the "
            "queue and to read the exchange, or let another one configure()",
            None,
            e,
        ) from e


@asynccontextmanager
async def _channel(connection: BrokerConnection) -> AsyncIterator[Channel]:
    """A channel for one step: the broker closes it when it refuses that step."""
    channel = Channel(connection)
    await channel.initialize()
    yield channel
    await channel.close()
