"""Runs pytest in a process of its own, as users do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
OURS = "nuropb_rmq.testing.pytest_plugin"
ASYNCIO = "pytest_asyncio.plugin"
ANYIO = "anyio.pytest_plugin"
STRICT, AUTO = (f"asyncio_mode = {mode}" for mode in ("strict", "auto"))
WITHIN = 120.0  # seconds


class Pytest:
    """A folder of tests, and what pytest says of them: `text`, and the outcomes by test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.text = ""

    def write(self, name: str, source: str) -> None:
        """Write a file."""
        (self._folder / name).write_text(dedent(source))

    def run(
        self, *plugins: str, settings: str = "", environment: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Run all tests with these plugins and ours; return outcomes by `file::test`."""
        scope = "asyncio_default_fixture_loop_scope = function"
        lines = dict.fromkeys(["[pytest]", scope, *settings.splitlines()])
        self.write("pytest.ini", "\n".join(lines))
        options = [part for plugin in (OURS, *plugins) for part in ("-p", plugin)]
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONWARNINGS": "",
            **(environment or {}),
        }
        if ASYNCIO not in plugins:  # it alone knows these settings
            options += ["-W", "ignore::pytest.PytestConfigWarning"]
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-vv", "-rA", *options],
            cwd=self._folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        self.text = ran.stdout
        return self._outcomes()

    def _outcomes(self) -> dict[str, str]:
        found = {}
        for line in self.text.partition("short test summary info")[2].splitlines():
            outcome, _, rest = line.partition(" ")
            if outcome in {"PASSED", "FAILED", "ERROR", "SKIPPED"}:
                found[rest.partition(" - ")[0]] = outcome.lower()
        return found


def passed(outcomes: Mapping[str, str]) -> list[str]:
    """Return the names of the tests that passed; fail unless all did."""
    if set(outcomes.values()) != {"passed"}:
        pytest.fail(f"not all passed: {outcomes}")
    return list(outcomes)
