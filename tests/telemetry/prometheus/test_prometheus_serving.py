"""The places that Prometheus reads: a route of an ASGI application, a port, the command."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Mount

from nuropb_rmq import NuropbConfigurationError
from nuropb_rmq.asgi import health_routes, lifespan, metrics_route
from nuropb_rmq.telemetry.prometheus import collect, serve_metrics

from ...asgi.support import Served
from ...cli.command import SERVICE, running
from ...mesh.support import Meshes
from .scraped import OPENMETRICS

PLAIN = "text/plain; version=0.0.4; charset=utf-8"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is taken on loopback."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening.getsockname()[1]


def free_ports(number: int) -> int:
    """The first of so many ports in a row that are free."""
    for first in range(20_000, 32_000, number):
        try:
            for port in range(first, first + number):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no ports are free")


async def test_the_route(meshes: Meshes, registry: CollectorRegistry) -> None:
    mesh = meshes.mesh(None)
    routes = [*health_routes(mesh), metrics_route(mesh, registry=registry)]
    apps = (
        FastAPI(lifespan=lifespan(mesh), routes=routes),
        Starlette(lifespan=lifespan(mesh), routes=[Mount("/internal", routes=routes)]),
    )
    for app, prefix in zip(apps, ("", "/internal"), strict=True):
        async with Served(app) as served:
            plain = await served.http.get(f"{prefix}/metrics")
            assert (plain.status_code, plain.headers["content-type"]) == (200, PLAIN)
            assert plain.headers["cache-control"] == "no-store"
            assert f'nuropb_instance="{mesh.instance_id}"' in plain.text
            accept = {"accept": f"{OPENMETRICS},text/plain;q=0.5"}
            modern = await served.http.get(f"{prefix}/metrics", headers=accept)
            assert modern.headers["content-type"].startswith("application/openmetrics-text")
            assert modern.text.endswith("# EOF\n")
            assert (await served.http.post(f"{prefix}/metrics")).status_code == 405
            if isinstance(app, FastAPI):
                assert app.openapi()["paths"] == {}


async def test_a_port(meshes: Meshes, registry: CollectorRegistry) -> None:
    mesh = await meshes.client()
    collect(mesh, registry)
    with serve_metrics(0, registry=registry) as server:
        url = f"http://127.0.0.1:{server.port}/metrics"
        answer = await asyncio.to_thread(httpx.get, url, headers={"accept": OPENMETRICS})
        assert mesh.instance_id in answer.text
        assert answer.text.endswith("# EOF\n")
    with pytest.raises(httpx.ConnectError):
        await asyncio.to_thread(httpx.get, url)


def test_ports_that_cannot_be_had(registry: CollectorRegistry, taken: int) -> None:
    with pytest.raises(NuropbConfigurationError) as told:
        serve_metrics(taken, registry=registry)
    assert str(told.value) == (
        f"port: {taken} at 127.0.0.1 cannot be had: another program has it: give another port, or "
        "0 for one that is free"
    )
    with pytest.raises(NuropbConfigurationError, match="port: expected 0 to 65535, got 70000"):
        serve_metrics(70_000, registry=registry)
    with pytest.raises(NuropbConfigurationError, match=r"port: 0 at 192\.0\.2\.1 cannot be had: "):
        serve_metrics(0, "192.0.2.1", registry=registry)


@pytest.mark.parametrize(
    "statement",
    [
        "import nuropb_rmq.telemetry.prometheus",
        "from nuropb_rmq.asgi import metrics_route; from nuropb_rmq import Mesh\n"
        "metrics_route(Mesh('memory://x'))",
    ],
)
def test_without_the_extra(statement: str) -> None:
    program = f"import sys\nsys.modules['prometheus_client'] = None\n{statement}"
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].startswith(
        "ModuleNotFoundError: nuropb_rmq.telemetry.prometheus needs prometheus_client: pip install "
        "'nuropb-rmq-aio[prometheus]' ("
    )


# -- the command ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the command to run in: it holds `shop.py`."""
    (tmp_path / "shop.py").write_text(SERVICE, encoding="utf-8")
    return tmp_path


async def test_serve(folder: Path) -> None:
    arguments = ("serve", "shop:Orders", "--metrics", "0", "--url", "memory://metrics")
    async with running(folder, *arguments) as command:
        port = (await command.printed("metrics at 127.0.0.1, port ")).rpartition(" ")[2]
        await command.printed("serving orders at")
        text = (await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{port}/metrics")).text
        assert 'nuropb_service="orders"' in text
        assert "python_info" in text, "the whole registry"
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


async def test_each_worker_has_a_port(folder: Path, mesh_url: str) -> None:
    """The same when it is started again."""
    first = free_ports(2)
    arguments = ("serve", "shop:Orders", "--workers", "2", "--metrics", f"127.0.0.1:{first}")
    async with running(folder, *arguments, url=mesh_url) as command:
        await command.printed("serving orders at", times=2)
        for port in (first, first + 1):
            text = (await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{port}/metrics")).text
            assert 'nuropb_service="orders"' in text
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


async def test_a_port_of_serve_that_is_taken(folder: Path, taken: int) -> None:
    arguments = ("serve", "shop:Orders", "--metrics", str(taken), "--url", "memory://metrics")
    async with running(folder, *arguments) as command:
        assert await command.ended() == 2
    assert command.lines == [
        f"nuropb-rmq: --metrics: port: {taken} at 127.0.0.1 cannot be had: another program has it: "
        "give another port, or 0 for one that is free"
    ]


async def test_what_is_no_port(folder: Path) -> None:
    arguments = ("serve", "shop:Orders", "--metrics", "here", "--url", "memory://metrics")
    async with running(folder, *arguments) as command:
        assert await command.ended() == 2
    assert "expected PORT or ADDR:PORT, like 9464, got 'here'" in command.lines[-1]
