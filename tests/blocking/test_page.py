"""docs/guides/blocking.md: all its examples run, as a user would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq import blocking

from ..testing.support import Pytest, passed
from .support import ROOT, WITHIN

PAGE = (ROOT / "docs" / "guides" / "blocking.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(# ([\w.]+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {name: text for _, text, name in BLOCK.findall(PAGE)}
URL = "amqp://guest:guest@localhost/"
DJANGO = """
class HttpRequest: pass
class JsonResponse(dict): pass
"""


class Orders:
    """The service that the page calls."""

    _service_name = "orders"

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    async def place(self, item: str, count: int = 1) -> dict[str, Any]:
        """A new order."""
        order_id = f"A-{len(self._counts)}"
        self._counts[order_id] = count
        return {"order_id": order_id, "item": item, "count": count}

    async def total(self, order_id: str) -> float:
        """Return the price."""
        if order_id not in self._counts:
            raise LookupError(f"there is no order {order_id}")
        return self._counts[order_id] * 10.0

    async def pack(self, order_id: str) -> None:
        """Pack it."""


@pytest.fixture
def folder(tmp_path: Path, mesh_url: str) -> Iterator[Path]:
    """All files of the page; the service runs."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace(URL, mesh_url))
    (tmp_path / "django").mkdir()
    (tmp_path / "django" / "http.py").write_text(DJANGO)
    with blocking.Mesh(mesh_url, service=Orders()):
        yield tmp_path


def printed(folder: Path, *arguments: str) -> str:
    """Run Python with these arguments; return what it prints."""
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WITHIN * 2,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_each_block_is_a_file() -> None:
    assert len(re.findall(r"^```\w", PAGE, re.MULTILINE)) == len(FILES)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("script.py", "lamp\nLookupError: there is no order none\n"),
        ("threads.py", "5050\n"),
        ("mesh.py", ""),
        ("worker.py", "550.0\n"),
        ("notebook.py", "20.0\n"),
    ],
)
def test_its_programs(folder: Path, name: str, says: str) -> None:
    assert printed(folder, name) == says


def test_its_view_in_a_worker_of_gunicorn(folder: Path) -> None:
    program = (
        "import gunicorn_conf as hooks, views\n"
        "hooks.post_fork(None, None)\n"
        "print(views.place(None, 'lamp')['total'])\n"
        "hooks.worker_exit(None, None)\n"
    )
    assert printed(folder, "-c", program) == "10.0\n"


def test_its_test(tmp_path: Path) -> None:
    suite = Pytest(tmp_path)
    suite.write("test_views.py", FILES["test_views.py"])
    assert passed(suite.run()) == ["test_views.py::test_place"]


def test_no_block_is_left_out() -> None:
    tried = {"script.py", "threads.py", "mesh.py", "worker.py", "notebook.py", "views.py"}
    assert set(FILES) == tried | {"gunicorn_conf.py", "test_views.py"}


def test_the_readme_leads_to_it() -> None:
    assert "(docs/guides/blocking.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
