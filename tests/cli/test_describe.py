"""`services` and `describe`: who is there, and what they offer; and an AsyncAPI document."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq import Mesh, TransportConfig, mesh_event, publish_to_mesh
from nuropb_rmq.cli.asyncapi import document
from nuropb_rmq.testing import RabbitMQNode

from ..encrypting import private_key
from . import golden
from .command import ROOT, ran

ASYNCAPI = ROOT / "tests" / "data" / "asyncapi"
ERROR = 0  # the severity of a diagnostic
HOSTILE = "\x1b[2J</script>\n$ref #/x {a} \u202e"


class Speed(StrEnum):
    NORMAL = "normal"
    EXPRESS = "express"


@dataclass
class Line:
    item: str
    count: int = 1
    parts: tuple[Line, ...] = ()
    size: tuple[int, int] | None = None


class Orders:
    """Takes orders, and ships them."""

    _service_name = "orders"
    _version = "2.1"
    _private_key = private_key("orders")

    async def get_total(self, order_id: str) -> float:
        """Return the total of an order.

        In euros.
        """
        return 12.5

    async def place(self, lines: list[Line], speed: Speed = Speed.NORMAL) -> dict[str, Line]:
        return {}

    @publish_to_mesh(requires_encryption=True)
    async def pay(self, card: str) -> None:
        """Pay."""

    async def note(self, text: str | None = None, **more: Any) -> Any: ...

    @mesh_event("orders.cancelled", "customers.*")
    async def on_cancelled(self, event: dict[str, Any]) -> None: ...


@pytest.fixture
async def orders(mesh_url: str) -> AsyncIterator[Mesh]:
    """A service that runs."""
    async with Mesh(mesh_url, service=Orders()) as mesh:
        yield mesh


@pytest.fixture
def api(rabbitmq_node: RabbitMQNode) -> tuple[str, str]:
    """The option that names the management API."""
    return "--management-url", rabbitmq_node.management_url


async def test_services(orders: Mesh, mesh_url: str, api: tuple[str, str]) -> None:
    async def listed() -> list[dict[str, Any]]:
        status, out, err = await ran("services", "--json", *api, url=mesh_url)
        assert (status, err) == (0, "")
        found: list[dict[str, Any]] = json.loads(out)
        return found

    async with Mesh(mesh_url, service=Orders(), service_name="billing"):
        found = await listed()
        while [each["instances"] for each in found] != [1, 1]:  # the broker counts every 5 s
            found = await listed()
    assert [each["name"] for each in found] == ["billing", "orders"]
    assert found[1] == {
        "name": "orders", "instances": 1, "waiting": 0, "in_hand": 0, "dead_letters": 0,
        "type": "classic",
    }  # fmt: skip
    status, out, _ = await ran("services", *api, url=mesh_url)
    assert status == 0
    header, _, *rows = out.splitlines()
    assert header.split() == ["service", "instances", "waiting", "in", "hand", "dead", "letters",
                              "queue"]  # fmt: skip
    assert [row.split()[0] for row in rows] == ["billing", "orders"]


async def test_no_services_and_no_management_api(
    mesh_url: str, api: tuple[str, str], rabbitmq_node: RabbitMQNode
) -> None:
    status, out, err = await ran("services", *api, url=mesh_url)
    assert (status, out.startswith("no services at amqp://guest:***@"), err) == (0, True, "")
    away = ("--management-url", "http://127.0.0.1:1")
    status, out, err = await ran("services", *away, url=mesh_url)
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert "rabbitmq-plugins enable rabbitmq_management" in err
    user = {"password": "hunter2", "tags": ""}
    await asyncio.to_thread(rabbitmq_node.api, "PUT", "/api/users/untagged", user)
    for name, fix in (
        ("guest", "is the password right? --management-url takes another user"),
        ("untagged", "rabbitmqctl set_user_tags USER management"),
    ):
        refused = ("--management-url", api[1].replace("://", f"://{name}:hunter2@"))
        status, out, err = await ran("services", *refused, url=mesh_url)
        assert (status, out, len(err.splitlines())) == (1, "", 1)
        assert fix in err
        assert "hunter2" not in err
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", "/api/users/untagged")


@pytest.mark.usefixtures("orders")
async def test_describe(mesh_url: str, api: tuple[str, str]) -> None:
    status, out, err = await ran("describe", "orders", *api, url=mesh_url)
    assert (status, err) == (0, "")
    golden.compare("describe", out)
    status, out, _ = await ran("describe", "orders", "--json", *api, url=mesh_url)
    described = json.loads(out)
    assert status == 0
    assert described["events"] == ["customers.*", "orders.cancelled"]
    assert "get_total" in described["methods"]
    away = ("--management-url", "http://127.0.0.1:1")
    status, out, err = await ran("describe", "orders", "--json", *away, url=mesh_url)
    assert (status, json.loads(out)["events"]) == (0, None)
    assert err.startswith("its events are not known: ")
    status, _, err = await ran("describe", "ordres", *api, url=mesh_url)
    assert (status, err.endswith("did you mean orders?\n")) == (1, True)


# -- AsyncAPI ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def parser() -> tuple[str, ...]:
    """The command that reads a document with the official parser."""
    made = subprocess.run(
        [ROOT / "scripts" / "asyncapi"], capture_output=True, text=True, check=False, timeout=150
    )
    assert made.returncode == 0, made.stderr
    node, folder = made.stdout.splitlines()[-2:]
    return node, str(ASYNCAPI / "check.mjs"), folder


async def parsed(parser: tuple[str, ...], text: str) -> Any:
    """Give a document to the parser; return what it says, without an error in it."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*parser, stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await process.communicate(text.encode())
    assert process.returncode == 0, err.decode()
    found = json.loads(out)
    assert [each for each in found["diagnostics"] if each["severity"] == ERROR] == []
    return found


