"""Every span and metric of all that a mesh does, against the registry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.semconv._incubating.attributes import (
    messaging_attributes,
    rpc_attributes,
)
from opentelemetry.semconv._incubating.metrics import messaging_metrics, rpc_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.semconv.schemas import Schemas

from nuropb_rmq import DeadLetters, NuropbRemoteError, TransportConfig
from nuropb_rmq.telemetry.destinations import SCHEMA

from ..support import eventually
from . import registry
from .registry import CALLED, COPIED, PROCESSED, SENT, SERVED, VERSION, Sort
from .services import Orders, Stock
from .support import Recorded, Traced, attributes_of

RPC = "nuropb-rpc-exchange"
EVENTS = "nuropb-events-exchange"
REPLY = "publish nuropb-{service}-{instance}-rq"

SPANS = (
    ("orders/place", CALLED),
    ("orders/place", SERVED),
    ("orders/fail", CALLED),
    ("orders/fail", SERVED),
    ("orders/again", CALLED),
    ("orders/again", SERVED),
    ("stock/count", CALLED),
    ("stock/count", SERVED),
    (f"publish {RPC}:orders", SENT),
    (f"publish {RPC}:stock", SENT),
    (f"publish {EVENTS}:orders.placed", SENT),
    (REPLY, SENT),
    ("publish nuropb-orders-sq", COPIED),
    ("publish nuropb-orders-retry-50", COPIED),
    ("publish nuropb-dl-exchange", COPIED),
    (f"process {RPC}:orders:nuropb-orders-sq", PROCESSED),
    (f"process {RPC}:stock:nuropb-stock-sq", PROCESSED),
    (f"process {EVENTS}:orders.*:nuropb-stock-sq", PROCESSED),
)
"""Names of all spans of the example, and what each is."""


@pytest.fixture
async def example(meshes: Traced, recorded: Recorded) -> Recorded:
    """Request, reply, nested request and command, event, error, call-again, retry, replay."""
    orders, stock = Orders(), Stock()
    orders.mesh = await meshes.serve(orders)
    await meshes.serve(stock)
    client = await meshes.client()
    await client.request("orders", "again")
    await client.request("orders", "place", {"number": 7})
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "fail")
    orders.seen.clear()
    await client.command("orders", "flaky")
    await eventually(lambda: len(orders.seen) == 2)
    await client.command("orders", "fail")
    await recorded.count("publish nuropb-dl-exchange")
    orders.fails = False
    config = TransportConfig(amqp_url=meshes.url, service_name="orders")
    async with DeadLetters(config, allow_delivery_limit=True) as letters:
        await letters.replay()
    await recorded.count(f"process {RPC}:orders:nuropb-orders-sq", 8)
    await eventually(lambda: len(stock.seen) == 3)
    await recorded.count(REPLY, 4)
    await recorded.count(f"process {EVENTS}:orders.*:nuropb-stock-sq")
    return recorded


async def test_the_whole_example(example: Recorded, meshes: Traced) -> None:
    assert {(each.name, sort_of(each)[0]) for each in example.spans} == {
        (name, label(sort)) for name, sort in SPANS
    }
    for each in example.spans:
        check_span(each, sort_of(each)[1], in_memory=meshes.url.startswith("memory:"))
    check_metrics(example)


def label(sort: Sort) -> str:
    return f"{sort.kind.name} {sort.values.get('messaging.operation.name', 'call')}"


def sort_of(span: ReadableSpan) -> tuple[str, Sort]:
    """Name a span by its kind, and whether it is of a call."""
    operation = attributes_of(span).get("messaging.operation.name", "call")
    known = {label(each): each for each in (CALLED, SERVED, SENT, COPIED, PROCESSED)}
    return f"{span.kind.name} {operation}", known[f"{span.kind.name} {operation}"]


def check_span(span: ReadableSpan, sort: Sort, *, in_memory: bool) -> None:
    about = attributes_of(span)
    assert set(about) <= set(sort.attributes) | sort.own, span.name
    assert sort.required <= set(about), span.name
    assert sort.values.items() <= about.items(), span.name
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.schema_url == SCHEMA
    failed = "error.type" in about
    assert (span.status.status_code.name == "ERROR") is failed
    if "messaging.system" not in about:
        status = about.get("rpc.response.status_code")
        if span.name != "orders/again" or status is not None:  # the first one is not answered
            assert status == about.get("error.type", "OK")
        assert about["rpc.method"] == span.name
        return
    assert ("server.port" in about) is not in_memory
    assert about["messaging.message.conversation_id"].isalnum()
    target = about.get("messaging.destination.template", about["messaging.destination.name"])
    if "dl-exchange" not in span.name:
        assert span.name == f"{about['messaging.operation.name']} {target}"
    if span.name == REPLY:
        assert about["messaging.destination.temporary"] is True
        assert re.fullmatch(r"nuropb-\w+-\w+-rq", about["messaging.destination.name"])


def check_metrics(recorded: Recorded) -> None:
    metrics, units = recorded.metrics, recorded.units()
    known = {name: unit for name, (unit, _) in registry.METRICS.items()} | registry.OWN_METRICS
    without = {"nuropb.telemetry.failures", "nuropb.responses.dropped"}  # nothing has happened
    assert units == {name: unit for name, unit in known.items() if name in units}
    assert set(known) - set(units) <= without
    for name, points in metrics.items():
        labels = registry.METRICS.get(name, ("", set()))[1] | registry.OWN_LABELS
        for attributes, value in points:
            assert set(attributes) <= labels, name
            if units[name] == "s" and not name.startswith("nuropb"):
                assert tuple(value.explicit_bounds) == registry.BUCKETS
    assert recorded.total("nuropb.retries", nuropb__service="orders") == 1
    assert recorded.total("nuropb.dead_letters", nuropb__service="orders") == 1
    assert recorded.total("nuropb.connection.state", nuropb__state="ready") == 3
    calls = {
        (attributes["rpc.method"], attributes.get("rpc.response.status_code")): point.count
        for attributes, point in metrics["rpc.server.call.duration"]
        if "describe" not in attributes["rpc.method"]
    }
    assert calls == {
        ("orders/place", "OK"): 1,
        ("orders/fail", "LookupError"): 1,
        ("orders/again", None): 1,
        ("orders/again", "OK"): 1,
        ("stock/count", "OK"): 1,
    }
    destinations = {
        attributes.get("messaging.destination.name") or attributes["messaging.destination.template"]
        for name in ("messaging.client.operation.duration", "messaging.process.duration")
        for attributes, _ in metrics[name]
    }
    apart = {f"{RPC}:orders", f"{RPC}:stock"}  # commands
    named = {
        name.partition(" ")[2]
        for name, sort in SPANS
        if sort in (PROCESSED, COPIED) or EVENTS in name
    }
    assert destinations == named | apart


def minor(schema: str) -> int:
    return int(schema.split(".")[-2])


def test_the_registry_is_the_one_of_the_version() -> None:
    """As the package has it that is made of it."""
    assert f"https://opentelemetry.io/schemas/{VERSION}" == SCHEMA
    known = [each.value for each in Schemas]
    if max(map(minor, known)) < minor(SCHEMA):
        return  # the lowest version that we admit is older than this registry, and knows less
    assert SCHEMA in known
    names = set()
    for module in (messaging_attributes, rpc_attributes, error_attributes, server_attributes):
        names |= values_of(module)
    for sort in (CALLED, SERVED, SENT, COPIED, PROCESSED):
        assert set(sort.attributes) <= names
    types = {each.value for each in messaging_attributes.MessagingOperationTypeValues}
    assert {"send", "process"} <= types
    metrics = values_of(messaging_metrics) | values_of(rpc_metrics)
    assert set(registry.METRICS) <= metrics
    for name, (unit, _) in registry.METRICS.items():
        constant = name.replace(".", "_").upper()
        home: Any = messaging_metrics if name.startswith("messaging") else rpc_metrics
        text = Path(home.__file__).read_text(encoding="utf-8")
        said = re.search(rf"^{constant}: Final = .*?\nUnit: (\S+)", text, re.MULTILINE | re.DOTALL)
        assert said is not None
        assert said[1] == unit


def values_of(module: Any) -> set[str]:
    """The texts that a module has constants for."""
    return {each for each in vars(module).values() if isinstance(each, str)}
