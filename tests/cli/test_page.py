"""docs/operations/command.md: its five minutes, as they stand there, but for the broker."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from .command import ROOT, environment, running, typed

PAGE = (ROOT / "docs" / "operations" / "command.md").read_text(encoding="utf-8")
FIRST = PAGE.partition("## In five minutes")[2].partition("\n## ")[0]
((NAME, PROGRAM),) = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", FIRST, re.M | re.S)
BEFORE, AFTER = re.findall(r"^```sh\n(.*?)^```$", FIRST, re.M | re.S)


async def test_five_minutes(tmp_path: Path, mesh_url: str) -> None:
    (tmp_path / NAME).write_text(PROGRAM, encoding="utf-8")
    assert "`nuropb-rmq serve orders:Orders`" in FIRST

    async def enter(line: str) -> str:
        command = f'nuropb-rmq() {{ "{sys.executable}" -m nuropb_rmq "$@"; }}'
        return await typed(f"{command}\n{line}", environment(mesh_url), tmp_path)

    request, command, *look = BEFORE.splitlines()
    async with running(tmp_path, "serve", "orders:Orders", url=mesh_url) as serve:
        await serve.printed("serving orders at")
        assert await enter(request) == "12.5\n"
        assert "the broker has it" in await enter(command)
        await serve.printed("orders.ship failed with FileNotFoundError")
        groups, listed = [await enter(line) for line in look]
        assert "orders: 1 dead letter in 1 group" in groups
        assert "command ship" in listed
        (_, name) = re.findall(r"show (orders) (\w+)", groups)[0]
        assert "orders.py" in await enter(f"nuropb-rmq dlq show orders {name}")
        mend, replay, again = AFTER.splitlines()
        await enter(mend)
        assert await enter(replay) == "orders: 1 dead letter replayed\n"
        await serve.printed("shipped by van")
        assert await enter(again) == "orders: no dead letters\n"
