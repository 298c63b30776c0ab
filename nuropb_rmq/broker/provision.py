"""Make what services need on the broker: virtual host, exchanges, dead-letter queue.

Exchanges and the dead-letter queue are declared over AMQP; the management API is used only when
the virtual host is missing. Doing it again changes nothing.

Why the dead-letter queue is bound as it is: docs/decisions/013-dead-letters-of-one-service.md
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

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
from ..safe_logging import ServiceLog
from ..waiting import time_limit
from .connecting import Connection, declaring_connection
from .control_channel import ControlChannel
from .error_translation import located, translated
from .quiet import quietly
from .topology import Binding, DeadLetterTopology, Exchange, ExchangeBinding, Queue, Topology
from .watch import Declare

logger = logging.getLogger("nuropb_rmq.broker")

VHOST_IS_DOWN = 541  # AMQP's internal-error: RabbitMQ has no other code for it
PAUSE = 0.1
"""Seconds between attempts to enter a virtual host that is down."""


@quietly
async def configure(
    config: TransportConfig, *, api_url: str | None = None, create_vhost: bool = True
) -> None:
    """Make what is missing: the virtual host, the three exchanges, the dead-letter queue.

    The dead-letter queue gets the letters of its service alone, by a fourth exchange, named after
    dl_exchange; if `dl_queue` names it, it gets those of all services. A queue that got those of
    all services before is bound anew, and a WARNING says so; what is in it stays.

    Making a virtual host is logged as a WARNING, for its name may be a typing error; with
    create_vhost=False a missing one is an error.

    `api_url` is the management API's address; None: derived from the AMQP URL (port + 10000).
    Credentials in it are used there; without them, those of the AMQP URL or the token provider.

    Permissions: to configure what is missing; always to write the dead-letter queue, to read
    dl_exchange, and to write and read the exchange behind it, for AMQP cannot tell whether they are
    bound; to make a virtual host, the tag `administrator`.

    Raises the errors of Transport.start(); ServiceNotConfigured also when an exchange exists with
    other properties; NuropbTransportError when the virtual host is missing and cannot be made.
    """
    typed("create_vhost", create_vhost, bool, "True or False")
    try:
        connection = await _connect(config)
    except ServiceNotConfigured:  # the virtual host is missing
        if not create_vhost:
            text = (
                f"{config.broker}: virtual host {config.broker.vhost!r} does not exist: is its name"
            )
            raise ServiceNotConfigured(f"{text} right? It has to be created beforehand") from None
        await _create_vhost(config, api_url)
        connection = await _connect(config)
    await _declared(connection, config, declare_all)


@quietly
async def configure_service_queue(config: TransportConfig) -> None:
    """Make the service queue, those of its retries, and its bindings.

    start() does so, too; here messages wait for the first start. A queue that is there stays as it
    is. The exchanges must be there. Permissions: to configure the queues; to write the service
    queue and amq.default, and to read the queues and the exchanges of requests and events.

    Raises the errors of configure().
    """
    await _declared(await _connect(config), config, declare_service_queue)


@quietly
async def take_out(config: TransportConfig, bindings: Sequence[Binding]) -> None:
    """Take out bindings of queues. Raises the errors of configure()."""
    connection = await _connect(config)
    await _declared(connection, config, lambda opened, _: _unbind(opened, bindings))


async def _declared(connection: Connection, config: TransportConfig, declare: Declare) -> None:
    """Declare over a connection in time, and close it."""
    try:
        async with _in_time(config):
            with translated("connection"):
                await declare(connection, config)
    except NuropbTransportError as e:
        located(config.broker, e)
        raise
    finally:
        await connection.shut()


async def _connect(config: TransportConfig) -> Connection:
    """Connect; retry while the virtual host is down, as while somebody is making it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + config.connect_timeout
    while True:
        try:
            async with _in_time(config):
                return await declaring_connection(config)
        except BrokerUnreachableError as e:
            lost = e.exception
            is_down = isinstance(lost, ConnectionLostError) and lost.code == VHOST_IS_DOWN
            if not is_down or loop.time() + PAUSE > deadline:
                raise
        await asyncio.sleep(PAUSE)


@asynccontextmanager
async def _in_time(config: TransportConfig) -> AsyncIterator[None]:
    """Limit the time to connect_timeout; raises BrokerUnreachableError."""
    try:
        async with time_limit(config.connect_timeout):
            yield
    except TimeoutError as e:
        raise BrokerUnreachableError(
            f"{config.broker}: not configured within {config.connect_timeout:g} s (connect_timeout)"
        ) from e


async def _create_vhost(config: TransportConfig, api_url: str | None) -> None:
    """Make the virtual host; errors say that it is missing, and why it cannot be made."""
    # Imported here, because few programs need it, and httpx takes a third of the import time.
    from .management import management_api  # noqa: PLC0415

    broker = config.broker
    missing = f"virtual host {broker.vhost!r} does not exist, and cannot be made"
    try:
        async with management_api(config, api_url) as api:
            await api.create_vhost(broker.vhost)
        log = ServiceLog(logger, config.service_name, config.instance_id or "")
        log.warning("%s: virtual host %r did not exist, and was made", broker, broker.vhost)
    except BrokerAuthenticationError as e:
        raise BrokerAuthenticationError(
            f"{missing}: {e}; create it, or give this user the tag administrator", None, e
        ) from e
    except NuropbTransportError as e:
        raise type(e)(f"{missing}: {e}", None, e) from e
    except NuropbConfigurationError as e:
        raise NuropbConfigurationError("api_url", f"{missing}: {e.description}") from e


