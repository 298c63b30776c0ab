"""Functions that the rows of the fault table share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from nuropb_rmq import NuropbException, Transport
from nuropb_rmq.testing import RabbitMQNode

from ..seams import in_hand
from ..support import eventually, request, result_of
from .console import queue_names

QUORUM: dict[str, Any] = {"queue_type": "quorum"}
"""The settings of a service whose queues are quorum queues."""


def counts_returns(node: RabbitMQNode) -> bool:
    """Return whether a quorum queue counts returns by Basic.Nack; up to RabbitMQ 4.2 it does."""
    major, minor = node.version.split(".")[:2]
    return (int(major), int(minor)) < (4, 3)


async def works(client: Transport, within: float) -> None:
    """A call succeeds within so many seconds; calls that fail meanwhile end with typed errors."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        try:
            answer = await client.request(request(n=1), timeout=deadline - loop.time())
            break
        except NuropbException:
            assert loop.time() < deadline, f"no call worked within {within} s"
            await asyncio.sleep(0.05)
    assert result_of(answer) == {"n": 1}


async def no_queues(node: RabbitMQNode, url: str, *prefixes: str) -> None:
    """Wait until no queue has a name that begins so."""
    async with asyncio.timeout(10):
        while any(
            name.startswith(prefixes) for name in await asyncio.to_thread(queue_names, node, url)
        ):
            pass  # asking takes a while


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Check that the block takes less than so many seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    yield
    took = loop.time() - began
    assert took < seconds, f"took {took:.1f} s, the bound is {seconds} s"


async def joined(service: Transport, count: int = 1) -> None:
    """Wait until so many messages in hand were delivered again, by a channel that there is."""
    works = in_hand(service)
    await eventually(
        lambda: sum(work.content.redelivered and not work.stale for work in works) == count
    )


async def seconds_of(work: Awaitable[object]) -> float:
    """Return the seconds that the work takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await work
    return loop.time() - began
