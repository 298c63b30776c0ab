"""README.md's first program: its service, client and test run as they stand there."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from ..testing.support import ASYNCIO, Pytest, passed
from .command import ROOT, environment, running

README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
(SETTINGS,) = re.findall(
    r"^```ini\n# pytest.ini\n\[pytest\]\n(.*?)^```$", README, re.MULTILINE | re.DOTALL
)
URL = "amqp://guest:guest@localhost/"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the three files."""
    assert set(FILES) == {"orders.py", "client.py", "test_orders.py"}
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


async def test_service_and_client(files: Path, mesh_url: str) -> None:
    client = files / "client.py"
    client.write_text(client.read_text(encoding="utf-8").replace(URL, mesh_url), encoding="utf-8")
    assert f"serve orders:Orders --url {URL}" in README
    async with running(files, "serve", "orders:Orders", "--url", mesh_url) as command:
        await command.printed("serving orders at")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "client.py",
            cwd=files,
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0
        assert printed.decode() == "{'order_id': 'A-1', 'total': '12.50', 'currency': 'EUR'}\n"
        await command.printed("orders.created {'id': 1}")
        command.signal(signal.SIGTERM)
        assert await command.ended() == 0


def test_its_test(tmp_path: Path) -> None:
    suite = Pytest(tmp_path)
    for name in ("orders.py", "test_orders.py"):
        suite.write(name, FILES[name])
    assert passed(suite.run(ASYNCIO, settings=SETTINGS)) == ["test_orders.py::test_total"]
