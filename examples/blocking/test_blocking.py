"""Tests of the programs in this folder. They need no broker, and no event loop.

python -m pytest examples/blocking
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from typing import Any

import pytest

from nuropb_rmq import blocking
from nuropb_rmq.testing import MemoryBroker

from ..orders.service import Orders
from .wsgi import Front


@pytest.fixture
def mesh(mesh_broker: MemoryBroker) -> Iterator[blocking.Mesh]:
    """A mesh that serves the orders, and may call them as well."""
    with blocking.Mesh(mesh_broker.url, service=Orders()) as made:
        yield made


class Browser:
    """Calls the application as a server does."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def ask(self, method: str, path: str, query: str = "") -> tuple[int, Any]:
        """Status and JSON."""
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
        told: list[str] = []
        body = b"".join(self._front(environ, lambda status, _: told.append(status)))
        return int(told[0].split()[0]), json.loads(body)


def test_the_front(mesh: blocking.Mesh, mesh_broker: MemoryBroker) -> None:
    browser = Browser(Front(mesh))
    status, order = browser.ask("POST", "/orders", "item=lamp&count=2")
    assert (status, order["item"], order["count"]) == (201, "lamp", 2)
    assert browser.ask("GET", f"/orders/{order['order_id']}") == (200, order)
    assert browser.ask("GET", f"/orders/{order['order_id']}/total") == (200, {"total": 59.8})
    assert len(mesh_broker.events("orders.placed")) == 1


def test_its_errors(mesh: blocking.Mesh) -> None:
    browser = Browser(Front(mesh))
    assert browser.ask("POST", "/orders", "item=yacht")[0] == 422
    assert browser.ask("POST", "/orders", "item=lamp&count=many")[0] == 422
    assert browser.ask("PUT", "/orders")[0] == 404
    assert browser.ask("GET", "/orders/none") == (404, {"detail": "there is no order none"})
    mesh.stop()
    status, told = browser.ask("GET", "/orders/none")
    assert (status, told["detail"]) == (503, "the orders service cannot be reached")


def test_the_notebook(
    mesh: blocking.Mesh,
    mesh_broker: MemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AMQP_URL", mesh_broker.url)
    runpy.run_module("examples.blocking.notebook")
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if not line.startswith("packing ")]  # by the service
    assert "place" in lines[0].split()
    assert lines[-5:] == [
        *("lamp 2 False", "chair 1 False", "148.80"),
        *("LookupError: there is no order none", "True"),
    ]
