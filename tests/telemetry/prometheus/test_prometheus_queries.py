"""The dashboard and the alerts: every expression is run on a real server, over a running mesh."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard
from prometheus_client import CollectorRegistry

from nuropb_rmq import Mesh, NuropbException, Retry
from nuropb_rmq.telemetry.metrics import METRICS
from nuropb_rmq.telemetry.prometheus import collect, serve_metrics

from ...mesh.support import Meshes
from ...support import command, request
from .server import ALERTS, Server, prometheus
from .test_prometheus import Orders

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana" / "nuropb-rmq.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
FILLED_IN = {"$__rate_interval": "5s", "$__range": "1m", "$service": ".*", "$instance": ".*"}


def expressions() -> Iterator[tuple[str, str]]:
    """The title of each panel and its queries, as Grafana sends them."""
    for panel in PANELS:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, text in FILLED_IN.items():
                expression = expression.replace(variable, text)
            yield panel["title"], expression


async def keep_busy(client: Mesh) -> None:
    """Do all that the dashboard has a panel for, again and again."""
    transport = client.transport
    unclaimed = {
        "tag": "response",
        "reply_to": transport.response_queue,
        "correlation_id": "nobody's",
        "result": 1,
        "error": None,
        "context": {},
        "trace_id": None,
        "warning": None,
    }
    while True:
        done = await asyncio.gather(
            client.request("orders", "get", {"number": 1}),
            transport.request(request("fail")),
            transport.send(command("fail")),
            client.publish_event("orders.placed", {}),
            transport.send(command(service="nobody")),
            transport.send(unclaimed),
            return_exceptions=True,
        )
        unexpected = [
            each
            for each in done
            if isinstance(each, BaseException) and not isinstance(each, NuropbException)
        ]
        assert not unexpected, unexpected
        await asyncio.sleep(0.05)


async def test_every_query_of_the_dashboard_and_the_alerts(
    mesh_url: str, registry: CollectorRegistry, promtool: Path, tmp_path: Path
) -> None:
    meshes = Meshes(mesh_url)
    service = await meshes.serve(Orders(), retry=Retry(attempts=2, delays=(0.1,)))
    client = await meshes.client()
    collect(service, registry)
    collect(client, registry)
    busy = asyncio.create_task(keep_busy(client))
    try:
        with serve_metrics(0, registry=registry) as metrics:
            await asyncio.to_thread(_ask, promtool.parent / "prometheus", tmp_path, metrics.port)
    finally:
        busy.cancel()
        await asyncio.wait((busy,))
        await meshes.stop()
    assert busy.cancelled(), busy.exception()


def _ask(program: Path, folder: Path, port: int) -> None:
    with prometheus(program, folder, port) as server:
        for title, expression in expressions():
            _has_data(server, title, expression)
        for name in ("service", "instance"):
            label, selector = f"nuropb_{name}", VARIABLES[name]["query"]["query"]
            assert selector.startswith("label_values(nuropb_info")
            assert selector.endswith(f", {label})")
            assert len(server.get(f"label/{label}/values", **{"match[]": "nuropb_info"})) == 2
        for metric in METRICS:
            name = f"{metric.name}_count" if metric.kind.name == "HISTOGRAM" else metric.name
            assert server.query(name), name
        (group,) = server.get("rules")["groups"]
        assert {rule["health"] for rule in group["rules"]} == {"ok"}
        for alert in (
            'ALERTS{alertname="NuropbDeadLetters", alertstate="firing"}',
            'ALERTS{alertname="NuropbRequestsFailing", alertstate="pending"}',
        ):
            _has_data(server, "alerts", alert)
        assert server.query('ALERTS{alertname!~"Nuropb(DeadLetters|RequestsFailing)"}') == []


def _has_data(server: Server, title: str, expression: str) -> None:
    """Ask until there is something: a rate needs two scrapes."""
    for _ in range(100):
        if server.query(expression):
            return
        time.sleep(0.2)
    raise AssertionError(f"{title}: no data: {expression}")


def test_the_alerts(promtool: Path) -> None:
    """By series made up for them."""
    unit_tests = Path(__file__).parent / "alerts_test.yml"
    config = DOCS / "prometheus" / "prometheus.yml"
    for check in (
        ("check", "rules", ALERTS),
        ("test", "rules", unit_tests),
        ("check", "config", config),
    ):
        ran = subprocess.run([promtool, *check], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    names = re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
    tested = unit_tests.read_text(encoding="utf-8")
    assert [name for name in names if name not in tested] == []


# -- the dashboard's structure ----------------------------------------------------------------


def test_panels_have_names_ids_and_room_of_their_own() -> None:
    every = DASHBOARD["panels"]
    assert len({each["id"] for each in every}) == len(every)
    assert len({each["title"] for each in every}) == len(every)
    for one, other in combinations(every, 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, f"{one['title']} lies over {other['title']}"
    assert all(each["gridPos"]["x"] + each["gridPos"]["w"] <= 24 for each in every)


def test_panels_ask_the_chosen_source_for_the_chosen_meshes() -> None:
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "${datasource}"
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert "$service" in target["expr"]
            assert "$instance" in target["expr"]
    assert list(VARIABLES) == ["datasource", "service", "instance"]
    assert VARIABLES["datasource"]["type"] == "datasource"


def test_queries_name_metrics_that_there_are() -> None:
    """And all of them, in the dashboard."""
    known = {metric.name for metric in METRICS}
    asked = json.dumps(PANELS)
    names = {
        name.removesuffix("_bucket")
        for name in re.findall(r"nuropb_[a-z_]+", asked + ALERTS.read_text(encoding="utf-8"))
    } - {"nuropb_service", "nuropb_instance"}
    assert names - known == set()
    assert {name for name in known if name not in asked} == set()


def test_every_field_of_the_dashboard_is_known_to_grafana() -> None:
    """By Grafana's own classes, made from its schema: what they do not know they leave out."""
    plugins.register_default_plugins()
    known = JSONEncoder(sort_keys=True).encode(dashboard.Dashboard.from_json(DASHBOARD))
    assert list(_left_out(DASHBOARD, json.loads(known))) == []


def _left_out(ours: Any, known: Any, path: str = "") -> Iterator[str]:
    if type(ours) is not type(known):
        yield f"{path}: {ours!r} became {known!r}"
    elif isinstance(ours, dict):
        for name in ours:
            yield from _left_out(ours[name], known.get(name), f"{path}/{name}")
    elif isinstance(ours, list):
        if len(ours) != len(known):
            yield f"{path}: {len(ours)} became {len(known)}"
        for number, (one, other) in enumerate(zip(ours, known, strict=False)):
            yield from _left_out(one, other, f"{path}/{number}")
    elif ours != known:
        yield f"{path}: {ours!r} became {known!r}"


def test_the_compose_profile_has_the_files_that_it_names() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    profile = text.partition("  prometheus:\n")[2]
    assert profile.count('profiles: ["observability"]') == 2
    mounted = re.findall(r"- \./(\S+?):(\S+):ro", profile)
    assert len(mounted) == 3
    assert all((ROOT / source).exists() for source, _ in mounted)
    inside = dict(mounted)
    assert inside["docs/prometheus"] + "/prometheus.yml" in profile
    provider = (DOCS / "grafana/provisioning/dashboards/nuropb-rmq.yml").read_text("utf-8")
    folder = inside["docs/grafana/nuropb-rmq.json"].rpartition("/")[0]
    assert f"path: {folder}\n" in provider
    images = re.findall(r"image: (\S+)", profile)
    assert all(re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", image) for image in images), images
