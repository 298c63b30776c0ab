"""The image of the examples: its commands serve, tell their health, and end at SIGTERM."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from .programs import Program, Programs

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "examples/orders/Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")


def in_python(command: list[str]) -> list[str]:
    """The arguments of `python -m`, for a program that pip installs."""
    return [command[0].replace("-", "_"), *command[1:]]


def told(instruction: str) -> list[str]:
    """The command of an instruction in its exec form, for which no shell is started."""
    (found,) = re.findall(rf"^{instruction}\b[^\[\n]*(\[.*\])$", DOCKERFILE, re.MULTILINE)
    command: list[str] = json.loads(found)
    return in_python(command)


def in_compose(service: str) -> list[str]:
    """The command of a service, as a flow or a block of YAML."""
    found = re.search(
        rf"^  {service}:\n(?:    .*\n)*?    command:\n((?:      .*\n)+)", COMPOSE, re.MULTILINE
    )
    assert found is not None
    text = found[1].strip()
    if text.startswith("["):
        command: list[str] = json.loads(text)
    else:
        command = [shlex.split(line.strip().removeprefix("- "))[0] for line in text.splitlines()]
    return in_python(command)


async def healthy(programs: Programs, url: str, folder: Path) -> bool:
    """Return True when all services that use this folder are ready, by the health check."""
    check = programs.start(url, *told("HEALTHCHECK"), NUROPB_RMQ_HEALTH_DIR=str(folder))
    return await check.ended() == 0


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder for the sockets of health checks; the path of a socket must be short."""
    with TemporaryDirectory(prefix="health-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("command", [told("CMD"), in_compose("audit")], ids=["orders", "audit"])
async def test_a_service_tells_its_health_and_ends_at_sigterm(
    mesh_url: str, programs: Programs, sockets: Path, command: list[str]
) -> None:
    assert not await healthy(programs, mesh_url, sockets)
    service = await serving(programs, mesh_url, command, sockets)
    assert await healthy(programs, mesh_url, sockets)
    service.terminate()
    assert await service.ended() == 0
    assert not await healthy(programs, mesh_url, sockets)


async def test_the_front_calls_the_service(
    mesh_url: str, programs: Programs, sockets: Path
) -> None:
    await serving(programs, mesh_url, told("CMD"), sockets)
    command = [each for each in in_compose("front") if not each.startswith("--port")]
    front = await programs.start(mesh_url, *command, "--port=0").says("Uvicorn running on")
    port = re.findall(r"running on http://0\.0\.0\.0:(\d+)", front.err)[0]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        placed = await http.post("/orders", json={"item": "lamp", "count": 2})
        assert (placed.status_code, placed.json()["item"]) == (201, "lamp")
        assert (await http.get("/readyz")).status_code == 200
    front.terminate()
    await front.ended()


async def serving(programs: Programs, url: str, command: list[str], sockets: Path) -> Program:
    """Start a service; return when it serves."""
    program = programs.start(url, *command, NUROPB_RMQ_URL=url, NUROPB_RMQ_HEALTH_DIR=str(sockets))
    return await program.says("serving ")
