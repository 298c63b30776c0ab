"""`serve`: an object is served until a signal; wrong arguments are one readable line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nuropb_rmq import Mesh, NuropbNotDeliveredError
from nuropb_rmq.cli import main
from nuropb_rmq.testing import RabbitMQNode

from ..faults.console import alarm
from ..support import Transports
from .command import SERVICE, running

SERVING = "serving orders at"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_in_hand_is_finished(
    number: signal.Signals, folder: Path, mesh_url: str
) -> None:
    async with running(folder, "serve", "shop:Orders", url=mesh_url) as command:
        await command.printed(SERVING)
        async with Mesh(mesh_url) as client:
            call = asyncio.create_task(client.request("orders", "slow", {"seconds": 0.5}))
            await command.printed("begun")
            command.signal(number)
            assert await call == "done"
        assert await command.ended() == 0
        assert any(f"{number.name}: finishing" in line for line in command.lines)


async def test_a_grace_period_ends(folder: Path, mesh_url: str) -> None:
    async with running(folder, "serve", "shop:orders", "--grace", "0.1", url=mesh_url) as command:
        await command.printed(SERVING)
        async with Mesh(mesh_url) as client:
            await client.command("orders", "slow", {"seconds": 60})
            await command.printed("begun")
            command.signal(signal.SIGTERM)
            assert await command.ended() == 0


@pytest.mark.parametrize("twice", [False, True], ids=["in time", "at once"])
async def test_a_method_that_blocks_its_thread_does_not_keep_it(
    folder: Path, mesh_url: str, twice: bool
) -> None:
    arguments = ("serve", "shop:Orders", "--grace", "60" if twice else "0.1")
    async with running(folder, *arguments, url=mesh_url) as command:
        await command.printed(SERVING)
        async with Mesh(mesh_url) as client:
            await client.command("orders", "block", {})
            await command.printed("blocked")
            command.signal(signal.SIGINT)
            await command.printed("SIGINT: finishing")
            if twice:
                command.signal(signal.SIGINT)
            assert await command.ended() == (128 + signal.SIGINT if twice else 0)
        await command.printed("methods still run in threads, 1: ")


async def test_a_mesh_has_its_own_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment does not count: the module may read it itself."""
    (folder / "app.py").write_text(
        "from nuropb_rmq import Mesh\nfrom shop import Orders\n"
        "mesh = Mesh('memory://own', service=Orders())\n",
        encoding="utf-8",
    )
    async with running(folder, "serve", "app:mesh", url="memory://other") as command:
        assert "memory://own" in await command.printed(SERVING)
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


async def test_a_second_interrupt_ends_it_at_once(folder: Path, mesh_url: str) -> None:
    arguments = ("serve", "shop:Orders", "--grace", "60")
    async with running(folder, *arguments, url=mesh_url) as command:
        await command.printed(SERVING)
        async with Mesh(mesh_url) as client:
            await client.command("orders", "slow", {"seconds": 60})
            await command.printed("begun")
            command.signal(signal.SIGINT)
            await command.printed("SIGINT: finishing")
            command.signal(signal.SIGINT)
            assert await command.ended() == 128 + signal.SIGINT
    assert not any("Traceback" in line for line in command.lines)


async def test_a_mesh_is_served_as_it_is(folder: Path) -> None:
    (folder / "app.py").write_text(
        "from nuropb_rmq import Mesh\nfrom shop import Orders\n"
        "mesh = Mesh('memory://shop', service=Orders())\n",
        encoding="utf-8",
    )
    async with running(folder, "serve", "app:mesh") as command:
        assert "memory://shop" in await command.printed(SERVING)
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


# -- several processes ------------------------------------------------------------------------


async def pids(client: Mesh, count: int) -> set[int]:
    """Ask until so many processes have answered."""
    found: set[int] = set()
    while len(found) < count:
        calls = [client.request("orders", "pid") for _ in range(64)]
        found.update(await asyncio.gather(*calls))
    return found


LOG_CONFIG = """{"version": 1,
"formatters": {"json": {"()": "pythonjsonlogger.json.JsonFormatter"}},
"handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
"root": {"level": "INFO", "handlers": ["stderr"]}}"""


async def test_logs_as_a_file_says_and_so_of_workers(folder: Path, mesh_url: str) -> None:
    (folder / "log.json").write_text(LOG_CONFIG, encoding="utf-8")
    arguments = ("serve", "shop:Orders", "--workers", "2", "--log-config", "log.json")
    async with running(folder, *arguments, url=mesh_url) as command:
        await command.printed(SERVING, times=2)
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0
    records = [json.loads(line) for line in command.lines]
    serving = [each for each in records if SERVING in each["message"]]
    assert len({each["nuropb_instance_id"] for each in serving}) == 2


