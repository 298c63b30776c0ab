"""The public names: where they are loaded from, and what is not loaded without need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nuropb_rmq


def loaded_by(statement: str) -> set[str]:
    """Modules of this package that a statement loads in a new process."""
    program = f"{statement}\nimport sys; print(*sorted(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    return {each for each in told.stdout.decode().split() if each.startswith("nuropb_rmq")}


def test_each_name_has_one_home() -> None:
    """Type checkers read the imports, programs the table: they say the same."""
    tree = ast.parse(Path(nuropb_rmq.__file__).read_text(encoding="utf-8"))
    checked = next(each for each in tree.body if isinstance(each, ast.If))
    imports = {
        each.module: [alias.name for alias in each.names]
        for each in checked.body
        if isinstance(each, ast.ImportFrom)
    }
    homes = {module: list(names) for module, names in nuropb_rmq._HOMES.items()}
    assert homes == imports
    assert sorted(nuropb_rmq.__all__) == sorted(nuropb_rmq._HOME_OF)


@pytest.mark.parametrize("name", nuropb_rmq.__all__)
def test_each_name_is_there(name: str) -> None:
    assert getattr(nuropb_rmq, name) is not None
    assert name in dir(nuropb_rmq)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'nuropb_rmq' has no attribute 'Msh'"):
        nuropb_rmq.Msh  # type: ignore[attr-defined]  # noqa: B018


def test_the_package_alone_loads_nothing() -> None:
    assert loaded_by("import nuropb_rmq") == {"nuropb_rmq", "nuropb_rmq._version"}


def test_nodes_for_tests_load_nothing_of_the_rest() -> None:
    rest = {
        each
        for each in loaded_by("import nuropb_rmq.testing.pytest_plugin")
        if not each.startswith("nuropb_rmq.testing")
    }
    assert rest <= {
        "nuropb_rmq",
        "nuropb_rmq._version",
        "nuropb_rmq.exceptions",
        "nuropb_rmq.printable",
        "nuropb_rmq.shielded",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "from nuropb_rmq.transport import DEFAULT_GRACE, Transport",
        "from nuropb_rmq.mesh import Mesh",
        "from nuropb_rmq.config import QUORUM, AmqpUrl, Broker, TLSConfig, TransportConfig",
        "from nuropb_rmq.protocol import HEADER_TYPE, NUROPB_VERSION, MessageType, new_id",
        "import nuropb_rmq; nuropb_rmq.exceptions.NuropbException",
        "from nuropb_rmq.exceptions import NuropbException",
    ],
)
def test_modules_that_programs_may_know(statement: str) -> None:
    assert "nuropb_rmq" in loaded_by(statement)
