"""A connection to a broker in this process, in the place of BrokerConnection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelClosed,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from ..config.settings import TransportConfig
from ..exceptions import ConnectionLostError, NuropbTransportError, TransportClosedError
from ..memory import errors
from ..memory.host import virtual_host
from ..memory.router import MemoryRouter
from ..safe_logging import ServiceLog
from .retry_limit import RetryLimit
from .topology import Binding, Exchange, ExchangeBinding, Queue

logger = logging.getLogger("nuropb_rmq.broker")

CONFIGURE: Final = "configure"
"""The purpose of a connection that only declares: the broker does not live for it."""
CONSUMING: Final = "consuming"
"""The purpose of the connection that a service consumes on; its others say nothing."""

VERSION: Final = "4.3"
"""The version of RabbitMQ that a broker in memory is like."""

_RAISED: Final = {
    errors.ACCESS_REFUSED: ChannelAccessRefused,
    errors.NOT_FOUND: ChannelNotFoundEntity,
    errors.RESOURCE_LOCKED: ChannelLockedResource,
    errors.PRECONDITION_FAILED: ChannelPreconditionFailed,
}


class MemoryConnection:
    """A connection to `memory://NAME`; its members do what BrokerConnection's do."""

    def __init__(
        self,
        config: TransportConfig,
        *,
        purpose: str,
        instance_id: str,
        on_blocked: Callable[[str | None], None],
        on_lost: Callable[[ConnectionLostError], None],
    ) -> None:
        self._log = ServiceLog(logger, config.service_name, instance_id, connection=purpose)
        self.retry_limit = RetryLimit(config, self._log, renewable=False)
        self._name = config.broker.vhost
        self._service = config.service_name if purpose == CONSUMING else None
        self._holds = purpose != CONFIGURE
        self._on_lost = on_lost
        self._router: MemoryRouter | None = None
        self._shut = False

    @property
    def router(self) -> MemoryRouter:
        """The connection's channels. Raises ConnectionLostError when it is not open."""
        if self._router is None:
            raise ConnectionLostError("not connected")
        return self._router

    @property
    def version(self) -> str:
        """Version of RabbitMQ that it is like."""
        return VERSION

    def new_channel(self, *, confirms: bool = False) -> MemoryChannel:
        """Return a channel that is not open yet."""
        return MemoryChannel(self.router)

    async def open(self) -> None:
        """Connect. Raises NuropbTransportError in another process or event loop."""
        self._router = MemoryRouter(virtual_host(self._name), self._on_lost, holds=self._holds)
        if self._service is not None:
            self._log.warning(
                "service %s is on memory://%s, a broker inside this process: only this process can "
                "call it, and its queues and messages end with it",
                self._service,
                self._name,
            )
            self._service = None  # once for each start, not for each recovery

    async def usable(self) -> None:
        """Connect anew when the connection was lost. Raises TransportClosedError after shut()."""
        if self._shut:
            raise TransportClosedError("the connection was closed")
        if self.router.lost is not None:
            await self.open()

    async def shut(self, within: float = 0.0) -> None:
        """Close."""
        self._shut = True
        if self._router is not None:
            self._router.abort("closed")

    def abandon(self) -> None:
        """Leave a broker whose event loop is closed."""
        if self._router is not None:
            self._router.host.clear_of_closed_loop()

    def settled(self) -> None:
        """Note that the session is ready."""
        self.retry_limit.settled()

    def should_give_up(self, error: NuropbTransportError) -> bool:
        """Return whether trying again makes no sense after this; see RetryLimit."""
        return self.retry_limit.reached(error)


class MemoryChannel:
    """A ControlChannel of a broker in this process. Nothing in it waits."""

    def __init__(self, router: MemoryRouter) -> None:
        self._router = router
        self.number = 0

    async def open(self) -> None:
        """Open the channel."""
        self.number = self._router.new_number()

    async def close(self) -> None:
        """Close the channel."""
        self._router.close(self.number, f"channel {self.number} was closed")

    async def declare_exchange(self, exchange: Exchange, *, passive: bool = False) -> None:
        """Make an exchange; with `passive`, ask whether there is one of this name."""
        with self._refusing():
            if passive:
                self._router.host.exchange(exchange.name)
            else:
                self._router.host.declare_exchange(
                    exchange.name, exchange.kind, durable=exchange.durable
                )

    async def declare_queue(self, queue: Queue, *, passive: bool = False) -> None:
        """Make a queue; with `passive`, ask whether there is one of this name."""
        with self._refusing():
            if passive:
                self._router.host.queue(queue.name, self._router)
            else:
                self._router.host.declare_queue(
                    queue.name,
                    durable=queue.durable,
                    auto_delete=queue.auto_delete,
                    arguments=queue.arguments,
                    exclusive=queue.exclusive,
                    owner=self._router,
                )

    async def ready(self, queue: str) -> int:
        """Return how many messages of a queue are ready: in nobody's hand."""
        with self._refusing():
            return len(self._router.host.queue(queue, self._router))

    async def bind(self, bindings: Sequence[Binding]) -> None:
        """Make bindings."""
        with self._refusing():
            for binding in bindings:
                self._router.host.bind(
                    binding.queue,
                    binding.exchange,
                    binding.routing_key,
                    self._router,
                    binding.arguments,
                )

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        """Take bindings out."""
        with self._refusing():
            for binding in bindings:
                self._router.host.unbind(
                    binding.queue,
                    binding.exchange,
                    binding.routing_key,
                    self._router,
                    binding.arguments,
                )

    async def bind_exchange(self, binding: ExchangeBinding) -> None:
        """Bind an exchange to another."""
        with self._refusing():
            self._router.host.bind_exchange(binding.destination, binding.source)

    async def consume(
        self,
        queue: str,
        consumer_tag: str,
        *,
        no_ack: bool,
        prefetch: int = 0,
    ) -> None:
        """Begin to consume."""
        with self._refusing():
            self._router.consume(self.number, queue, prefetch=prefetch, no_ack=no_ack)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Close the channel over what is refused, and raise what aiormq raises then."""
        if self._router.lost is not None:
            raise self._router.lost
        self._router.flush()
        try:
            yield
        except errors.ChannelError as e:
            self._router.close(self.number, f"the broker closed the channel: {e.code} {e.text}")
            raise _RAISED.get(e.code, ChannelClosed)(e.text) from e
