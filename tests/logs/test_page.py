"""docs/guides/logging.md: its recipes run, each as the configuration of a program of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "logging.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
JSON = ("json_lines", "python_json_logger", "with_structlog")

PROGRAM = """
import asyncio, sys
from importlib import import_module
from nuropb_rmq import Mesh, NuropbRemoteError

class Orders:
    _service_name = "orders"

    async def cancel(self, order_id: str) -> None:
        raise LookupError(order_id)

async def main():
    async with Mesh("memory://logs", service=Orders(), instance_id="one") as mesh:
        try:
            await mesh.request("orders", "cancel", {"order_id": "A-1"})
        except NuropbRemoteError:
            pass

import_module(sys.argv[1]).configure()
asyncio.run(main())
"""


def logged(recipe: str, folder: Path) -> list[str]:
    """The lines of a program that configures its logs by a recipe, and whose handler fails."""
    (folder / f"{recipe}.py").write_text(RECIPES[recipe], encoding="utf-8")
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, recipe],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.returncode, told.stdout) == (0, ""), told.stderr
    return told.stderr.splitlines()


def test_all_recipes_are_run() -> None:
    assert sorted(RECIPES) == sorted((*JSON, "text_lines"))


@pytest.mark.parametrize("recipe", JSON)
def test_json_lines(recipe: str, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in logged(recipe, tmp_path)]
    for line in lines:
        assert line["nuropb_service"] == "orders"
        assert line["nuropb_instance_id"] == "one"
    (failed,) = (line for line in lines if "orders.cancel failed" in str(line))
    assert failed["nuropb_method"] == "cancel"
    assert failed["nuropb_type"] == "request"
    assert failed["nuropb_correlation_id"] in str(failed.get("message", failed.get("event")))
    assert failed["nuropb_trace_id"]
    assert failed["nuropb_delivery_tag"] == 2  # a request for the description came first
    assert "LookupError: A-1" in str(failed)


def test_text_lines(tmp_path: Path) -> None:
    (failed,) = (line for line in logged("text_lines", tmp_path) if "orders.cancel failed" in line)
    assert re.fullmatch(r"ERROR orders (\w+) orders.cancel failed with .* \1, trace .*", failed)


def test_every_field_has_its_row() -> None:
    """Those that a ServiceLog is given, by name or by a message, and no others."""
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "nuropb_rmq").rglob("*.py")
    )
    given = set(re.findall(r'"(type|correlation_id|trace_id|delivery_tag)": self\.', source))
    given |= {"service", "instance_id", "connection", "seconds", "method", "topic"}
    rows = re.findall(r"^\| (`nuropb_.*?) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`nuropb_(\w+)`", row)} == given
