"""Programs in the style of nuropb's documentation move by their imports alone.

Each runs as it is, on nuropb 0.1.8, and once more with nothing changed but where its imports come
from; it has to say the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nuropb_rmq import TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode

from .conftest import Peers
from .process import PYTHON, ROOT

PROGRAMS = Path(__file__).parent / "programs"
WITHIN = 60.0
_IMPORTED_FROM = re.compile(r"^from nuropb(?:\.\w+)+ import", re.MULTILINE)


def moved(source: str) -> str:
    """A program of nuropb's, with its imports changed and nothing else."""
    return _IMPORTED_FROM.sub("from nuropb_rmq import", source)


class Programs:
    """Runs programs, as they are or moved, on one broker."""

    def __init__(self, url: str, folder: Path, *, move: bool) -> None:
        parts = urlsplit(url)
        self._folder = folder
        self._move = move
        self._environment = {
            **os.environ,
            "MESH_HOST": str(parts.hostname),
            "MESH_PORT": str(parts.port),
            "MESH_NAME": parts.path[1:],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    @contextlib.asynccontextmanager
    async def started(self, name: str) -> AsyncIterator[Process]:
        """A program that runs; killed at the end, if it is there yet."""
        source = (PROGRAMS / name).read_text()
        program = self._folder / name
        program.write_text(moved(source) if self._move else source)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable if self._move else PYTHON, program),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=self._environment,
            preexec_fn=heed_interrupts,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def said(self, name: str) -> list[str]:
        """Return the output of a program that comes to its end by itself."""
        async with self.started(name) as process, asyncio.timeout(WITHIN):
            out, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()
        return out.decode().splitlines()

    async def said_beside(self, service: str, client: str) -> tuple[list[str], list[str]]:
        """Return the output of both: the client runs beside the service, which Ctrl-C ends."""
        async with self.started(service) as process, asyncio.timeout(WITHIN):
            assert process.stdout is not None
            assert process.stderr is not None
            told: list[str] = []
            while not (told and told[-1].startswith("ready")):
                line = await process.stdout.readline()
                assert line, (await process.stderr.read()).decode()
                told.append(line.decode().rstrip())
            asked = await self.said(client)
            process.send_signal(signal.SIGINT)
            out, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()
        return [*told, *out.decode().splitlines()], asked


def heed_interrupts() -> None:
    """Heed SIGINT in a new process: behind a shell's `&`, where tests may run, it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Forwarder:
    """Listens at a port, and at that plus 10,000: where nuropb looks for the management API."""

    def __init__(self, amqp: int, management: int) -> None:
        self._targets = amqp, management
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Forwarder:
        for port in range(20_000 + os.getpid() % 5_000, 30_000):
            try:
                for at, target in zip((port, port + 10_000), self._targets, strict=True):
                    self._servers.append(await self._listen(at, target))
            except OSError:
                await self._close()
                continue
            self.port = port
            return self
        raise AssertionError("no two free ports")

    async def _listen(self, at: int, target: int) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection("127.0.0.1", target)
            for way in ((reader, there[1]), (there[0], writer)):
                task = asyncio.create_task(_forward(*way))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        return await asyncio.start_server(accept, "127.0.0.1", at)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def __aexit__(self, *_: object) -> None:
        await self._close()
        if self._tasks:
            await asyncio.wait(self._tasks)


@pytest.fixture
async def forwarded(mesh_url: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The virtual host of the test, with the management API where nuropb looks for it."""
    if os.environ.get("NUROPB_RMQ_TEST_URL"):
        yield mesh_url
        return
    node: RabbitMQNode = request.getfixturevalue("rabbitmq_node")
    parts = urlsplit(mesh_url)
    async with Forwarder(parts.port or 0, node.management_port) as made:
        yield parts._replace(netloc=f"guest:guest@127.0.0.1:{made.port}").geturl()


@pytest.fixture
async def theirs(old_peers: Peers, forwarded: str, tmp_path: Path) -> Programs:
    """On nuropb, in the virtual host of the test, which is a mesh already."""
    return Programs(forwarded, tmp_path, move=False)


@pytest.fixture
async def ours(mesh_url: str, forwarded: str, tmp_path: Path) -> Programs:
    """Moved."""
    await configure(TransportConfig(amqp_url=mesh_url, service_name="orders"))
    return Programs(forwarded, tmp_path, move=True)


ALONE = {
    "mesh_setup.py": ["the mesh is there"],
    "mesh_setup_by_hand.py": [
        "protocol 0.1.1",
        "made True",
        "configured True",
        "names my-rpc my-dead my-dead-letters",
        "queues ['my-dead-letters']",
        "deleted True",
    ],
    "all_in_one.py": [
        "sums 5050",
        "{'sum': 3, 'more': ['c']}",
        "done",
        "['context', 'correlation_id', 'error', 'reply_to', 'result', 'tag', 'trace_id', "
        "'warning'] response 3 None",
        "refused True",
        "heard [['sums.made', {'count': 100}, None, ['user_id']]]",
    ],
    "own_transport.py": [
        "connected True True",
        "nuropb-parrot-one-rq nuropb-parrot-sq ['bird', 'parrot']",
        "False True",
        "response trace True",
        "{'method': 'say', 'params': {'text': 'parrot'}}",
        "response trace True",
        "{'method': 'say', 'params': {'text': 'bird'}}",
        "[('request', 'ack')] 10",
        "True True",
        "connected False False",
    ],
}
BESIDE = {
    ("quickstart_service.py", "quickstart_client.py"): (
        ["ready", "bye"],
        ["connected True True", "hello you", "hello mesh"],
    ),
    ("orders_service.py", "orders_client.py"): (
        [
            "orders Takes orders. ['buy', 'cancelled', 'get_total', 'pay']",
            "ready True True",
            "stopped False",
        ],
        [
            "{'order_id': 'A-1', 'total': '12.50', 'currency': 'EUR'}",
            "seen 1",
            "{'item': 'lamp', 'buyer': 'alice', 'seen': ['Authorization', 'tenant']}",
            "refused: this token is not known",
            "refused: order_id is empty",
            "NuropbValidationError True",
            "['buy', 'cancelled', 'get_total', 'pay'] 0.2",
            "True True",
            "paid with 1234",
            "cancelled ['A-1']",
        ],
    ),
}


@pytest.mark.parametrize("name", ALONE)
async def test_a_program_on_nuropb(theirs: Programs, name: str) -> None:
    assert await theirs.said(name) == ALONE[name]


@pytest.mark.parametrize("name", ALONE)
async def test_a_program_that_moved(ours: Programs, name: str) -> None:
    assert await ours.said(name) == ALONE[name]


@pytest.mark.parametrize("names", BESIDE, ids="+".join)
async def test_a_service_and_its_client_on_nuropb(theirs: Programs, names: tuple[str, str]) -> None:
    assert await theirs.said_beside(*names) == BESIDE[names]


@pytest.mark.parametrize("names", BESIDE, ids="+".join)
async def test_a_service_and_its_client_that_moved(ours: Programs, names: tuple[str, str]) -> None:
    assert await ours.said_beside(*names) == BESIDE[names]


def test_every_program_is_run_and_moved_by_its_imports_alone() -> None:
    tried = {*ALONE, *(name for names in BESIDE for name in names)}
    assert tried == {each.name for each in PROGRAMS.glob("*.py")}
    assert len(tried) == 8
    for each in PROGRAMS.glob("*.py"):
        source = each.read_text()
        assert _IMPORTED_FROM.search(source)
        assert not re.search(r"^\s*(from|import) nuropb\b(?!_)", moved(source), re.MULTILINE)
