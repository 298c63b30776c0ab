"""Programs as they were written for nuropb's RMQAPI."""

from __future__ import annotations

import asyncio
from typing import Any

from nuropb_rmq import RMQAPI


class Apis:
    """Connects RMQAPIs, and disconnects them all at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made: list[RMQAPI] = []

    def api(self, service: object | None = None, **options: Any) -> RMQAPI:
        """One that is not connected; a service's name is its own."""
        if service is not None:
            options.setdefault("service_name", getattr(service, "_service_name", "orders"))
        made = RMQAPI(self.url, service_instance=service, **options)
        self.adopt(made)
        return made

    def adopt(self, api: RMQAPI) -> None:
        """Disconnect this one with the others."""
        self._made.append(api)

    async def connect(self, service: object | None = None, **options: Any) -> RMQAPI:
        """One that is connected."""
        made = self.api(service, **options)
        await made.connect()
        return made

    async def stop(self) -> None:
        """Disconnect them all."""
        await asyncio.gather(*(each.disconnect() for each in self._made))
        self._made.clear()
