"""The command in a process of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType

import pytest

from nuropb_rmq.cli import main

ROOT = Path(__file__).parents[2]

SERVICE = """
import asyncio, os, threading

class Orders:
    _service_name = "orders"

    async def pid(self) -> int:
        return os.getpid()

    async def slow(self, seconds: float) -> str:
        print("begun", flush=True)
        await asyncio.sleep(seconds)
        return "done"

    def block(self) -> None:
        print("blocked", flush=True)
        threading.Event().wait()

class NeedsArguments:
    def __init__(self, database: str) -> None: ...

orders = Orders()
text = "no service"

def make() -> Orders:
    return Orders()
"""


class Command:
    """A running command: what it prints is kept, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())
        self._more = asyncio.Event()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())
            self._more.set()

    async def printed(self, text: str, *, times: int = 1, within: float = 60) -> str:
        """Wait until a line with this text was printed so often; return the latest."""
        async with asyncio.timeout(within):
            while True:
                found = [line for line in self.lines if text in line]
                if len(found) >= times:
                    return found[-1]
                self._more.clear()
                await self._more.wait()

    async def ended(self, within: float = 60) -> int:
        """Wait for its end; return its exit status."""
        async with asyncio.timeout(within):
            status = await self.process.wait()
            await self._reading
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command's own process."""
        self.process.send_signal(number)


def environment(url: str = "") -> dict[str, str]:
    """The environment of a program that uses this checkout, and this broker."""
    made = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    made["PYTHONUNBUFFERED"] = "1"
    return {**made, "NUROPB_RMQ_URL": url} if url else made


def heed_interrupts() -> None:
    """Heed SIGINT in a new process: behind a shell's `&`, where tests may run, it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@asynccontextmanager
async def running(folder: Path, *arguments: str, url: str = "") -> AsyncIterator[Command]:
    """Run the command in a folder; its whole group is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nuropb_rmq", *arguments,
        cwd=folder, env=environment(url), start_new_session=True, preexec_fn=heed_interrupts,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    command = Command(process)
    try:
        yield command
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await command.ended()


async def ran(
    *arguments: str, url: str = "", stdin: bytes | None = None, width: int = 80, encoding: str = ""
) -> tuple[int, str, str]:
    """Run `nuropb-rmq` in a thread, which is ten times cheaper than in a process of its own.

    Returns exit status, output and error output. Log records go where pytest keeps them: those of
    services of the same test could not be told from the command's.
    """
    written = encoding or "utf-8"
    return await asyncio.to_thread(_run, arguments, url, stdin, width, written)


_one_at_a_time = threading.Lock()


def _run(
    arguments: tuple[str, ...], url: str, stdin: bytes | None, width: int, encoding: str
) -> tuple[int, str, str]:
    out, err, given = io.BytesIO(), io.BytesIO(), io.BytesIO(stdin or b"")
    with _one_at_a_time, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        if url:
            patch.setenv("NUROPB_RMQ_URL", url)
        patch.setattr(sys, "stdin", io.TextIOWrapper(given, "utf-8"))
        patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
        patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding))
        status = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        return status, out.getvalue().decode(encoding), err.getvalue().decode(encoding)


async def ran_by_itself(*arguments: str, url: str = "") -> tuple[int, str, str]:
    """Run `nuropb-rmq` as users do; return exit status, output and error output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nuropb_rmq", *arguments),
        env=environment(url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def typed(lines: str, env: Mapping[str, str], folder: Path | None = None) -> str:
    """Type lines into a shell; return what they print. The first that fails ends the test."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-ec", lines),
        cwd=folder,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def stubs(folder: Path, service: str, url: str, *options: str) -> ModuleType:
    """Write the interface of a service to a module, and import it."""
    status, out, err = await ran("stubs", service, *options, url=url)
    assert (status, err) == (0, "")
    name = f"stubs_of_{service}"
    path = folder / f"{name}.py"
    path.write_text(out, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
