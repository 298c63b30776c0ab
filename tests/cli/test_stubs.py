"""`stubs`: what it writes type-checks, and calls through it work; of old peers' services, too."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from examples.orders.service import Orders
from examples.orders.subscriber import Audit
from nuropb_rmq import Mesh, TransportConfig, configure

from .command import environment, ran, stubs


@dataclass
class Line:
    item: str
    price: Decimal
    under: list[Line]


class Shop:
    """A service with every kind of type."""

    _service_name = "shop"

    async def price(self, lines: list[Line], day: datetime.date | None = None) -> dict[str, Line]:
        """Price what is ordered."""
        return {f"{day}": Line(lines[0].item, Decimal("1.50"), lines)}


async def type_checked(folder: Path) -> str:
    """Return the output of mypy for a folder."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir=/dev/null"),
        str(folder),
        env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )  # fmt: skip
    out, _ = await process.communicate()
    return out.decode()


async def test_they_type_check_and_are_called(tmp_path: Path, mesh_url: str) -> None:
    services: Sequence[object] = (Shop(), Orders(), Audit())
    for service in services:
        async with Mesh(mesh_url, service=service) as mesh:
            module = await stubs(tmp_path, mesh.service_name, mesh_url)
            if isinstance(service, Audit):
                continue  # it has no methods
            interface: Any = getattr(module, mesh.service_name.title())
            await mesh.check(interface)
            client: Any = mesh.client(interface)
            if isinstance(service, Shop):
                line = {"item": "lamp", "price": Decimal(2), "under": []}
                day = datetime.date(2026, 1, 2)
                priced = await client.price(lines=[line], day=day)
                assert priced == {
                    "2026-01-02": {"item": "lamp", "price": Decimal("1.50"), "under": [line]}
                }
            if isinstance(service, Orders):
                order = await client.place(item="lamp", count=2)
                assert await client.total(order["order_id"]) == 59.80
    assert await type_checked(tmp_path) == ""


async def test_a_name_for_the_class(tmp_path: Path, mesh_url: str) -> None:
    async with Mesh(mesh_url, service=Shop(), service_name="order-desk"):
        status, out, _ = await ran("stubs", "order-desk", url=mesh_url)
        assert status == 0
        assert "class OrderDesk(Protocol):" in out
        status, out, _ = await ran(
            "stubs", "order-desk", "--class", "Desk", "--blocking", url=mesh_url
        )
        assert status == 0
        assert "class Desk(Protocol):" in out
        assert "    def price(" in out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["stubs", "nobody"], 1, "there is no service 'nobody' at amqp://guest:***@127.0.0.1:"),
        (["stubs", "orders", "--class", "class"], 2, "--class: expected a name of Python, got"),
        (["stubs", "orders", "--url", "http://x"], 2, "amqp_url"),
        (
            ["stubs", "orders", "--url", "amqp://guest:hunter2@127.0.0.1:1/"],
            1,
            "connection refused",
        ),
        (["stubs", "a\nb"], 1, "there is no service 'a\\nb' at "),
    ],
)
async def test_one_readable_line(
    mesh_url: str, arguments: list[str], status: int, says: str
) -> None:
    await configure(TransportConfig(amqp_url=mesh_url, service_name="shop"))
    ended, out, err = await ran(*arguments, url=mesh_url)
    assert (ended, out) == (status, "")
    (line,) = err.splitlines()
    assert line.startswith("nuropb-rmq: ")
    assert says in line
    assert "hunter2" not in line
