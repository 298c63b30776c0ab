"""docs/guides/testing.md: all its examples run, as a user would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .support import ANYIO, ASYNCIO, ROOT, Pytest, passed

PAGE = (ROOT / "docs" / "guides" / "testing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(# ([\w.]+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {name: text for _, text, name in BLOCK.findall(PAGE)}
SETTINGS = FILES.pop("pytest.ini").partition("[pytest]\n")[2]
APART = ("test_anyio.py", "test_rabbitmq.py")


def write(suite: Pytest, *names: str) -> None:
    for name in names:
        suite.write(name, FILES[name])


def test_each_block_is_a_file() -> None:
    assert len(re.findall(r"^```\w", PAGE, re.MULTILINE)) == len(FILES) + 1
    assert set(APART) < set(FILES)


def test_its_examples(suite: Pytest) -> None:
    names = [name for name in FILES if name not in APART]
    write(suite, *names)
    outcomes = suite.run(ASYNCIO, settings=SETTINGS)
    tests = sum(FILES[name].count("def test_") for name in names)
    assert len(passed(outcomes)) == tests, suite.text


def test_its_example_in_strict_mode(suite: Pytest) -> None:
    write(suite, "shop.py", "test_strict.py")
    assert passed(suite.run(ASYNCIO, ANYIO)) == ["test_strict.py::test_a_call"]


def test_its_example_with_anyio(suite: Pytest) -> None:
    write(suite, "shop.py", "test_anyio.py")
    assert passed(suite.run(ANYIO)) == ["test_anyio.py::test_a_call"]
    assert passed(suite.run(ASYNCIO, ANYIO)) == ["test_anyio.py::test_a_call"]


def test_its_example_on_a_broker(suite: Pytest, mesh_url: str) -> None:
    write(suite, "shop.py", "test_rabbitmq.py")
    there = {"NUROPB_RMQ_TEST_URL": mesh_url}
    outcomes = suite.run(ASYNCIO, settings=SETTINGS, environment=there)
    assert passed(outcomes) == ["test_rabbitmq.py::test_a_call"]


@pytest.mark.parametrize("name", ["memory_mesh", "mesh_broker", "mesh_url", "rabbitmq_node"])
def test_it_names_each_fixture(name: str) -> None:
    assert f"`{name}`" in PAGE
    plugin = Path(ROOT, "nuropb_rmq/testing/pytest_plugin.py").read_text(encoding="utf-8")
    assert f"def {name}(" in plugin
