"""opentelemetry-instrument turns it on for a program that knows nothing of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from opentelemetry import trace

from nuropb_rmq.telemetry.instrumentor import NuropbInstrumentor

from ..seams import observed
from .services import Stock
from .support import Recorded, Traced

ROOT = Path(__file__).parents[2]
GROUP = "opentelemetry_instrumentor"


def as_installed(folder: Path) -> None:
    """Say what our entry point is, as an installation of this checkout would."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (entry,) = project["entry-points"][GROUP].items()
    about = folder / "this_checkout-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: this-checkout\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{entry[0]} = {entry[1]}\n")


def test_a_real_program(tmp_path: Path) -> None:
    as_installed(tmp_path)
    program = Path(sys.executable).with_name("opentelemetry-instrument")
    done = subprocess.run(
        [
            str(program),
            *("--traces_exporter", "console", "--metrics_exporter", "console"),
            *("--logs_exporter", "none"),
            *(sys.executable, "-m", "tests.telemetry.program"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    kinds = re.findall(r'"kind": "SpanKind\.(\w+)"', done.stdout)
    assert sorted(kinds) == ["CLIENT", "CONSUMER", "PRODUCER", "PRODUCER", "SERVER"], done.stderr
    assert len(set(re.findall(r'"trace_id": "(\w+)"', done.stdout))) == 1
    assert '"name": "rpc.client.call.duration"' in done.stdout
    assert "Traceback" not in done.stderr


async def test_it_is_for_each_new_mesh_until_it_ends(in_memory: Traced, recorded: Recorded) -> None:
    in_memory.instruments = False
    before = await in_memory.client()
    instrumentor = NuropbInstrumentor()
    instrumentor.instrument(
        tracer_provider=recorded.tracer_provider, meter_provider=recorded.meter_provider
    )
    try:
        await in_memory.serve(Stock())
        client = await in_memory.client()
        await client.request("stock", "count", {"number": 1})
        await recorded.whole(5)
        assert not observed(before.transport)
    finally:
        instrumentor.uninstrument()
    assert not observed(client.transport)
    after = await in_memory.client()
    await after.request("stock", "count", {"number": 1})
    assert len(recorded.spans) == 5
    assert trace.get_current_span() is trace.INVALID_SPAN
