"""docs/operations/command.md: its five minutes, as they stand there, but for the broker."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from .command import ROOT, environment, running

PAGE = (ROOT / "docs" / "operations" / "command.md").read_text(encoding="utf-8")
FIRST = PAGE.partition("## In five minutes")[2].partition("\n## ")[0]
((NAME, PROGRAM),) = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", FIRST, re.M | re.S)
BEFORE, AFTER = re.findall(r"^```sh\n(.*?)^```$", FIRST, re.M | re.S)


async def test_five_minutes(tmp_path: Path, mesh_url: str) -> None:
    (tmp_path / NAME).write_text(PROGRAM, encoding="utf-8")
    assert "`nuropb-rmq serve orders:Orders`" in FIRST

    async def typed(line: str) -> str:
        shell = f'nuropb-rmq() {{ "{sys.executable}" -m nuropb_rmq "$@"; }}\n{line}'
        process = await asyncio.create_subprocess_exec(
            *("bash", "-ec", shell),
            cwd=tmp_path,
            env=environment(mesh_url),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    request, command, *look = BEFORE.splitlines()
    async with running(tmp_path, "serve", "orders:Orders", url=mesh_url) as serve:
        await serve.printed("serving orders at")
        assert await typed(request) == "12.5\n"
        assert "the broker has it" in await typed(command)
        await serve.printed("orders.ship failed with FileNotFoundError")
        groups, listed = [await typed(line) for line in look]
        assert "orders: 1 dead letter in 1 group" in groups
        assert "command ship" in listed
        (_, name) = re.findall(r"show (orders) (\w+)", groups)[0]
        assert "orders.py" in await typed(f"nuropb-rmq dlq show orders {name}")
        mend, replay, again = AFTER.splitlines()
        await typed(mend)
        assert await typed(replay) == "orders: 1 dead letter replayed\n"
        await serve.printed("shipped by van")
        assert await typed(again) == "orders: no dead letters\n"
