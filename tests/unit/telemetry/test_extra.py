"""Without OpenTelemetry: what can be imported, and what the others say."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = "import sys; sys.modules['opentelemetry'] = None\n"


def run(program: str) -> str:
    """Return the last words of a program; "" when it ends well."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    return done.stderr.strip().rpartition("\n")[2]


def test_the_package_needs_no_extra() -> None:
    assert run(f"{WITHOUT}import nuropb_rmq.telemetry, nuropb_rmq.telemetry.names") == ""
    assert run("import sys, nuropb_rmq.telemetry; assert 'opentelemetry' not in sys.modules") == ""


@pytest.mark.parametrize("name", ["instrument", "Links"])
def test_a_name_that_needs_it(name: str) -> None:
    said = run(f"{WITHOUT}from nuropb_rmq.telemetry import {name}")
    assert said.startswith(
        "ModuleNotFoundError: nuropb_rmq.telemetry.instrument needs OpenTelemetry: "
        "pip install 'nuropb-rmq-aio[otel]'"
    )


def test_the_instrumentor_needs_more() -> None:
    without = "import sys; sys.modules['opentelemetry.instrumentation'] = None\n"
    said = run(f"{without}import nuropb_rmq.telemetry.instrumentor")
    assert said.startswith("ModuleNotFoundError: nuropb_rmq.telemetry.instrumentor needs")


def test_a_name_that_is_not_there() -> None:
    said = run("import nuropb_rmq.telemetry as t; t.nothing")
    assert said == "AttributeError: module 'nuropb_rmq.telemetry' has no attribute 'nothing'"
