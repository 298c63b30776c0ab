"""docs/guides/prometheus.md: its programs run, its table and numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from nuropb_rmq import Outcome, State
from nuropb_rmq.amqp.settlement import Settlement
from nuropb_rmq.protocol.constants import MessageType
from nuropb_rmq.telemetry import prometheus
from nuropb_rmq.telemetry.histograms import BOUNDS
from nuropb_rmq.telemetry.metrics import METRICS, OWN_LABELS
from nuropb_rmq.telemetry.names import MOST
from nuropb_rmq.telemetry.recorder import MOST_ERRORS

from ...asgi.support import Served
from ...mesh.support import Meshes
from .scraped import scrape, value

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "guides" / "prometheus.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
URL = "amqp://guest:guest@localhost/"


def ran(name: str, url: str) -> dict[str, Any]:
    """The names of a program of the page, on this broker."""
    assert URL in FILES[name]
    names: dict[str, Any] = {"__name__": name}
    exec(compile(FILES[name].replace(URL, url), name, "exec"), names)
    return names


def rows(heading: str) -> list[list[str]]:
    """The cells of the table behind a text."""
    table = PAGE.partition(heading)[2].lstrip().partition("\n\n")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


def test_the_table_of_metrics() -> None:
    expected = [(metric.name, metric.labels, metric.text.rstrip(".")) for metric in METRICS]
    told = [(names(row[0])[0], names(row[1]), row[2]) for row in rows("after each start.\n")]
    assert told == expected
    assert all(f"`{label}`" in PAGE for label in OWN_LABELS)


def test_the_table_of_labels() -> None:
    told = {names(row[0])[0]: names(row[1]) for row in rows("The values of labels:\n")}
    assert set(told) == {label for metric in METRICS for label in metric.labels} - {"version"}
    assert set(told["type"]) == set(MessageType)
    assert set(told["outcome"]) == {each.name.lower() for each in Outcome}
    assert set(told["settlement"]) == {each.name.lower() for each in Settlement}
    assert told["state"] == tuple(each.name.lower() for each in State)


def test_the_bound() -> None:
    """Of a histogram each bucket is a series, and sum and count."""
    histogram = len(BOUNDS) + 1 + 2
    method, called = histogram + len(Outcome), histogram + MOST_ERRORS + 2
    assert f"A method costs {method} series for requests and {method} for commands" in PAGE
    assert f"a called pair {histogram + 1}, and" in PAGE
    assert f"at most {(MOST + 1) * 2 * method:,} of methods" in PAGE
    assert f"{(MOST + 1) * called:,} of requests, {method} of each binding" in PAGE
    assert f"{MOST_ERRORS} classes of errors" in PAGE
    assert f"At most {MOST}, or" in PAGE


async def test_what_is_always_there(meshes: Meshes, registry: CollectorRegistry) -> None:
    prometheus.collect(await meshes.client(), registry)
    assert 50 < len(scrape(registry)) < 200


def test_the_buckets() -> None:
    told = PAGE.partition("in seconds: ")[2].partition(", as OpenTelemetry")[0]
    assert tuple(float(each) for each in told.replace("\n", " ").split(",")) == BOUNDS


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry) -> CollectorRegistry:
    """In place of prometheus_client's own registry, which outlives a test."""
    for function in (prometheus.collect, prometheus.exposition):
        monkeypatch.setattr(function, "__defaults__", (registry,))
    return registry


async def test_the_application(meshes: Meshes, default: CollectorRegistry) -> None:
    app = ran("app", meshes.url)["app"]
    async with Served(app) as served:
        assert "nuropb_info" in (await served.http.get("/metrics")).text
        assert (await served.get("/readyz"))[0] == 200


async def test_the_service(meshes: Meshes, default: CollectorRegistry) -> None:
    mesh = ran("service", meshes.url)["mesh"]
    async with mesh:
        client = await meshes.client()
        assert await client.request("orders", "get", {"number": 7}) == 7
        assert value(default, "nuropb_messages_handled_total", method="get", outcome="done") == 1


def test_what_it_points_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert all((DOCS / "guides" / link).exists() for link in links)
