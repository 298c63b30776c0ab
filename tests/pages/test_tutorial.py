"""docs/tutorial/: a reader types it, page by page, into an empty folder, and sees what it shows."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nuropb_rmq.testing import RabbitMQNode

from ..cli.command import Command, running
from .support import DOCS, blocks, environment, files, follow, page, write
from .support import shell as typed_into_shell

PAGES = ("service", "events", "failures", "security", "web", "deployment")
MANAGEMENT = "NUROPB_RMQ_MANAGEMENT_URL"


class Reader:
    """A folder, a broker, and the services that run in other terminals."""

    def __init__(self, folder: Path, url: str, management: str, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.url = url
        self.env = environment(url, **{MANAGEMENT: management})
        self._stack = stack
        self._services: dict[str, AsyncExitStack] = {}

    def write(self, name: str) -> str:
        """Write the files of a page; return its text."""
        text = page(f"tutorial/{name}.md")
        write(self.folder, text)
        return text

    async def serve(self, *arguments: str) -> Command:
        """Start a service, in place of the one that runs."""
        name = arguments[0].partition(":")[0]
        await self.stop(name)
        stack = self._services[name] = AsyncExitStack()
        self._stack.push_async_exit(stack)
        command = await stack.enter_async_context(
            running(self.folder, "serve", *arguments, url=self.url)
        )
        await command.printed(f"serving {name} at")
        return command

    async def stop(self, name: str) -> None:
        """End a service."""
        if name in self._services:
            await self._services.pop(name).aclose()

    async def follow(self, text: str) -> None:
        """Type the commands of a page."""
        await asyncio.to_thread(follow, text, self.folder, self.env)

    async def tells(self, command: str, pattern: str) -> None:
        """Wait until a command prints this; the management API counts every few seconds."""
        for _ in range(60):
            told = await asyncio.to_thread(typed_into_shell, command, self.folder, self.env)
            if re.search(pattern, told):
                return
        raise AssertionError(f"expected {pattern}, got {told}")


@pytest.fixture
async def reader(
    tmp_path: Path, mesh_url: str, rabbitmq_node: RabbitMQNode, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Reader]:
    """Somebody with an empty folder, and no other services."""
    async with AsyncExitStack() as stack:
        # The path of a socket may have 107 bytes.
        sockets = stack.enter_context(TemporaryDirectory(prefix="nuropb-"))
        monkeypatch.setenv("NUROPB_RMQ_HEALTH_DIR", sockets)
        yield Reader(tmp_path, mesh_url, rabbitmq_node.management_url, stack)


async def test_a_service(reader: Reader) -> None:
    text = reader.write("service")
    await reader.serve("orders:Orders")
    await reader.follow(text)


async def test_events(reader: Reader) -> None:
    reader.write("service")
    text = reader.write("events")
    await reader.serve("orders:Orders")
    shipping = await reader.serve("shipping:Shipping")
    await reader.follow(text)
    assert await shipping.printed("shipping 2 x lamp") in text


async def test_failures(reader: Reader) -> None:
    for name in ("service", "events"):
        reader.write(name)
    text = reader.write("failures")
    await reader.serve("orders:Orders")
    shipping = await reader.serve("shipping:Shipping")
    before, heading, after = text.partition("## Look\n")
    await reader.follow(before)
    await reader.tells("nuropb-rmq dlq shipping", "1 dead letter")
    await reader.follow(heading + after)
    assert await shipping.printed("shipped 1 x chair") in text
    assert len([line for line in shipping.lines if "again in" in line]) == 2


async def test_security(reader: Reader) -> None:
    text = reader.write("security")
    key, heading, rest = text.partition("## The service\n")
    await reader.follow(key)
    await reader.serve("payments:Payments")
    await reader.follow(heading + rest)


async def test_a_web_front(reader: Reader, unused_tcp_port: int) -> None:
    for name in ("service", "events", "failures"):
        reader.write(name)
    text = page("tutorial/web.md").replace("localhost:8000", f"localhost:{unused_tcp_port}")
    tests, heading, front = text.partition("## A web front\n")
    await reader.follow(tests)
    before, _, calls = front.partition("```console\n$ curl")
    write(reader.folder, heading + before)
    await reader.serve("orders:Orders")
    server = await asyncio.create_subprocess_exec(
        "uvicorn", "app:app", "--port", str(unused_tcp_port), "--log-level", "warning",
        cwd=reader.folder, env=reader.env,
    )  # fmt: skip
    try:
        await listening(unused_tcp_port)
        await reader.follow(f"```console\n$ curl{calls}")
    finally:
        server.terminate()
        assert await server.wait() == -signal.SIGTERM


async def listening(port: int) -> None:
    """Wait until somebody listens there."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("localhost", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


async def test_deployment(reader: Reader) -> None:
    for name in ("service", "events", "failures"):
        reader.write(name)
    text = reader.write("deployment")
    (line,) = re.findall(r"^nuropb-rmq serve (.*)$", text, re.MULTILINE)
    arguments = line.replace("--metrics 9464 ", "").split()
    await reader.serve("orders:Orders")
    shipping = await reader.serve(*arguments)
    await shipping.printed("serving shipping at", times=2)
    await reader.tells("nuropb-rmq services", r"orders +1 [^$]*shipping +2 ")
    await reader.follow(text)


def test_each_page_is_run() -> None:
    there = {path.stem for path in (DOCS / "tutorial").glob("*.md")}
    assert there == {*PAGES, "index"}
    for name in PAGES:
        named = files(page(f"tutorial/{name}.md")).values()
        programs = [each for each in blocks(page(f"tutorial/{name}.md")) if each.language]
        assert all(each.language == "console" or each.text in named for each in programs)
