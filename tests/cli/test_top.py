"""`top`: pictures of a real virtual host, and what it does without its sources."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

from nuropb_rmq import Mesh
from nuropb_rmq.telemetry.reports import report
from nuropb_rmq.testing import RabbitMQNode

from ..support import eventually
from .command import Command, ran, running


class Orders:
    """A service."""

    _service_name = "orders"

    async def get(self, number: int) -> int:
        return number


async def test_what_it_shows(rabbitmq_node: RabbitMQNode, mesh_url: str, folder: Path) -> None:
    management = ("--management-url", rabbitmq_node.management_url)
    async with Mesh(mesh_url, service=Orders()) as mesh:
        report(mesh, every=0.2)

        async def work() -> None:
            while True:
                await mesh.request("orders", "get", {"number": 1}, encrypted=False)

        working = asyncio.create_task(work())
        pictures = ("top", "--plain", "--every", "0.5", *management)
        async with running(folder, *pictures, url=mesh_url) as command:
            # A rate needs two reports.
            await eventually(lambda: [line for line in shown(command) if rate(line)], within=30)
        assert any("  1 service, 0 messages wait, " in line for line in command.lines)
        columns = ["service", "inst", "state", "in/s", "p50", "p99", "run", "wait", "dead"]
        assert columns in [line.split() for line in command.lines]
        assert shown(command)[-1].split()[1:3] == ["1", "READY"]
        assert max(len(line) for line in command.lines) <= 80
        status, out, _ = await ran("top", "--json", "--count", "1", *management, url=mesh_url)
        (service,) = json.loads(out)["services"]
        assert json.loads(out)["problem"] is None
        assert (service["service"], service["dead_letters"]) == ("orders", 0)
        assert status == 0
        working.cancel()


def shown(command: Command) -> list[str]:
    """Return the lines of the service."""
    return [line for line in command.lines if line.startswith("orders ")]


def rate(line: str) -> float:
    """Return its messages a second."""
    return float(line.split()[3].replace(",", "").replace("-", "0"))


async def test_without_the_management_api(mesh_url: str) -> None:
    nowhere = ("--management-url", "http://127.0.0.1:1")
    async with Mesh(mesh_url, service=Orders()) as mesh:
        report(mesh, every=0.1)
        status, out, err = await ran("top", "--plain", "--count", "3", *nowhere, url=mesh_url)
    assert (status, err) == (3, "")
    assert "orders" in out
    assert "READY" in out
    assert "no queues: management API http://127.0.0.1:1" in " ".join(out.split())


async def test_an_interrupt_ends_it(folder: Path, mesh_url: str) -> None:
    async with Mesh(mesh_url), running(folder, "top", "--plain", url=mesh_url) as command:
        await command.printed("services, ")
        command.signal(signal.SIGINT)
        assert await command.ended() == 130
    assert not any("Traceback" in line for line in command.lines)


async def test_no_broker() -> None:
    status, out, err = await ran("top", url="amqp://guest:guest@127.0.0.1:1/")
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "127.0.0.1:1" in err
