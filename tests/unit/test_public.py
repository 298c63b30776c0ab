"""The public names: where they are loaded from, and what is not loaded without need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nuropb_rmq
from nuropb_rmq import testing


def loaded_by(statement: str) -> set[str]:
    """Modules of this package that a statement loads in a new process."""
    program = f"{statement}\nimport sys; print(*sorted(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    return {each for each in told.stdout.decode().split() if each.startswith("nuropb_rmq")}


@pytest.mark.parametrize("package", [nuropb_rmq, testing])
def test_each_name_has_one_home(package: Any) -> None:
    """Type checkers read the imports, programs the table: they say the same."""
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    checked = next(each for each in tree.body if isinstance(each, ast.If))
    imports = {
        each.module: [alias.name for alias in each.names]
        for each in checked.body
        if isinstance(each, ast.ImportFrom)
    }
    homes = {module: names.split() for module, names in package._HOMES.items()}
    assert homes == imports
    assert sorted(package.__all__) == sorted(package._HOME_OF)


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
        for each in loaded_by(
            "import nuropb_rmq.testing.pytest_plugin\n"
            "from nuropb_rmq.testing import RabbitMQCluster, RabbitMQNode, memory_broker"
        )
        if not each.startswith("nuropb_rmq.testing")
    }
    assert rest <= {
        "nuropb_rmq",
        "nuropb_rmq._version",
        "nuropb_rmq.exceptions",
        "nuropb_rmq.printable",
        "nuropb_rmq.waiting",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "from nuropb_rmq.transport import DEFAULT_GRACE, Transport",
        "from nuropb_rmq.mesh import Mesh",
        "from nuropb_rmq.blocking import Mesh",
        "from nuropb_rmq.config import QUORUM, AmqpUrl, Broker, TLSConfig, TransportConfig",
        "from nuropb_rmq.protocol import HEADER_TYPE, NUROPB_VERSION, MessageType, new_id",
        "import nuropb_rmq; nuropb_rmq.exceptions.NuropbException",
        "from nuropb_rmq.exceptions import NuropbException",
    ],
)
def test_modules_that_programs_may_know(statement: str) -> None:
    assert "nuropb_rmq" in loaded_by(statement)


def test_the_pytest_plugin_loads_no_broker() -> None:
    """It is loaded in every run of pytest."""
    loaded = loaded_by("import nuropb_rmq.testing.pytest_plugin")
    assert loaded == {
        "nuropb_rmq",
        "nuropb_rmq._version",
        "nuropb_rmq.testing",
        "nuropb_rmq.testing._runners",
        "nuropb_rmq.testing.pytest_plugin",
    }


def test_the_names_of_testing() -> None:
    for name in testing.__all__:
        assert getattr(testing, name) is not None
        assert name in dir(testing)
    with pytest.raises(AttributeError, match=r"'nuropb_rmq\.testing' has no attribute 'Node'"):
        testing.Node  # type: ignore[attr-defined]  # noqa: B018
