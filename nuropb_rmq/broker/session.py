"""The channels of one connection, and the linear setup that makes them.

The same coroutine runs for the first connect and for every recovery. aio-pika's own restoring of
channels is not used: it logs failures and does not retry.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from typing import Any

from ..amqp.channel import ChannelListener, ChannelPort
from ..amqp.consumer import Consumer, Receiver
from ..amqp.publisher import Publisher
from ..config.settings import CLASSIC, QUORUM, TransportConfig
from ..exceptions import (
    BrokerAuthenticationError,
    ConnectionLostError,
    NuropbTransportError,
    ServiceNotConfigured,
)
from ..safe_logging import ServiceLog
from .bindings import bind
from .connecting import Connection
from .control_channel import ControlChannel
from .error_translation import standing_type, translated
from .topology import QUEUE_TYPE, Exchange, Queue, Topology
from .watch import EXCHANGES, Declare, Watch, probe

logger = logging.getLogger("nuropb_rmq.broker")

CLOSE_WITHIN = 2.0
"""Seconds that the broker has to confirm the closing of channels."""
COMPLETED_WITHIN = 2.0
"""Seconds that a recovery waits for what it does not need itself."""


Run = Callable[[], Awaitable[object]]
"""The work of a step."""
Steps = Callable[[str, Run], Awaitable[None]]
"""Runs each step: open_channel, declare_response_queue, declare_service_queue, close_channel.
Raises only a NuropbTransportError."""


class Role(Enum):
    """The purpose of a connection. A service has two, so that an alarm never stops its acks."""

    CLIENT = auto()
    """Consumes responses, and publishes."""
    CONSUMING = auto()
    """Consumes responses and the service queue."""
    PUBLISHING = auto()


class Session:
    """The channels, consumers and publisher of one connection, from setup to end.

    `ended` is resolved with the reason when the connection or any of the channels has ended.
    """

    def __init__(
        self,
        connection: Connection,
        config: TransportConfig,
        topology: Topology,
        role: Role,
        *,
        publisher: Publisher,
        responses: Receiver,
        service: Receiver | None,
        steps: Steps | None = None,
        declare: Declare | None = None,
    ) -> None:
        self._connection = connection
        self._config = config
        self._topology = topology
        self._role = role
        names = (config.service_name, topology.instance_id)
        self._log = ServiceLog(logger, *names, connection=role.name.lower())
        self._publisher = publisher
        self._responses = responses
        self._service = service
        self._steps = steps
        self._declare_all = declare
        self._router = connection.router
        self._channels: list[ControlChannel] = []
        self._ports: list[ChannelPort] = []
        self._consumers: list[Consumer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.may_declare = True
        """True when setup() may make missing exchanges, if there is a `declare`."""
        self.recovers = False
        """True when it follows a session on another connection."""
        self.refused: set[str] = set()
        """Kinds of checks that the broker refuses; kept by the link, which logs each once."""
        self.suspect_after = math.inf
        """Seconds after which a Basic.Nack retires the publishing channel; see PublisherChannel."""
        # Name of the queue that was declared last.
        self._declaring = ""
        # Number of bindings of the service queue made so far; None: it does not exist yet.
        self._bound: int | None = None
        self.ended: asyncio.Future[ConnectionLostError] = asyncio.get_running_loop().create_future()

    async def stop_consuming(self) -> None:
        """Take nothing more from the service queue; return when the broker sends nothing more.

        May be called at any time, also during setup().
        """
        self._service = None
        for consumer in self._consumers:
            if consumer.acks:
                await consumer.cancel()

    @property
    def progress(self) -> str:
        """Progress of setup(), for the error of a late one; begins with "; "."""
        total = len(self._topology.bindings)
        if self._bound is not None and self._bound < total:
            return f"; {self._bound} of {total} bindings of {self._declaring!r} were made"
        if self._declaring:
            # RabbitMQ 4.x does not answer for a minute about a queue whose node is down.
            return f"; the last step was to declare {self._declaring!r}: is its node down?"
        return ""

    async def setup(self) -> None:
        """Open, declare, bind, consume, in this order. The caller sets the deadline.

        Raises ServiceNotConfigured, InstanceInUseError, BrokerAuthenticationError or
        ConnectionLostError.
        """
        with translated("connection"):
            await self._find_exchanges()
            if self._role is not Role.PUBLISHING:
                await self._consume_responses()
            if self._role is not Role.CONSUMING:
                await self._open_publishing()
            if self._role is Role.CONSUMING and self._service is not None:
                await self._consume_service_queue()
        if self._role is not Role.PUBLISHING:  # publishing itself reveals what is missing
            self._watch()

    @property
    def declares_response_queue(self) -> bool:
        """True when the queue declared last is the response queue."""
        return self._declaring == self._topology.response_queue.name

    @property
    def _exchanges(self) -> list[Exchange]:
        topology = self._topology
        exchanges = [topology.rpc_exchange, topology.events_exchange]
        if self._role is not Role.CONSUMING:
            return exchanges
        exchanges.append(topology.dl_exchange)
        letters = topology.dead_letters
        # Who does not make it does not miss it either: nobody may have configured anew yet.
        if self._declare_all is not None and letters is not None and letters.exchange is not None:
            exchanges.append(letters.exchange)
        return exchanges

    async def _find_exchanges(self) -> None:
        """Check that the exchanges exist, and make them if we may; else raise."""
        try:
            await self._probe_exchanges()
        except ServiceNotConfigured as missing:
            if self._declare_all is None or not self.may_declare:
                raise
            try:
                await self._declare_all(self._connection, self._config)
            except BrokerAuthenticationError as e:
                text = f"{missing}, and cannot be made: {e}"
                raise ServiceNotConfigured(text, None, missing.exception) from e
            self._log.warning("%s: %s; it was made again", self._config.broker, missing)

    async def _complete(self) -> None:
        """Make the dead-letter queue again after a recovery: the broker may have come back empty.

        Nobody else makes it. Waits COMPLETED_WITHIN at most, for its node may be down.
        """
        if self.recovers and self._declare_all is not None:
            task = self._own(self._make_again(self._declare_all), "nuropb-configure")
            await asyncio.wait([task], timeout=COMPLETED_WITHIN)

    async def _make_again(self, declare: Declare) -> None:
        try:
            with translated("configuring again"):
                await declare(self._connection, self._config)
        except (NuropbTransportError, TimeoutError) as e:
            self._log.warning("%s: %s", self._config.broker, e)

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _probe_exchanges(self) -> None:
        """Declare the exchanges passively, unless the broker has refused that for a permission."""
        if EXCHANGES in self.refused:
            return
        channel = await self._open_channel()
        try:
            for exchange in self._exchanges:
                await probe(channel, exchange)
            await channel.close()
        except BrokerAuthenticationError as e:
            self.refused.add(EXCHANGES)
            self._log.warning(
                "%s: exchanges are taken to exist, for the broker does not tell: %s; grant any "
                "permission for them, and on RabbitMQ 4.2.6 and 4.3.0 the permission to configure "
                "them, or update to 4.2.7 or 4.3.1",
                self._config.broker,
                e,
            )
        finally:
            self._channels.remove(channel)

    def _watch(self) -> None:
        config, topology = self._config, self._topology
        configured = config.instance_id is not None or config.response_queue is not None
        # When a broker deletes the queues of a dead node, it may delete a new one of the same name.
        doubtful = configured and len(config.broker.hosts) > 1
        watch = Watch(
            self._connection,
            config,
            self._log,
            exchanges=self._exchanges,
            queues=[topology.response_queue] if doubtful else [],
            bindings=topology.bindings if self._service is not None else (),
            declare=self._declare_all,
            refused=self.refused,
            channels=self._channels,
        )
        self._own(watch.run(self._end), "nuropb-watch")

    async def _consume_responses(self) -> None:
        channel = await self._open_channel()
        queue = self._topology.response_queue
        await self._declare("declare_response_queue", channel, queue)
        await self._consume(channel, queue, self._responses, acks=False)

    async def _open_publishing(self) -> None:
        channel = await self._open_channel(confirms=True)
        listener = self._publisher.channel(
            self._end, self._log, connection=self._router, suspect_after=self.suspect_after
        )
        listener.port = self._register(channel, listener)
        self._publisher.attach(listener)

    async def _consume_service_queue(self) -> None:
        queue = self._topology.service_queue
        assert queue is not None  # noqa: S101 - a consuming role has one, by its topology
        # First of all: what comes back to a classic queue that is missing is lost.
        channel = await self._declare_service_queue(queue)
        await self._complete()
        for retry_queue in self._topology.retry_queues:  # what waits in one comes to the other
            self._declaring = retry_queue.name
            with translated(f"queue {retry_queue.name!r} (retry_delays)"):
                await channel.declare_queue(retry_queue)
        self._declaring = queue.name
        self._bound = 0
        async for made in bind(channel, self._topology.bindings, self._open_channel):
            self._bound = made
        if self._service is not None:
            await self._consume(channel, queue, self._service, acks=True)

    async def _declare_service_queue(self, queue: Queue) -> ControlChannel:
        """Declare the service queue; use an existing quorum queue even where classic is set."""
        step = "declare_service_queue"
        channel = await self._open_channel()
        try:
            await self._declare(step, channel, queue)
        except ServiceNotConfigured as e:
            found = standing_type(e)
            if self._config.queue_type != CLASSIC or found != QUORUM:
                raise
            used = "%s: used as it is, of type %s: %s"
            self._log.warning(used, self._config.broker, found, e)
        else:
            return channel
        self._channels.remove(channel)
        as_found = replace(queue, arguments={**queue.arguments, QUEUE_TYPE: found})
        channel = await self._open_channel()
        await self._declare(step, channel, as_found)
        return channel

    async def _open_channel(self, *, confirms: bool = False) -> ControlChannel:
        channel = self._connection.new_channel(confirms=confirms)
        await self._step("open_channel", channel.open)
        self._channels.append(channel)
        return channel

    async def _declare(self, step: str, channel: ControlChannel, queue: Queue) -> None:
        # A queue with dead letters needs to be read, too, and RabbitMQ 3.10 does not say which.
        right = "" if "x-dead-letter-exchange" in queue.arguments else "configure"

        async def run() -> None:
            with translated(f"queue {queue.name!r}", right):
                await channel.declare_queue(queue)

        self._declaring = queue.name
        await self._step(step, run)

    async def _step(self, name: str, run: Run) -> None:
        if self._steps is None:
            await run()
        else:
            await self._steps(name, run)

    async def _consume(
        self, channel: ControlChannel, queue: Queue, receiver: Receiver, *, acks: bool
    ) -> None:
        consumer = Consumer(queue.name, receiver, self._end, self._log, acks=acks)
        consumer.start(self._register(channel, consumer))
        self._consumers.append(consumer)
        with translated(f"queue {queue.name!r}", "read"):
            await channel.consume(
                queue.name, consumer.tag, no_ack=not acks, prefetch=self._config.prefetch_count
            )
        consumer.consuming()

    def _register(self, channel: ControlChannel, listener: ChannelListener) -> ChannelPort:
        port = self._router.register(channel.number, listener, max_body=self._config.max_body_bytes)
        self._ports.append(port)
        return port

    def _end(self, reason: ConnectionLostError) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    async def close(self, reason: str, *, with_connection: bool) -> None:
        """Requeue unsettled deliveries, end the data plane of every channel, close the channels.

        With `with_connection`, the connection is about to be closed, so its channels are not closed
        one by one, unless there are `steps`.
        """
        self._end(ConnectionLostError(reason))
        try:
            if not with_connection:
                await self._stop_responses()
        finally:  # a stop() may cancel the wait for the last responses
            for task in self._tasks:
                task.cancel()
            # In one turn of the loop, so that nothing is settled or begun after give_back().
            for consumer in self._consumers:
                consumer.give_back()
            for port in self._ports:
                port.unregister(reason)
            for consumer in self._consumers:
                if consumer.acks:
                    consumer.task.cancel()
        tasks = tuple(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_WITHIN)
        consuming = [consumer.task for consumer in self._consumers]
        await asyncio.gather(*consuming, return_exceptions=True)
        if self._router.lost is None and (self._steps is not None or not with_connection):
            await self._close_channels()

    async def _stop_responses(self) -> None:
        """Stop the responses, and take those that the broker has sent already.

        It counts them as settled when sent, so the end of the channel would lose them. Later ones
        wait in the queue, which lives as long as the connection.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                for consumer in self._consumers:
                    if not consumer.acks:
                        await consumer.cancel()

    async def _close_channels(self) -> None:
        try:
            with translated("closing"):
                async with asyncio.timeout(CLOSE_WITHIN):
                    await self._step("close_channel", self._close_each)
        except (NuropbTransportError, TimeoutError) as e:
            # A connection whose channels cannot be closed must not be used again.
            self._log.debug("channels could not be closed: %r", e)
            self._router.abort("channels could not be closed")

    async def _close_each(self) -> None:
        for channel in self._channels:
            await channel.close()
