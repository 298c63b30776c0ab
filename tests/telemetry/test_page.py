"""docs/guides/telemetry.md: its example runs, and its tables are what the code does."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from nuropb_rmq import Mesh
from nuropb_rmq.telemetry.counts import METRICS

from ..support import eventually
from . import registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "telemetry.md").read_text(encoding="utf-8")
NAMES = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)`")
EXPORTERS = {
    "metric_exporter": "from opentelemetry.sdk.metrics.export import ConsoleMetricExporter as {}",
    "trace_exporter": "from opentelemetry.sdk.trace.export import ConsoleSpanExporter as {}",
}
"""In place of the page's, which need a collector."""


async def test_the_example(mesh_url: str, tmp_path: Path) -> None:
    found = re.search(r"^```python\n(# service\.py\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    folder = tmp_path / "opentelemetry" / "exporter" / "otlp" / "proto" / "http"
    folder.mkdir(parents=True)
    for module, name in re.findall(r"http\.(\w+) import (\w+)", found[1]):
        (folder / f"{module}.py").write_text(EXPORTERS[module].format(name))
    text = found[1].replace("amqp://guest:guest@localhost/", mesh_url)
    (tmp_path / "service.py").write_text(text)
    program = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "service.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        async with Mesh(mesh_url) as client:
            await eventually(lambda: program.poll() is None)
            total = await _patiently(client)
        program.send_signal(signal.SIGTERM)
        said, _ = await asyncio.to_thread(program.communicate, timeout=30)
    finally:
        program.kill()
        await asyncio.to_thread(program.wait)
    assert (total, program.returncode) == (42, 0)
    assert '"name": "orders/get_total"' in said
    assert '"name": "rpc.server.call.duration"' in said


async def _patiently(client: Mesh) -> int:
    """Call it, as soon as it is there."""
    for _ in range(200):
        try:
            total: int = await client.request("orders", "get_total", {"order_id": "7"}, timeout=5)
        except Exception:  # noqa: BLE001 - it has not started yet
            await asyncio.sleep(0.1)
        else:
            return total
    raise AssertionError("no service for 20 s")


def rows(title: str) -> str:
    """The table of a section."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return "\n".join(line for line in section.splitlines() if line.startswith("|"))


def test_attributes() -> None:
    told = set(NAMES.findall(rows("One trace")))
    made = set(registry.MESSAGE) | set(registry.CALL) | registry.OWN_OF_MESSAGES
    assert told == made | {"messaging.rabbitmq.message.delivery_tag"}


def test_metrics() -> None:
    units = {name: unit for name, (unit, _) in registry.METRICS.items()} | registry.OWN_METRICS
    found = re.findall(r"^\| `(\S+)` \| ([\w -]+) \| (\S+) \|", rows("Metrics"), re.MULTILINE)
    assert {name: unit for name, _, unit in found} == units
    kinds = {"counter": "counter", "up-down counter": "level", "gauge": "greatest"}
    said = {name: kinds[kind] for name, kind, _ in found if kind != "histogram"}
    assert said == {metric.name: metric.sort.value for metric in METRICS}
