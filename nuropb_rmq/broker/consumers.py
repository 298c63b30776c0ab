"""Count the consumers of a queue: the management API knows new ones some seconds later."""

from __future__ import annotations

from typing import cast

import aiormq
from aio_pika import Channel
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelClosed

from .error_translation import translated


async def consumer_count(connection: AbstractConnection, queue: str) -> int | None:
    """Return the number of consumers; None when the broker does not tell.

    Raises ConnectionLostError.
    """
    with translated(f"queue {queue!r}"):
        channel = Channel(connection, publisher_confirms=False)
        await channel.initialize()
        underlay = cast(aiormq.Channel, await channel.get_underlay_channel())
        try:
            told = await underlay.queue_declare(queue, passive=True)
        except ChannelClosed:
            return None
        await channel.close()
        return told.consumer_count