async def declare_all(connection: Connection, config: TransportConfig) -> None:
    """Make exchanges and dead-letter queue, over a connection to their virtual host."""
    topology = Topology.of(config, config.instance_id or "configure")
    for exchange in topology.exchanges:
        await _ensure_exchange(connection, exchange)
    if topology.dead_letters is not None:
        await _ensure_dead_letters(connection, config, topology.dead_letters)


async def declare_service_queue(connection: Connection, config: TransportConfig) -> None:
    """Make the service queue, those of its retries, and its bindings."""
    topology = Topology.of(config, config.instance_id or "configure")
    if topology.service_queue is None:
        return
    for queue in (topology.service_queue, *topology.retry_queues):
        await _ensure_queue(connection, queue)
    for exchange in (config.rpc_exchange, config.events_exchange):
        bindings = [each for each in topology.bindings if each.exchange == exchange]
        if bindings:
            await _bind(connection, bindings)


async def _ensure_dead_letters(
    connection: Connection, config: TransportConfig, letters: DeadLetterTopology
) -> None:
    """Make the dead-letter queue and its bindings; then those of before can go."""
    is_new = await _ensure_queue(connection, letters.queue)
    moves = False
    if letters.exchange is not None and letters.exchange_binding is not None:
        moves = not is_new and not await _exists(connection, letters.exchange)
        await _ensure_exchange(connection, letters.exchange)
        await _bind_exchange(connection, letters.exchange_binding)
    await _bind(connection, letters.bindings)
    if letters.former:
        await _unbind(connection, letters.former)
    if moves:
        ServiceLog(logger, config.service_name, config.instance_id or "").warning(
            "%s: from now on queue %r gets the dead letters of %r alone, by the new exchange %r; "
            "if it was bound to %r, where it got those of all services, it no longer is. What is "
            "in it stays",
            config.broker,
            letters.queue.name,
            config.service_queue_name,
            config.dl_by_queue_exchange,
            config.dl_exchange,
        )


async def _exists(connection: Connection, exchange: Exchange) -> bool:
    """Return whether there is such an exchange; True where the broker does not tell."""
    try:
        async with _channel(connection) as channel:
            with translated(f"exchange {exchange.name!r}"):
                await channel.declare_exchange(exchange, passive=True)
    except ServiceNotConfigured:
        return False
    except BrokerAuthenticationError:
        return True
    return True


async def _ensure_exchange(connection: Connection, exchange: Exchange) -> None:
    """Declare an exchange; the broker compares it with an existing one.

    If we may not declare it, any existing one will do: a passive declaration does not compare its
    type, and needs no permission to configure, except on RabbitMQ 4.2.6 and 4.3.0.
    """
    what = f"exchange {exchange.name!r}"
    with _advised():
        try:
            async with _channel(connection) as channel:
                with translated(what):
                    await channel.declare_exchange(exchange)
        except BrokerAuthenticationError as refused:
            try:
                async with _channel(connection) as channel:
                    with translated(what):
                        await channel.declare_exchange(exchange, passive=True)
            except ServiceNotConfigured:
                raise refused from None


async def _ensure_queue(connection: Connection, queue: Queue) -> bool:
    """Declare the queue unless it exists; an old peer's, which is transient, stays as it is.

    Return whether it was made.
    """
    what = f"queue {queue.name!r}"
    with _advised():
        try:
            async with _channel(connection) as channel:
                with translated(what):
                    await channel.declare_queue(queue, passive=True)
        except ServiceNotConfigured:
            async with _channel(connection) as channel:
                with translated(what):
                    await channel.declare_queue(queue)
            return True
        return False


@contextmanager
def _advised(advice: str = "permit this user to configure it") -> Iterator[None]:
    """Add advice about permissions to the error of what was refused."""
    try:
        yield
    except BrokerAuthenticationError as refused:
        text = (
            f"{refused}; {advice}, or run nuropb-rmq configure as a user who may, and start with "
            "configure=False (serve --no-configure)"
        )
        raise BrokerAuthenticationError(text, None, refused.exception) from refused


async def _bind(connection: Connection, bindings: Sequence[Binding]) -> None:
    """Make bindings of one queue to one exchange."""
    queue, exchange = bindings[0].queue, bindings[0].exchange
    with _advised(
        "AMQP cannot tell whether it exists already: permit this user to write the queue and to "
        "read the exchange"
    ):
        async with _channel(connection) as channel:
            with translated(f"binding of queue {queue!r} to exchange {exchange!r}"):
                await channel.bind(bindings)


async def _bind_exchange(connection: Connection, binding: ExchangeBinding) -> None:
    destination, source = binding.destination, binding.source
    with _advised(
        "AMQP cannot tell whether it exists already: permit this user to write the first exchange "
        "and to read the second"
    ):
        async with _channel(connection) as channel:
            with translated(f"binding of exchange {destination!r} to exchange {source!r}"):
                await channel.bind_exchange(binding)


async def _unbind(connection: Connection, bindings: Sequence[Binding]) -> None:
    """Take out bindings of one queue."""
    with _advised(
        "AMQP cannot tell whether it is bound: permit this user to write the queue and to read the "
        "exchange"
    ):
        async with _channel(connection) as channel:
            for binding in bindings:
                what = f"unbinding queue {binding.queue!r} from exchange {binding.exchange!r}"
                with translated(what):
                    await channel.unbind([binding])


@asynccontextmanager
async def _channel(connection: Connection) -> AsyncIterator[ControlChannel]:
    """Open a channel for one step: the broker closes it when it refuses that step."""
    channel = connection.new_channel()
    await channel.open()
    yield channel
    await channel.close()
