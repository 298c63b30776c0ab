"""Waiting until a condition holds that others bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Lets tasks wait for conditions; whoever changes what they depend on calls `wake`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiters: list[asyncio.Future[None]] = []

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; check it now, and after each call of `wake`."""
        while not condition():
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def wake(self) -> None:
        """Something has changed."""
        if not self._waiters:
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
