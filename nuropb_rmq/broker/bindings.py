"""Make many bindings of a queue in few round trips."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from ..exceptions import NuropbTransportError
from .control_channel import ControlChannel
from .error_translation import translated
from .topology import Binding

AT_ONCE = 100
"""Bindings that are sent in one go; the broker answers the last of them."""

OpenChannel = Callable[[], Awaitable[ControlChannel]]


async def bind(
    channel: ControlChannel, bindings: Sequence[Binding], open_channel: OpenChannel
) -> AsyncIterator[int]:
    """Make the bindings of one queue; yield the number made so far, after each batch.

    Raises the error of the first binding that the broker refuses: it is found by making them one
    by one, on a channel of its own.
    """
    for at in range(0, len(bindings), AT_ONCE):
        batch = bindings[at : at + AT_ONCE]
        try:
            with translated(f"bindings of queue {batch[0].queue!r}"):
                await channel.bind(batch)
        except NuropbTransportError:
            another = await open_channel()
            for binding in batch:
                what = f"binding {binding.routing_key!r} to exchange {binding.exchange!r}"
                with translated(what):
                    await another.bind([binding])
            raise
        yield at + len(batch)
