"""`serve --health`, and `health`, which asks it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nuropb_rmq.cli import main

from .command import environment, running


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the sockets; its path is short enough for them."""
    with TemporaryDirectory(prefix="nuropb-", dir="/tmp") as made:
        monkeypatch.setenv("NUROPB_RMQ_HEALTH_DIR", made)
        yield Path(made)


async def probe(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run `health`; its status, and all that it printed."""
    async with running(folder, "health", "--timeout", "30", *arguments) as command:
        return await command.ended(), "\n".join(command.lines)


async def test_of_a_service(folder: Path, sockets: Path) -> None:
    arguments = ("shop:Orders", "--health", "--instance-id", "one", "--url", "memory://health")
    async with running(folder, "serve", *arguments) as command:
        await command.printed("serving orders at")
        status, text = await probe(folder, "--service", "orders", "--instance", "one")
        answer = json.loads(text)
        assert (status, answer["ready"], answer["broker"]) == (0, True, "memory")
        assert answer["pid"] == command.process.pid
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0
    assert os.listdir(sockets) == []


async def test_of_each_worker(folder: Path, mesh_url: str, sockets: Path) -> None:
    arguments = ("shop:Orders", "--health", "--workers", "2")
    async with running(folder, "serve", *arguments, url=mesh_url) as command:
        await command.printed("serving orders at", times=2)
        status, text = await probe(folder)
        assert (status, text.count('"ready": true')) == (0, 2)
        assert len(os.listdir(sockets)) == 2
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0
    assert os.listdir(sockets) == []


async def test_a_folder_that_cannot_be_used(folder: Path, sockets: Path) -> None:
    os.chmod(sockets, 0o755)
    arguments = ("serve", "shop:Orders", "--health", "--url", "memory://health")
    async with running(folder, *arguments) as command:
        assert await command.ended() == 2
        problem = f"{sockets} is open to others (mode 0755): chmod 700 {sockets}"
        assert command.lines == [f"nuropb-rmq: health: {problem}"]


def test_the_command_has_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health"]) == 2
    assert capsys.readouterr().err.startswith("nuropb-rmq health: no service is there, in ")
    assert main(["--help"]) == 0
    assert "health" in capsys.readouterr().out


def test_it_loads_nothing_that_takes_time(folder: Path) -> None:
    program = """
import runpy, sys
sys.argv = ["nuropb-rmq", "health", "--help"]
before = set(sys.modules)
try:
    runpy.run_module("nuropb_rmq", run_name="__main__", alter_sys=True)
except SystemExit:
    print(*(set(sys.modules) - before), file=sys.stderr)
"""
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {each for each in told.stderr.split() if not each.startswith("nuropb_rmq")}
    assert loaded == {"__future__", "_socket"}
