"""HTTP: FastAPI under uvicorn, called by httpx with a pool of connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from .loop import Params, Side, main


class Order(BaseModel):
    """The body, both ways."""

    order_id: str
    text: str
    lines: list[int]


async def _echo(order: Order) -> Order:
    return order


class HttpSide(Side):
    """A server and a client, on a free port."""

    distribution = "fastapi"

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service."""
        self.carrier = None
        app = FastAPI()
        app.post("/echo", response_model=Order)(self.handler(_echo))
        # uvicorn opens the socket: asyncio turns Nagle's algorithm off for those of its own only.
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical")
        server = uvicorn.Server(config)
        self._task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has nothing to wait for
            await asyncio.sleep(0.01)
        self._port = server.servers[0].sockets[0].getsockname()[1]

        async def stop() -> None:
            server.should_exit = True
            await self._task

        return stop

    async def start_client(self) -> None:
        """A client."""
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
        self._client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._port}", limits=limits, timeout=60, trust_env=False
        )

    async def call(self, given: Params) -> Any:
        """A POST."""
        return (await self._client.post("/echo", json=given)).raise_for_status().json()


if __name__ == "__main__":
    main(HttpSide)
