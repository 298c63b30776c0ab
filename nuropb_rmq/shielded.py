"""To wait for what goes on when its waiter is cancelled."""

from __future__ import annotations

import asyncio
from typing import TypeVar

__all__ = ["shielded"]

T = TypeVar("T")


async def shielded(future: asyncio.Future[T]) -> T:
    """Return or raise what comes of `future`, which goes on when this is cancelled.

    Whoever cancels a waiter does not ask what comes of it then, so an error is nobody's and nothing
    is logged. asyncio.shield() tells the event loop's exception handler of it (CPython 3.14).
    """
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError:
        future.add_done_callback(_take_note)
        raise
    return future.result()


def _take_note(future: asyncio.Future[T]) -> None:
    """Keep asyncio from logging that the error was never retrieved."""
    if not future.cancelled():
        future.exception()