async def test_a_formatter_of_the_program_s_own(folder: Path) -> None:
    (folder / "lines.py").write_text(
        "import logging\n\nclass Lines(logging.Formatter):\n"
        "    def format(self, record):\n        return f'mine: {record.getMessage()}'\n",
        encoding="utf-8",
    )
    config = {**json.loads(LOG_CONFIG), "formatters": {"json": {"()": "lines.Lines"}}}
    (folder / "log.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = ("serve", "shop:Orders", "--log-config", "log.json")
    async with running(folder, *arguments, url="memory://shop") as command:
        await command.printed(f"mine: {SERVING}")
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


async def test_a_handler_for_logs_that_does_not_exist(folder: Path) -> None:
    wrong = {"version": 1, "handlers": {"stderr": {"class": "no.Such"}}}
    (folder / "log.json").write_text(json.dumps(wrong), encoding="utf-8")
    arguments = ("serve", "shop:Orders", "--log-config", "log.json")
    async with running(folder, *arguments, url="memory://shop") as command:
        assert await command.ended() == 2
    (line,) = command.lines
    assert "log.json: Unable to configure handler 'stderr' (Cannot resolve 'no.Such'" in line


async def test_workers_are_started_again_and_ended(folder: Path, mesh_url: str) -> None:
    async with running(folder, "serve", "shop:Orders", "--workers", "2", url=mesh_url) as command:
        await command.printed(SERVING, times=2)
        async with Mesh(mesh_url) as client:
            first = await pids(client, 2)
            os.kill(min(first), signal.SIGKILL)
            await command.printed("ended with status -9: started again")
            await command.printed(SERVING, times=3)
            assert len(await pids(client, 2) - first) == 1
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


async def test_workers_end_when_their_parent_is_killed(folder: Path, mesh_url: str) -> None:
    async with running(folder, "serve", "shop:Orders", "--workers", "2", url=mesh_url) as command:
        await command.printed(SERVING, times=2)
        command.signal(signal.SIGKILL)
        async with Mesh(mesh_url) as client:

            async def gone() -> bool:
                try:
                    await client.request("orders", "pid", timeout=0.5)
                except (NuropbNotDeliveredError, TimeoutError):
                    return True
                return False

            await command.printed("is gone: stopping", times=2)
            async with asyncio.timeout(20):
                while not await gone():  # each look waits for the broker
                    pass


async def test_a_worker_that_cannot_start_again_ends_no_other(
    folder: Path, mortal_node: RabbitMQNode, mortal_mesh: Transports
) -> None:
    """The broker is away while one worker is killed: both serve when it is back."""
    url = mortal_mesh.url
    async with running(folder, "serve", "shop:Orders", "--workers", "2", url=url) as command:
        await command.printed(SERVING, times=2)
        async with Mesh(url) as client:
            first = await pids(client, 2)
        await asyncio.to_thread(mortal_node.kill)
        try:
            os.kill(min(first), signal.SIGKILL)
            await command.printed("ended with status 1: started again")
        finally:
            await mortal_node.astart()
        await command.printed(SERVING, times=4, within=90)
        async with Mesh(url) as client:
            assert max(first) in await pids(client, 2)
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


async def test_a_worker_that_cannot_start_ends_all(folder: Path) -> None:
    url = f"amqp://guest:s3cret@127.0.0.1:{free_port()}/"
    async with running(folder, "serve", "shop:Orders", "--workers", "3", url=url) as command:
        assert await command.ended() == 1
        said = [line for line in command.lines if "connection refused" in line]
        assert said
        assert not any("s3cret" in line for line in command.lines)


async def test_a_change_starts_it_again(folder: Path, mesh_url: str) -> None:
    file = folder / "shop.py"
    async with running(folder, "serve", "shop:Orders", "--reload", url=mesh_url) as command:
        await command.printed(SERVING)
        file.write_text("syntax error", encoding="utf-8")
        await command.printed("shop cannot be imported: SyntaxError")
        await command.printed("waiting for a file to change")
        file.write_text(SERVICE, encoding="utf-8")
        await command.printed(SERVING, times=2)
        command.signal(signal.SIGINT)
        assert await command.ended() == 0


# -- a broker that is not there ---------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def test_it_waits_for_a_broker_that_starts(
    folder: Path, mortal_node: RabbitMQNode, mortal_mesh: Transports
) -> None:
    arguments = ("serve", "shop:Orders", "--start-timeout", "60")
    await asyncio.to_thread(mortal_node.kill)
    try:
        async with running(folder, *arguments, url=mortal_mesh.url) as command:
            await command.printed("trying for 60 s (start_timeout)")
            await mortal_node.astart()
            await command.printed(SERVING, within=60)
            command.signal(signal.SIGTERM)
            assert await command.ended() == 0
    finally:
        if not mortal_node.running:
            await mortal_node.astart()


