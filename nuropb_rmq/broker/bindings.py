"""Binding a queue to exchanges, many times with few round trips."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import cast

import aiormq
from aio_pika import Channel
from aiormq.abc import ChannelFrame
from pamqp import commands

from ..exceptions import NuropbTransportError
from .error_translation import translated
from .topology import Binding

AT_ONCE = 100
"""Bindings that are asked for before the broker has to answer: the last of them waits for it."""

OpenChannel = Callable[[], Awaitable[Channel]]


async def bind(
    channel: Channel, bindings: Sequence[Binding], open_channel: OpenChannel
) -> AsyncIterator[int]:
    """Make the bindings of one queue; yields how many are made, again and again.

    Raises what the broker says of the first that it refuses: that one is found by making them
    singly, on a channel that is opened for it.
    """
    for at in range(0, len(bindings), AT_ONCE):
        several = bindings[at : at + AT_ONCE]
        try:
            with translated(f"bindings of queue {several[0].queue!r}"):
                await _ask(channel, several[:-1])
                await _bind(channel, several[-1])
        except NuropbTransportError:
            another = await open_channel()
            for each in several:
                with translated(f"binding {each.routing_key!r} to exchange {each.exchange!r}"):
                    await _bind(another, each)
            raise
        yield at + len(several)


async def _ask(channel: Channel, bindings: Sequence[Binding]) -> None:
    """Ask for bindings in one write; the broker does not answer, and closes the channel at a
    binding that it refuses."""
    underlay = cast(aiormq.Channel, await channel.get_underlay_channel())
    asked = [
        commands.Queue.Bind(
            queue=each.queue, exchange=each.exchange, routing_key=each.routing_key, nowait=True
        )
        for each in bindings
    ]
    if asked:
        frame = ChannelFrame.marshall(channel_number=underlay.number, frames=asked)
        await underlay.write_queue.put(frame)


async def _bind(channel: Channel, binding: Binding) -> None:
    underlay = await channel.get_underlay_channel()
    await underlay.queue_bind(binding.queue, binding.exchange, binding.routing_key)
