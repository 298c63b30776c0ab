"""`top`: pictures of a real virtual host, and what it does without its sources."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from nuropb_rmq import Mesh
from nuropb_rmq.telemetry.reports import report
from nuropb_rmq.testing import RabbitMQNode

from ..support import eventually
from .command import Command, ran, running
from .terminal import on_terminal

ESCAPED = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""A sequence that moves the cursor, or colours."""


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
        status, _, err = await ran(*pictures, "--count", "2", url=mesh_url)
        assert (status, err) == (0, "")
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


@pytest.mark.broker
async def test_an_alarm_of_the_broker(quick_node: RabbitMQNode, folder: Path) -> None:
    """Nobody can report then: the head says why all look silent."""
    management = ("--management-url", quick_node.management_url)
    url = quick_node.amqp_url
    (node,) = quick_node.api("GET", "/api/nodes")
    alarm = f"memory alarm on {node['name']}: publishers are blocked"
    async with Mesh(url, service=Orders()) as mesh:
        report(mesh, every=1)
        pictures = ("top", "--plain", "--every", "0.5", *management)
        async with running(folder, *pictures, url=url) as command:
            await eventually(lambda: "READY" in " ".join(shown(command)), within=30)
            assert not any("alarm" in line for line in command.lines)
            watermark = "set_vm_memory_high_watermark"
            await asyncio.to_thread(quick_node.rabbitmqctl, watermark, "0.0001")
            try:
                await command.printed(alarm)
                before = len(shown(command))
                await eventually(lambda: " SILENT " in " ".join(shown(command)[before:]), within=30)
                status, out, _ = await ran("top", "--json", "--count", "1", *management, url=url)
            finally:
                await asyncio.to_thread(quick_node.rabbitmqctl, watermark, "0.6")
            assert (status, json.loads(out)["alarms"]) == (0, [alarm])
            await eventually(lambda: "READY" in shown(command)[-1], within=30)
        _, out, _ = await ran("top", "--json", "--count", "1", *management, url=url)
        assert json.loads(out)["alarms"] == []


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


SCREEN_ON, SCREEN_OFF = "\x1b[?1049h", "\x1b[?1049l"


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (60, "service state in/s p99 wait dead"),
        (80, "service inst state in/s p50 p99 run wait dead"),
        (
            140,
            "service inst state in/s fail/s retry/s redel/s p50 p99 run hand outbox wait dead",
        ),
    ],
)
async def test_on_a_terminal(
    mesh_url: str, rabbitmq_node: RabbitMQNode, width: int, columns: str
) -> None:
    arguments = ("top", "--every", "0.5", "--management-url", rabbitmq_node.management_url)
    async with Mesh(mesh_url, service=Orders()) as mesh:
        report(mesh, every=0.2)
        async with on_terminal(*arguments, url=mesh_url, width=width) as terminal:
            await terminal.shows("READY")
            terminal.type("\x03")
            assert await terminal.ended() == 130
            await terminal.shows(SCREEN_OFF)
    before, _, screen = terminal.text.partition(SCREEN_ON)
    screen, _, after = screen.partition(SCREEN_OFF)
    lines = ESCAPED.sub("", screen.replace("\x1b[H", "\n")).splitlines()
    assert columns in [" ".join(line.split()) for line in lines]
    assert max(len(line.removesuffix("^C")) for line in lines) <= width
    assert "Traceback" not in before + after
    assert ESCAPED.sub("", after).strip() in {"", "^C"}


async def test_no_broker() -> None:
    status, out, err = await ran("top", url="amqp://guest:guest@127.0.0.1:1/")
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "127.0.0.1:1" in err
