"""What must be on the broker before services start: virtual host, exchanges, dead letters.

Exchanges and the dead-letter queue are declared over AMQP; the management HTTP API is asked only
when the virtual host is missing. Doing it again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging

from aio_pika import Channel

from .config import TransportConfig
from .connection import BrokerConnection, translated
from .exceptions import BrokerUnreachableError, ServiceNotConfigured
from .management import ManagementAPI
from .topology import Exchange, Queue, Topology

logger = logging.getLogger(__name__)


async def configure(config: TransportConfig, *, api_url: str | None = None) -> None:
    """Make what is missing: the virtual host, the three exchanges, the dead-letter queue.

    `api_url` is the management API's address; without it, it is derived from the AMQP URL (port
    + 10000). Raises the errors of Transport.start(); ServiceNotConfigured also when an exchange
    or queue exists with other properties.
    """
    try:
        await _declare_all(config)
    except ServiceNotConfigured:
        if not await _create_vhost(config, api_url):
            raise
        await _declare_all(config)


async def _create_vhost(config: TransportConfig, api_url: str | None) -> bool:
    """True when the virtual host was missing, and is there now."""
    broker = config.broker
    async with ManagementAPI(
        api_url or broker.management_url(),
        username=broker.username,
        password=broker.password,
        verify=True if broker.tls is None else broker.tls.context(),
    ) as api:
        if await api.vhost_exists(broker.vhost):
            return False
        await api.create_vhost(broker.vhost)
    logger.info("%s: created virtual host %r", broker, broker.vhost)
    return True


async def _declare_all(config: TransportConfig) -> None:
    topology = Topology.of(config, config.instance_id or "configure")
    connection = BrokerConnection(
        config,
        purpose="configure",
        instance_id=config.instance_id or "",
        on_blocked=lambda _: None,
        on_lost=lambda _: None,
    )
    try:
        async with asyncio.timeout(config.connect_timeout):
            await connection.open()
            with translated("connection"):
                for exchange in topology.exchanges:
                    await _ensure_exchange(connection, exchange)
                if topology.dl_queue is not None:
                    await _ensure_dead_letter_queue(connection, topology, topology.dl_queue)
    except TimeoutError as e:
        raise BrokerUnreachableError(
            f"{config.broker}: not configured within {config.connect_timeout:g} s (connect_timeout)"
        ) from e
    finally:
        await connection.shut()


async def _ensure_exchange(connection: BrokerConnection, exchange: Exchange) -> None:
    """Declare an exchange where it is missing; one that is there needs no permission."""
    what = f"exchange {exchange.name!r}"
    channel = Channel(connection)
    await channel.initialize()
    try:
        with translated(what):
            await channel.declare_exchange(exchange.name, exchange.kind, passive=True)
    except ServiceNotConfigured:
        channel = Channel(connection)  # a failed probe has closed its channel
        await channel.initialize()
        with translated(what):
            await channel.declare_exchange(exchange.name, exchange.kind, durable=exchange.durable)
    await channel.close()


async def _ensure_dead_letter_queue(
    connection: BrokerConnection, topology: Topology, queue: Queue
) -> None:
    """Take a queue that is there as it is (an old peer's is transient), else declare ours."""
    what = f"queue {queue.name!r}"
    channel = Channel(connection)
    await channel.initialize()
    try:
        with translated(what):
            found = await channel.declare_queue(queue.name, passive=True)
    except ServiceNotConfigured:
        channel = Channel(connection)
        await channel.initialize()
        with translated(what):
            found = await channel.declare_queue(queue.name, durable=queue.durable)
    with translated(what):
        await found.bind(topology.dl_exchange.name, queue.name)
    await channel.close()
