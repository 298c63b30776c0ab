"""A folder with a service in it."""

from __future__ import annotations

import compileall
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuropb_rmq.testing import RabbitMQNode

from ..faults import console
from ..faults.conftest import mortal_mesh
from .command import ROOT, SERVICE
from .doctoring import Deployment

__all__ = ["mortal_mesh"]


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """Compile the package, once for all processes: the environment may say that none is to."""
    compileall.compile_dir(ROOT / "nuropb_rmq", quiet=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the command to run in: it holds `shop.py`."""
    (tmp_path / "shop.py").write_text(SERVICE, encoding="utf-8")
    return tmp_path


QUICK = "collect_statistics_interval = 200"
"""Milliseconds, in place of 5 s."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the broker: a node that is started for one test stays for the others."""
    for item in items:
        names = getattr(item, "fixturenames", [])
        for node in {"quick_node", "tls_node"}.intersection(names):
            item.add_marker("broker")
            names.remove(node)
            names.insert(0, node)


@pytest.fixture(scope="session")
def quick_node() -> Iterator[RabbitMQNode]:
    """A node that counts often: doctor sees what was done a moment ago."""
    with RabbitMQNode(extra_config=QUICK) as node:
        console.set_milliseconds(node, quorum_tick_interval=200)
        yield node


@pytest.fixture
def deployment(quick_node: RabbitMQNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A virtual host in which nothing is yet."""
    vhost = f"test-{secrets.token_hex(6)}"
    made = Deployment(quick_node, quick_node.amqp_url + vhost)
    monkeypatch.setenv("NUROPB_RMQ_URL", made.url)
    quick_node.api("PUT", f"/api/vhosts/{vhost}")
    console.permit(quick_node, made.url, "guest")
    yield made
    quick_node.api("DELETE", f"/api/vhosts/{vhost}")


@pytest.fixture
async def deployed(deployment: Deployment) -> Deployment:
    """A virtual host with all that tests.cli.deployed:Orders needs, but nobody serves."""
    await deployment.make()
    return deployment
