"""NATS, as the documentation of nats-py uses it: a subscription that responds, and requests.

Its server keeps nothing: a request that no one takes, or that is lost with a connection, is told by
a timeout, or by an error when nobody subscribes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from .loop import Params, Side, main

_SUBJECT = "bench.echo"
_SERVER = ("setpriv", "--pdeathsig", "KILL", "nats-server", "-a", "127.0.0.1", "-p", "-1")
"""On a free port; ends with its parent, which is killed."""
_LISTENING = re.compile(rb"Listening for client connections on [\d.]+:(\d+)")


class NatsSide(Side):
    """A server of its own, on a free port."""

    distribution = "nats-py"

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """The server, and a service."""
        self._server = await asyncio.create_subprocess_exec(
            *_SERVER, stderr=asyncio.subprocess.PIPE
        )
        self.carrier = self._server.pid
        self._url = f"nats://127.0.0.1:{await _port(self._server)}"
        service = await nats.connect(self._url)
        await service.subscribe(_SUBJECT, cb=self.handler(_respond))
        stop: Callable[[], Awaitable[object]] = service.close
        return stop

    async def start_client(self) -> None:
        """A client, on a connection of its own."""
        self._client: Client = await nats.connect(self._url)

    async def call(self, given: Params) -> Any:
        """A request."""
        answer = await self._client.request(_SUBJECT, json.dumps(given).encode(), timeout=60)
        return json.loads(answer.data)


async def _respond(message: Msg) -> None:
    await message.respond(json.dumps(json.loads(message.data)).encode())


async def _port(server: asyncio.subprocess.Process) -> int:
    assert server.stderr is not None
    while line := await server.stderr.readline():
        if found := _LISTENING.search(line):
            return int(found[1])
    raise RuntimeError("nats-server has ended: is it installed?")


if __name__ == "__main__":
    main(NatsSide)
