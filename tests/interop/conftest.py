"""Fixtures: processes of nuropb 0.1.8 beside us, on the virtual host of the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nuropb_rmq import TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode

from ..encrypting import private_key
from ..faults.proxy import Proxy
from .process import PYTHON, OldPeer, why_not_installed
from .sides import (
    SERVICE,
    Caller,
    PeerCaller,
    PeerServer,
    RMQTransportCaller,
    RMQTransportServer,
    Server,
    TransportCaller,
    TransportServer,
)

HERE = Path(__file__).parent
PREFETCH = 8
SETTINGS: dict[str, Any] = {"event_bindings": ["orders.#"], "prefetch_count": PREFETCH}


def why_no_old_transport() -> str | None:
    """Why nuropb's own transport cannot be tried here; None where it can."""
    if os.environ.get("NUROPB_RMQ_SERVER_ROOT"):
        return "nuropb 0.1.8 cannot start on a broker that denies transient non-exclusive queues"
    return None


def _left_out(item: pytest.Item) -> bool:
    if not item.path.is_relative_to(HERE):
        return False
    uses = getattr(item, "fixturenames", ())
    if not {"peers", "nuropb_modules"}.isdisjoint(uses) and why_not_installed():
        return True
    return "old_peers" in uses and why_no_old_transport() is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of an old peer where there cannot be one; they are not skipped."""
    left_out = [item for item in items if _left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_report_header() -> list[str]:
    """Say why they are not selected."""
    reason = why_not_installed() or why_no_old_transport()
    return [f"old peers: none, {reason}"] if reason else []


class Peers:
    """Starts processes, and ends them all."""

    def __init__(self, url: str, api_url: str, folder: Path) -> None:
        self.url = url
        self._api_url = api_url
        self._folder = folder
        self._started: list[OldPeer] = []
        self._wires = contextlib.AsyncExitStack()

    async def proxy(self) -> Proxy:
        """A wire to the broker that can be cut; whoever is still at its end can leave in order."""
        return await self._wires.enter_async_context(Proxy(self.url))

    async def process(self, name: str, *, transport: str = "nuropb") -> OldPeer:
        """A process that is not connected yet."""
        name = f"{name}-{len(self._started)}"
        peer = await OldPeer.start(name, self._folder, transport=transport)
        self._started.append(peer)
        return peer

    async def configure(self, dl_queue: str | None = None) -> None:
        """Configure the mesh, as an operator of nuropb would do."""
        peer = await self.process("configure")
        await peer.do("configure", url=self.url, api_url=self._api_url, dl_queue=dl_queue)

    async def server(self, *, transport: str = "nuropb", url: str = "", **how: Any) -> PeerServer:
        """An instance of Orders."""
        peer = await self.process(SERVICE, transport=transport)
        key = private_key(SERVICE).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        given = {"settings": SETTINGS, "private_key": key.decode(), **how}
        await peer.do("connect", url=url or self.url, service=SERVICE, **given)
        return PeerServer(peer)

    async def caller(self, *, transport: str = "nuropb", url: str = "", **how: Any) -> PeerCaller:
        """A client."""
        peer = await self.process("shop", transport=transport)
        await peer.do("connect", url=url or self.url, **how)
        return PeerCaller(peer)

    async def stop(self) -> None:
        """End them all; each must be able to leave in order."""
        async with self._wires:
            statuses = await asyncio.gather(*(each.stop() for each in self._started))
        names = [each.name for each in self._started]
        assert set(statuses) <= {0, -9}, dict(zip(names, statuses, strict=True))


@pytest.fixture
async def peers(
    mesh_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Peers]:
    """Processes of nuropb 0.1.8, on a virtual host that is configured."""
    config = TransportConfig(amqp_url=mesh_url, service_name=SERVICE, dead_letter_requests=True)
    await configure(config)
    api_url = config.broker.management_url()
    if "NUROPB_RMQ_TEST_URL" not in os.environ:
        node: RabbitMQNode = request.getfixturevalue("rabbitmq_node")
        api_url = node.management_url
    api_url = api_url.replace("://", "://guest:guest@") + "/api"
    made = Peers(mesh_url, api_url, tmp_path)
    yield made
    await made.stop()


@pytest.fixture
def nuropb_modules() -> dict[str, Path]:
    """The source of nuropb's modules, by their names."""
    where = "import nuropb; print(nuropb.__path__[0])"
    told = subprocess.run([PYTHON, "-c", where], capture_output=True, text=True, check=True)
    root = Path(told.stdout.strip())
    return {
        ".".join(("nuropb", *each.relative_to(root).with_suffix("").parts)): each
        for each in root.rglob("*.py")
    }


@pytest.fixture
def old_peers(peers: Peers) -> Peers:
    """The same, for tests in which nuropb's own transport is used."""
    return peers


@dataclass(frozen=True, slots=True)
class Pair:
    """A client and a service; one of them at least is nuropb 0.1.8."""

    url: str
    caller: Caller
    server: Server
    kinds: tuple[str, str]
    """The kinds of the caller and of the server."""

    @property
    def runs_rmqapi(self) -> bool:
        """True when nuropb's RMQAPI calls the service's methods."""
        return isinstance(self.server, PeerServer)


OURS = ("Transport", "RMQTransport", "RMQAPI")
"""The kinds to try against nuropb 0.1.8 on its transport; RMQAPI is nuropb's own, on ours."""
PAIRS = [*(("old", kind) for kind in OURS), *((kind, "old") for kind in OURS)]


def named(pair: tuple[str, str]) -> str:
    """A pair in a test's name."""
    return " calls ".join(pair)


@pytest.fixture(params=PAIRS, ids=named)
async def pair(request: pytest.FixtureRequest, old_peers: Peers) -> AsyncIterator[Pair]:
    """Each pair in turn; a test may ask for some of them only (`indirect`)."""
    caller, server = request.param
    async with contextlib.AsyncExitStack() as started:
        serving = await start_server(server, old_peers, started)
        calling = await start_caller(caller, old_peers, started)
        yield Pair(old_peers.url, calling, serving, request.param)


async def start_server(
    kind: str, peers: Peers, started: contextlib.AsyncExitStack, *, url: str = "", **how: Any
) -> Server:
    """An instance of Orders of this kind; it ends with `started`, or `peers`."""
    url = url or peers.url
    match kind:
        case "old":
            return await peers.server(url=url, **how)
        case "RMQAPI":
            return await peers.server(url=url, transport="nuropb_rmq", **how)
    ours = {"Transport": TransportServer, "RMQTransport": RMQTransportServer}[kind]
    server = ours(url, **SETTINGS)
    await server.start()
    started.push_async_callback(server.stop)
    return server


async def start_caller(
    kind: str, peers: Peers, started: contextlib.AsyncExitStack, *, url: str = ""
) -> Caller:
    """A client of this kind."""
    url = url or peers.url
    match kind:
        case "old":
            return await peers.caller(url=url)
        case "RMQAPI":
            return await peers.caller(url=url, transport="nuropb_rmq")
    ours = {"Transport": TransportCaller, "RMQTransport": RMQTransportCaller}[kind]
    caller = ours(url)
    await caller.start()
    started.push_async_callback(caller.stop)
    return caller
