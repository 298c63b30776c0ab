"""`top`: pictures of a real virtual host, and what it does without its sources."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

from nuropb_rmq import Mesh
from nuropb_rmq.telemetry.reports import report
from nuropb_rmq.testing import RabbitMQNode

from .command import ran, running


class Orders:
    """A service."""

    _service_name = "orders"

    async def get(self, number: int) -> int:
        return number


async def test_what_it_shows(rabbitmq_node: RabbitMQNode, mesh_url: str) -> None:
    management = ("--management-url", rabbitmq_node.management_url)
    async with Mesh(mesh_url, service=Orders()) as mesh:
        report(mesh, every=0.2)

        async def work() -> None:
            while True:
                await mesh.request("orders", "get", {"number": 1}, encrypted=False)

        working = asyncio.create_task(work())
        pictures = ("top", "--plain", "--count", "4", "--every", "0.5", *management)
        status, out, err = await ran(*pictures, url=mesh_url)
        assert (status, err) == (0, "")
        head, *lines = out.splitlines()
        assert "  1 service, 0 messages wait, " in head
        columns = ["service", "inst", "state", "in/s", "p50", "p99", "run", "wait", "dead"]
        assert lines[0].split() == columns
        last = [line for line in lines if line.startswith("orders ")][-1].split()
        assert last[1:3] == ["1", "READY"]
        assert float(last[3].replace(",", "")) > 0
        assert max(len(line) for line in lines) <= 80
        status, out, _ = await ran("top", "--json", "--count", "1", *management, url=mesh_url)
        shown = json.loads(out)
        assert shown["problem"] is None
        assert [each["service"] for each in shown["services"]] == ["orders"]
        assert shown["services"][0]["dead_letters"] == 0
        working.cancel()


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
