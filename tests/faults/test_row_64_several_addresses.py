"""Row 64: a host name has several addresses, and the first is a black hole, or says nothing.

At the start, and at a recovery.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvloop

from nuropb_rmq import BrokerUnreachableError, Transport, TransportConfig, configure

from ..support import Recorder, Transports, Watch, request, result_of
from .common import within, works
from .proxy import Proxy

NAME = "several.test"
DEAD = "127.0.0.2"
BOUND = 5.0
"""Seconds; the connect_timeout is 10."""


@contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Nobody answers a SYN to this port of DEAD: its listener's backlog is full."""
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind((DEAD, port))
        listener.listen(0)
        for _ in range(2):
            filling = held.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex((DEAD, port))
        yield


@contextmanager
def silence(port: int) -> Iterator[None]:
    """Connections to this port of DEAD are accepted, and nothing is said."""
    with socket.create_server((DEAD, port)):
        yield


def resolving(patch: pytest.MonkeyPatch, *addresses: str) -> None:
    """NAME has these addresses."""
    genuine = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != NAME:
            return genuine(host, port, *args, **kwargs)
        if kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "a name")
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (each, port)) for each in addresses]

    patch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("fault", [black_hole, silence])
async def test_row_64_the_next_address(
    mesh: Transports, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    """Each address has its share of the time, at each attempt."""
    resolving(monkeypatch, DEAD, "127.0.0.1")
    url = proxy.url.replace("127.0.0.1", NAME)
    with fault(proxy.port):
        patience: dict[str, Any] = {"connect_timeout": 2.0 if fault is silence else 10.0}
        with within(BOUND):
            service, client = await asyncio.gather(
                mesh.service(Recorder(), amqp_url=url, **patience),
                mesh.client(amqp_url=url, **patience),
            )
            await works(client, BOUND)
        watches = Watch(service), Watch(client)
        with within(BOUND):
            proxy.reset()
            for watch in watches:
                await watch.recovered(BOUND)
            await works(client, BOUND)


async def test_row_64_none_of_them(mesh: Transports, monkeypatch: pytest.MonkeyPatch) -> None:
    """All addresses are told of."""
    resolving(monkeypatch, "127.0.0.3", DEAD)
    with socket.create_server((DEAD, 0)) as silent:
        port = silent.getsockname()[1]
        client = mesh.transport("client", amqp_url=f"amqp://{NAME}:{port}/", connect_timeout=0.6)
        with pytest.raises(BrokerUnreachableError, match="no answer"):
            await client.start()
    for dead in ("127.0.0.3", DEAD):
        resolving(monkeypatch, dead, "127.0.0.4")
        client = mesh.transport("client", amqp_url=f"amqp://{NAME}:{port}/")
        with pytest.raises(BrokerUnreachableError, match="refused"):
            await client.start()


class NamedLoop(uvloop.Loop):
    """Resolves NAME as `resolving` has it: uvloop's own resolver cannot be told."""

    async def getaddrinfo(self, host: Any, port: Any, **kwargs: Any) -> Any:
        """By Python's socket."""
        return await asyncio.to_thread(socket.getaddrinfo, host, port, **kwargs)


@pytest.mark.broker
def test_row_64_on_uvloop(mesh_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its create_connection() cannot try addresses side by side."""
    resolving(monkeypatch, DEAD, "127.0.0.1")

    async def run() -> None:
        async with Proxy(mesh_url) as proxy:
            url = proxy.url.replace("127.0.0.1", NAME)
            config = TransportConfig(amqp_url=url, service_name="orders")
            await configure(config)
            with black_hole(proxy.port), within(BOUND):
                async with Transport(config, Recorder()) as service:
                    assert result_of(await service.request(request(n=1))) == {"n": 1}

    with asyncio.Runner(loop_factory=NamedLoop) as runner:
        runner.run(run())
