"""Measure the time of tests that have a mesh of their own.

    python -m benchmarks.thousand_tests [--tests 1000]

Writes so many tests, each of which starts a service on a broker in memory and calls it once, runs
pytest on them in a new process, and on as many empty tests: what pytest takes by itself.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SETTINGS: Final = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""
SERVICE: Final = """\
class Orders:
    _service_name = "orders"

    async def get(self, order_id: str) -> str:
        return order_id

"""
EMPTY: Final = """
async def test_{n}():
    pass
"""
WITH_A_MESH: Final = """
async def test_{n}(memory_mesh):
    mesh = await memory_mesh(Orders())
    assert await mesh.request("orders", "get", {{"order_id": "A-{n}"}}) == "A-{n}"
"""
# What every project has, and no other plugin.
PLUGINS: Final = ("nuropb_rmq.testing.pytest_plugin", "pytest_asyncio.plugin")


def seconds(folder: Path, test: str, count: int) -> tuple[float, float]:
    """Run so many of these tests; return wall time and CPU."""
    (folder / "pytest.ini").write_text(SETTINGS)
    (folder / "test_it.py").write_text(SERVICE + "\n".join(test.format(n=n) for n in range(count)))
    plugins = [part for plugin in PLUGINS for part in ("-p", plugin)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else all is compiled in every run
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def main() -> None:
    """Print the figures; the first run of each, which compiles, does not count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=1000)
    count = parser.parse_args().tests
    with tempfile.TemporaryDirectory() as folder:
        for name, test in (("empty", EMPTY), ("with a mesh", WITH_A_MESH)):
            seconds(Path(folder), test, 1)
            wall, cpu = min(seconds(Path(folder), test, count) for _ in range(3))
            print(f"{count} tests, {name}: {wall:.1f} s, {cpu:.1f} s of CPU")


if __name__ == "__main__":
    main()
