"""Connections as sessions use them, and the one that a broker's address asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..amqp.channel import ChannelListener, ChannelPort
from ..config.settings import TransportConfig
from ..exceptions import ConnectionLostError, NuropbTransportError
from .connection import BrokerConnection
from .control_channel import ControlChannel
from .in_process import CONFIGURE, MemoryConnection
from .quiet import quietly
from .retry_limit import RetryLimit


class Router(Protocol):
    """The data plane of a connection: FrameRouter, or MemoryRouter."""

    blocked: str | None
    """Why the broker takes no messages; None when it does."""
    lost: ConnectionLostError | None
    """Why the connection has ended; None while it lives."""

    def register(self, number: int, listener: ChannelListener, *, max_body: int) -> ChannelPort:
        """Give the content of a channel to a listener from now on."""

    def abort(self, reason: str) -> None:
        """End the connection at once."""


class Connection(Protocol):
    """One connection that comes back when it is lost: BrokerConnection, or MemoryConnection."""

    retry_limit: RetryLimit

    @property
    def router(self) -> Router:
        """The data plane of the socket in use. Raises ConnectionLostError when there is none."""

    @property
    def version(self) -> str:
        """Version of the broker, once the connection is open."""

    def new_channel(self, *, confirms: bool = False) -> ControlChannel:
        """Return a channel that is not open yet."""

    async def open(self) -> None:
        """Make the first connection. Raises a NuropbTransportError."""

    async def usable(self) -> None:
        """Wait until it is up. Raises the error after which trying again makes no sense."""

    async def shut(self, within: float = ...) -> None:
        """Close, within so many seconds."""

    def abandon(self) -> None:
        """Close what an event loop has left open that is closed itself."""

    def settled(self) -> None:
        """Note that the session is ready."""

    def should_give_up(self, error: NuropbTransportError) -> bool:
        """Return whether trying again makes no sense after this error."""


def new_connection(
    config: TransportConfig,
    *,
    purpose: str,
    instance_id: str,
    on_blocked: Callable[[str | None], None],
    on_lost: Callable[[ConnectionLostError], None],
) -> Connection:
    """Return a connection to the broker of this configuration; it is not open yet."""
    made = MemoryConnection if config.broker.in_memory else BrokerConnection
    return made(
        config,
        purpose=purpose,
        instance_id=instance_id,
        on_blocked=on_blocked,
        on_lost=on_lost,
    )


async def declaring_connection(config: TransportConfig) -> Connection:
    """Return an open connection that only declares; the caller limits the time."""
    return await open_connection(config, CONFIGURE)


@quietly
async def open_connection(config: TransportConfig, purpose: str) -> Connection:
    """Return an open connection for one piece of work; the caller limits the time.

    Raises what open() raises. When it fails or is cancelled, nothing is left open.
    """
    connection = new_connection(
        config,
        purpose=purpose,
        instance_id=config.instance_id or "",
        on_blocked=lambda _: None,
        on_lost=lambda _: None,
    )
    try:
        await connection.open()
    except BaseException:
        await connection.shut()
        raise
    return connection