@pytest.mark.usefixtures("orders")
async def test_the_official_parser_accepts_it(
    mesh_url: str, api: tuple[str, str], parser: tuple[str, ...]
) -> None:
    status, out, err = await ran("describe", "orders", "--asyncapi", *api, url=mesh_url)
    assert (status, err) == (0, "")
    found = await parsed(parser, out)
    assert found["version"] == "3.0.0"
    assert found["operations"] == [
        "get_total", "note", "pay", "place", "event.customers._", "event.orders.cancelled",
    ]  # fmt: skip
    assert found["channels"] == ["orders", None, "customers.*", "orders.cancelled"]
    assert found["schemas"] == ["place.params.Line", "place.params.Speed", "place.result.Line"]
    assert "guest" not in out


def method(**described: Any) -> Mapping[str, Any]:
    """The description of a method."""
    return {"description": None, "requires_encryption": False, **described}


async def test_it_accepts_whatever_a_service_says(parser: tuple[str, ...]) -> None:
    """A description is a peer's message; nuropb's have another form."""
    recorded = json.loads((ROOT / "tests/data/nuropb-0.1.8.json").read_text("utf-8"))
    assert recorded
    wrong: dict[str, Any] = {
        "type": ["text", "string", "string"], "required": "a", "enum": [], "minimum": "1",
        "properties": {"a": 1, HOSTILE: {"$ref": "#/$defs/none"}, "b": {"$ref": "#/$defs/B"}},
        "$defs": {"B": {"anyOf": [{"$ref": "#/$defs/B"}, {"oneOf": []}, None], "pattern": "["}},
        "prefixItems": [{"type": "integer"}, False], "items": False, "$id": "x", "allOf": {},
        "title": 5, "description": {"$ref": "#/nowhere"}, "format": 7, "maxItems": -1,
        "default": {"$ref": "#/nowhere"},
    }  # fmt: skip
    described = {
        "service_version": {"a": 1},
        "description": HOSTILE,
        "methods": {
            "a/b": method(params_schema=wrong, result_schema=wrong),
            "a b": method(params_schema=[], result_schema=None, description=7),
            HOSTILE: method(description=HOSTILE, requires_encryption=True),
            "": method(parameters={"properties": [["a", {"type": "int"}], 7], "required": ["a"]}),
            "no method": 5,
        },
    }
    config = TransportConfig(amqp_url="amqps://u:hunter2@[::1]/a%2Fb", service_name="x")
    made = json.dumps(document(config, HOSTILE, described, ["#", "*", "a.*", "a._", HOSTILE]))
    found = await parsed(parser, made)
    assert len(found["operations"]) == 4 + 5
    assert "hunter2" not in made
    nothing = json.dumps(document(config, "x", {}, []))
    assert (await parsed(parser, nothing))["operations"] == []


def test_the_lock_names_no_registry() -> None:
    """npm takes the registry that is configured where it installs."""
    lock = (ASYNCAPI / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in lock
    assert Path(ROOT / "scripts" / "asyncapi").stat().st_mode & 0o100
