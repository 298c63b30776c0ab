"""docs/guides/failures.md: its service and its runbook run, as an operator would run them."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nuropb_rmq import Mesh, NuropbRemoteError, NuropbValidationError
from nuropb_rmq.testing import MemoryMesh

from ..cli.command import ran
from ..support import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "failures.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The files of the page."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    yield {name: importlib.import_module(name) for name in FILES}
    for name in FILES:
        del sys.modules[name]


class Carrier:
    """Away, until it is back."""

    def __init__(self) -> None:
        self.away: bool = True
        self.shipped: list[str] = []

    async def ship(self, order_id: str) -> None:
        """Ship an order."""
        if self.away:
            raise ConnectionError(f"no route to the carrier for {order_id}")
        self.shipped.append(order_id)

    async def cancel(self, order_id: str) -> None:
        """Do nothing."""


Prepared = tuple[Carrier, str]
"""A carrier that is back, and the URL of the mesh; three orders are dead letters."""


@pytest.fixture
async def prepared(modules: dict[str, ModuleType], mesh_url: str) -> AsyncIterator[Prepared]:
    """Three orders have failed."""
    carrier = Carrier()
    shipping: Any = modules["shipping"]
    mesh: Mesh = shipping.mesh(mesh_url, carrier)
    assert list(mesh.transport.config.retry_delays) == [1, 5, 30, 120]
    async with mesh:
        for number in range(3):
            await mesh.command("shipping", "ship", {"order_id": f"A-{number}"}, ttl=1)
        await eventually(lambda: mesh.transport.state.up)
        await _letters(modules["runbook"], mesh_url, 3)
        carrier.away = False
        yield carrier, mesh_url
        await eventually(lambda: sorted(carrier.shipped) == ["A-0", "A-1", "A-2"])


async def test_an_error_that_callers_expect(
    modules: dict[str, ModuleType], memory_mesh: MemoryMesh
) -> None:
    mesh = await memory_mesh(modules["stock"].Stock())
    assert await mesh.request("stock", "take", {"item": "lamp", "count": 1}) == 1
    with pytest.raises(NuropbValidationError, match="1 are left") as refused:
        await mesh.request("stock", "take", {"item": "lamp", "count": 2})
    assert getattr(refused.value, "error", None) == "SoldOutError"
    with pytest.raises(NuropbRemoteError) as failed:
        await mesh.request("stock", "take", {"item": "bed", "count": 1})
    assert type(failed.value) is NuropbRemoteError


async def test_the_runbook(prepared: Prepared) -> None:
    """Each line of it, as an operator would type it."""
    _, url = prepared
    (block,) = re.findall(r"^```sh\n(nuropb-rmq dlq shipping\n.*?)^```$", PAGE, re.M | re.DOTALL)
    said = []
    for line in block.splitlines():
        _, *arguments = shlex.split(line)
        status, out, err = await ran(*arguments, url=url, width=120)
        assert (status, err) == (0, "")
        said.append(out)
    groups, letters, would, done = said
    assert "    3   command ship   ConnectionError: no route to the carrier for # " in groups
    assert "ConnectionError: no route to the carrier for A-0" in letters
    assert '"order_id": "A-0"' in letters
    assert would == "shipping: 3 dead letters would be replayed\n"
    assert done == "shipping: 3 dead letters replayed\n"


async def test_the_same_from_a_program(
    modules: dict[str, ModuleType], prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    _, url = prepared
    capsys.readouterr()
    runbook: Any = modules["runbook"]
    await runbook.main(url)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "3 rejected ship ConnectionError no route to the carrier for #"
    before, brace, payload = said[1].partition("{")
    assert before.endswith("no route to the carrier for A-0 ")
    assert ast.literal_eval(brace + payload)["params"] == {"order_id": "A-0"}
    assert said[2:] == [
        "3 of 3 would go back; stay: {}",
        "3 went back; all were looked at",
    ]


async def _letters(runbook: Any, url: str, count: int) -> None:
    """Wait for so many dead letters."""
    found = -1
    async with runbook.DeadLetters(url, "shipping") as letters:
        for _ in range(200):
            found = sum(group.count for group in await letters.groups())
            if found == count:
                return
            await asyncio.sleep(0.05)
    raise AssertionError(f"expected {count} dead letters, got {found}")
