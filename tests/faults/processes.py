"""Services in processes of their own: see worker.py for what they do."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ROOT = Path(__file__).parents[2]


class ServiceProcess:
    """A service that holds all that it gets, until it is told to answer, or killed."""

    def __init__(
        self, url: str, *, private_key: rsa.RSAPrivateKey | None = None, **settings: Any
    ) -> None:
        settings = {"amqp_url": url, "service_name": "orders", **settings}
        if private_key is not None:
            settings["key"] = private_key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ).decode()
        self._settings = settings
        self._process: subprocess.Popen[str]

    async def told(self, within: float = 30) -> dict[str, Any]:
        """The next thing that it tells."""
        assert self._process.stdout is not None
        async with asyncio.timeout(within):
            line = await asyncio.to_thread(self._process.stdout.readline)
        assert line, f"the service's process has ended: {self._process.wait(5)}"
        found: dict[str, Any] = json.loads(line)
        return found

    async def began(self, count: int) -> list[str]:
        """Wait until it has so many messages in hand; their correlation ids."""
        return [str((await self.told())["began"]) for _ in range(count)]

    async def memory(self) -> dict[str, int]:
        """Its memory in KiB, `now` and at its `highest`, and how many messages it has `handled`."""
        self.tell("rss")
        return await self.told()

    def tell(self, command: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    async def kill(self) -> None:
        """End it with SIGKILL; returns when it is gone."""
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def __aenter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork, and no shell
            [sys.executable, "-m", "tests.faults.worker", json.dumps(self._settings)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert (await self.told()) == {"ready": True}
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
