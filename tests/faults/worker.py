"""A service in a process of its own, to be killed or measured: python -m tests.faults.worker.

Settings come as JSON in the first argument: those of a TransportConfig, and `key`, the PEM of a
private key. It writes a JSON object per line: what happened, and answers to the lines that it
reads: `rss`, `go` (handlers, which wait until then, answer), `stop`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nuropb_rmq import Encryptor, Message, Transport, TransportConfig


def told(**what: Any) -> None:
    """Tell whoever has started this process."""
    print(json.dumps(what), flush=True)


def memory() -> dict[str, int]:
    """Resident memory in KiB: now, and at its highest."""
    status = Path("/proc/self/status").read_text()
    found = dict(line.split(":", 1) for line in status.splitlines())
    return {"now": int(found["VmRSS"].split()[0]), "highest": int(found["VmHWM"].split()[0])}


class Worker:
    """The handler: it tells what it gets, and waits until it may answer."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self.go = asyncio.Event()
        self.handled = 0

    async def __call__(self, message: Message) -> Any:
        if not self._quiet:
            told(began=message.correlation_id, encrypted=message.encrypted)
        await self.go.wait()
        self.handled += 1
        return message.payload.get("params")


async def main(settings: dict[str, Any]) -> None:
    """Serve until told to stop."""
    key, quiet = settings.pop("key", None), settings.pop("quiet", False)
    encryptor = None
    if key is not None:
        private_key = load_pem_private_key(key.encode(), None)
        assert isinstance(private_key, RSAPrivateKey)
        encryptor = Encryptor(settings["service_name"], private_key)
    worker = Worker(quiet=quiet)
    config = TransportConfig.from_mapping(settings)
    loop = asyncio.get_running_loop()
    async with Transport(config, worker, encryptor=encryptor):
        told(ready=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            match line.strip():
                case "rss":
                    told(**memory(), handled=worker.handled)
                case "go":
                    worker.go.set()
                case "stop":
                    break


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