async def test_it_waits_no_longer_than_it_was_asked(folder: Path) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    async with running(folder, "serve", "shop:Orders", "--start-timeout", "1", url=url) as command:
        assert await command.ended() == 1
        assert "connection refused" in command.lines[-1]


async def test_an_alarm_that_ends_looks_like_no_start(
    folder: Path, mesh_url: str, rabbitmq_node: RabbitMQNode
) -> None:
    reporting = ("serve", "shop:Orders", "--report", "0.5")  # a publisher is blocked when it sends
    async with running(folder, *reporting, url=mesh_url) as command:
        await command.printed(SERVING)
        async with alarm(rabbitmq_node):
            await command.printed("blocked by the broker")
        await command.printed("no longer blocked")
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0
    assert len([line for line in command.lines if SERVING in line]) == 1


async def test_a_signal_ends_the_waiting(folder: Path) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    async with running(
        folder, "serve", "shop:Orders", "--start-timeout", "600", url=url
    ) as command:
        await command.printed("(start_timeout)")
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


# -- wrong arguments --------------------------------------------------------------------------

URL = "memory://shop"
WRONG = {
    "no name": (["shop"], "expected MODULE:NAME, like orders:Orders, got 'shop'"),
    "a file": (["shop.py:Orders"], "did you mean shop:Orders?"),
    "a function": (["shop:make"], "is a function: give a class, an object, or a Mesh"),
    "no module": (["nothing:Orders"], "there is no module 'nothing' in "),
    "no such name": (["shop:Order"], "shop has no 'Order': did you mean 'Orders'?"),
    "a name unlike any": (["shop:Xyz"], "shop has no 'Xyz'"),
    "needs arguments": (
        ["shop:NeedsArguments"],
        "cannot be made without arguments (make an object",
    ),
    "no service": (["shop:text"], "service_name"),
    "no workers": (["shop:Orders", "--workers", "0"], "Invalid value for '--workers'"),
    "no seconds": (["shop:Orders", "--grace", "soon"], "Invalid value for '--grace'"),
    "workers in memory": (
        ["shop:Orders", "--workers", "2", "--url", "memory://shop"],
        "in memory has one process",
    ),
    "one id for several": (
        ["shop:Orders", "--workers", "2", "--instance-id", "a", "--url", "amqp://h/"],
        "--instance-id names one instance",
    ),
    "another scheme": (["shop:Orders", "--url", "http://h/"], "use amqp:// or amqps://"),
    "a name that is no name": (["shop:Orders", "--url", "memory://a/b"], "expected memory://NAME"),
    "a module that fails": (["broken:Orders"], "broken cannot be imported: ZeroDivisionError"),
}


def said_by(
    arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Return the last line of what the command says when it refuses its arguments."""
    before = set(sys.modules)
    try:
        status = main(["serve", *arguments])
    finally:
        for name in set(sys.modules) - before:
            monkeypatch.delitem(sys.modules, name)
    assert status == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.splitlines()[-1]


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, says = WRONG[case]
    (folder / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("NUROPB_RMQ_URL", URL)
    assert says in said_by(arguments, monkeypatch, capsys)


def test_without_an_address(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("NUROPB_RMQ_URL", raising=False)
    says = "--url is missing: give it, or set NUROPB_RMQ_URL"
    assert says in said_by(["shop:Orders"], monkeypatch, capsys)


async def test_an_instance_id_in_use(folder: Path, mesh_url: str) -> None:
    async with Mesh(mesh_url, service_name="orders", instance_id="a"):
        arguments = ("serve", "shop:Orders", "--instance-id", "a")
        async with running(folder, *arguments, url=mesh_url) as command:
            assert await command.ended() == 1
        assert "same instance_id" in command.lines[-1]


def arguments_of_children(pid: int) -> list[bytes]:
    """Return the command line of each process that this one has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]


def environments_of_children(pid: int) -> list[bytes]:
    """Return the environment of each process that this one has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [Path(f"/proc/{child}/environ").read_bytes() for child in children]


async def test_a_password_is_in_no_argument(folder: Path, mesh_url: str) -> None:
    arguments = ("serve", "shop:Orders", "--workers", "2", "--url", mesh_url)
    async with running(folder, *arguments) as command:
        await command.printed(SERVING, times=2)
        started = arguments_of_children(command.process.pid)
        assert len(started) == 2
        assert not any(b"guest" in line for line in started)
        for environment in environments_of_children(command.process.pid):
            assert b"guest" not in environment
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


async def test_help_says_what_it_does(folder: Path) -> None:
    async with running(folder, "serve", "--help") as command:
        assert await command.ended() == 0
        assert any("--start-timeout" in line for line in command.lines)
