"""docs/reference/settings.md: every setting is there, with the default that it has in each class.

The bounds that docs/operations/reliability.md names are the same ones.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, Final

import pytest

from nuropb_rmq import Mesh, RMQTransport, TransportConfig
from nuropb_rmq.compat.options import RabbitMQConfiguration

DOCS: Final = Path(__file__).parents[2] / "docs"
URL: Final = "amqp://h"
UNITS: Final = {"": 1, " MiB": 2**20, " min": 60}
Row = list[str]


def table(heading: str) -> dict[str, Row]:
    """The rows of the table below a heading: the name in the first cell → the other cells."""
    _, _, rest = (DOCS / "reference" / "settings.md").read_text().partition(f"\n## {heading}\n")
    section = rest.partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    assert len({row[0] for row in rows}) == len(rows) > 0
    return {row[0].strip("`"): row[1:] for row in rows}


def value(cell: str) -> Any:
    """Return a cell's text as a value of Python."""
    assert cell.startswith("`"), cell
    return ast.literal_eval(cell.strip("`"))


SETTINGS: Final = {name: row for name, row in table("TransportConfig").items() if row[0]}
REQUIRED: Final = ("amqp_url", "service_name")


class Service:
    """A service."""

    _service_name = "orders"

    async def echo(self) -> None:
        """A method."""


def adapter(instance_id: str | None = None, **settings: Any) -> RMQTransport:
    """A transport of nuropb's kind, which is not started."""
    return RMQTransport("orders", instance_id, URL, lambda *_: None, **settings)


def test_every_setting_has_its_row_in_the_order_of_the_class() -> None:
    fields = [each.name for each in dataclasses.fields(TransportConfig) if each.init]
    assert sorted(table("TransportConfig")) == sorted(fields)
    assert sorted(SETTINGS) == sorted(set(fields) - set(REQUIRED))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_default_is_what_the_page_says(name: str) -> None:
    """Of a TransportConfig, of a Mesh by URL or by TransportConfig, and of an RMQTransport."""
    default, differs = value(SETTINGS[name][0]), SETTINGS[name][1]
    config = TransportConfig(amqp_url=URL, service_name="orders")
    found = {
        "TransportConfig": config,
        "Mesh of a URL": Mesh(URL, service=Service()).transport.config,
        "Mesh of a TransportConfig": Mesh(config, service=Service()).transport.config,
    }
    for who, its in found.items():
        assert getattr(its, name) == default, who
        assert type(getattr(its, name)) in (type(default), frozenset), who
    theirs = value(differs) if differs else default
    assert getattr(adapter().core.config, name) == theirs


def test_a_mesh_has_the_arguments_of_its_table_and_settings_that_none_leaves_alone() -> None:
    arguments = inspect.signature(Mesh).parameters.copy()
    del arguments["amqp_url"]
    rows = table("Mesh")
    for name, row in rows.items():
        assert arguments.pop(name).default == value(row[0]), name
    assert {each.default for each in arguments.values()} == {None}
    assert set(arguments) < set(table("TransportConfig"))
    alone = Mesh(URL).transport.config
    assert (alone.service_name, alone.client_only) == ("client", True)


def test_rabbitmq_configuration_is_what_the_page_says() -> None:
    said = {name: value(row[0]) for name, row in table("RabbitMQConfiguration").items()}
    assert adapter("1").rmq_configuration == said
    assert list(said) == list(RabbitMQConfiguration.__annotations__)


def test_the_bounds_of_the_reliability_page_are_these_defaults() -> None:
    page = (DOCS / "operations" / "reliability.md").read_text()
    found = re.findall(r"`(\w+)` \(([\d,]+)( MiB| min|)\)", page)
    bounds = [(name, number, unit) for name, number, unit in found if name in SETTINGS]
    assert {name for name, _, _ in bounds} >= {"outbox_bytes", "handler_timeout", "max_json_depth"}
    for name, number, unit in bounds:
        said = int(number.replace(",", "")) * UNITS[unit]
        assert value(SETTINGS[name][0]) == said, name
