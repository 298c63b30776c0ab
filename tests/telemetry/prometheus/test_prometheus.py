"""Metrics of meshes on both brokers, as a scrape tells them."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import weakref
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from nuropb_rmq import (
    RMQAPI,
    Mesh,
    NuropbConfigurationError,
    NuropbNotDeliveredError,
    NuropbRemoteError,
    Retry,
    RMQTransport,
    blocking,
    mesh_event,
)
from nuropb_rmq.telemetry.histograms import BOUNDS
from nuropb_rmq.telemetry.metrics import METRICS
from nuropb_rmq.telemetry.names import MOST
from nuropb_rmq.telemetry.prometheus import collect, exposition

from ...conformance.brokers import Place
from ...mesh.support import Meshes
from ...support import Recorder, command, eventually, request
from .scraped import scrape, value, values


class Orders:
    """A service with a method that works, one that fails, and two kinds of events."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.release = asyncio.Event()
        self.release.set()

    async def get(self, number: int) -> int:
        """Return the number."""
        await self.release.wait()
        return number

    async def fail(self) -> None:
        """Fail."""
        raise LookupError("no such order")

    @mesh_event("orders.placed", "orders.*.paid")
    async def on_order(self, topic: str) -> None:
        """Take a note."""
        self.came.append(topic)


async def test_what_a_service_and_its_caller_do(
    meshes: Meshes, registry: CollectorRegistry
) -> None:
    orders = Orders()
    service, client = await meshes.serve(orders), await meshes.client()
    collect(service, registry)
    collect(client, registry)
    served = {"nuropb_service": "orders", "nuropb_instance": service.instance_id}
    called = {"nuropb_service": "client", "nuropb_instance": client.instance_id}
    for number in range(3):
        assert await client.request("orders", "get", {"number": number}) == number
    for _ in range(2):
        with pytest.raises(NuropbRemoteError):
            await client.request("orders", "fail", {})
    await client.command("orders", "fail", {})
    for topic in ("orders.placed", "orders.1.paid", "orders.2.paid"):
        await client.publish_event(topic, {})
    with pytest.raises(NuropbNotDeliveredError):
        await client.transport.send(command(service="nobody"))
    await eventually(lambda: len(orders.came) == 3)
    await eventually(lambda: value(registry, "nuropb_dead_letters_total", **served) == 1)

    def sent(by: dict[str, str]) -> dict[str, float]:
        return values(registry, "nuropb_messages_sent_total", "type", **by)

    assert sent(called) == {"request": 6, "command": 2, "event": 3, "response": 0}
    assert sent(served) == {"request": 0, "command": 0, "event": 0, "response": 6}
    handled = {
        (each.labels["type"], each.labels["method"], each.labels["outcome"]): each.value
        for each in scrape(registry)
        if each.name == "nuropb_messages_handled_total" and each.value
    }
    assert handled == {
        ("request", "nuropb_describe", "done"): 1,
        ("request", "get", "done"): 3,
        ("request", "fail", "failed"): 2,
        ("command", "fail", "failed"): 1,
        ("event", "orders.placed", "done"): 1,
        ("event", "orders.*.paid", "done"): 2,
    }
    ended = {
        (each.labels["called_service"], each.labels["method"], each.labels["error"]): each.value
        for each in scrape(registry)
        if each.name == "nuropb_requests_total" and each.value
    }
    assert ended == {
        ("orders", "nuropb_describe", ""): 1,
        ("orders", "get", ""): 3,
        ("_OTHER", "_OTHER", "LookupError"): 2,
    }
    name = "nuropb_request_duration_seconds"
    assert value(registry, f"{name}_count", called_service="orders", method="get") == 3
    buckets = values(registry, f"{name}_bucket", "le", called_service="orders", method="get")
    assert list(map(float, buckets)) == [*BOUNDS, float("inf")]
    assert buckets["+Inf"] == 3
    assert value(registry, f"{name}_sum", called_service="orders", method="get")
    name = "nuropb_handler_duration_seconds_count"
    assert value(registry, name, type="request", method="get") == 3
    name = "nuropb_publish_duration_seconds_count"
    assert value(registry, name, type="event", **called) == 3
    assert values(registry, "nuropb_publish_errors_total", "error") == {
        "NuropbNotDeliveredError": 1
    }
    settled = values(registry, "nuropb_messages_settled_total", "settlement", **served)
    assert {name: count for name, count in settled.items() if count} == {
        "ack": 9,
        "dead_letter": 1,
    }
    assert value(registry, "nuropb_messages_received_total", **served) == 10


async def test_levels(meshes: Meshes, registry: CollectorRegistry) -> None:
    orders = Orders()
    orders.release.clear()
    service, client = await meshes.serve(orders), await meshes.client()
    collect(service, registry)
    collect(client, registry)
    called = {"nuropb_service": "client"}
    served = {"nuropb_service": "orders"}
    calls = [
        asyncio.ensure_future(client.request("orders", "get", {"number": 1})) for _ in range(4)
    ]
    await eventually(lambda: value(registry, "nuropb_handlers_active", **served) == 4)
    assert value(registry, "nuropb_requests_pending", **called) == 4
    assert value(registry, "nuropb_deliveries_unsettled", **served) == 4
    assert value(registry, "nuropb_handlers_active", **called) == 0
    orders.release.set()
    await asyncio.gather(*calls)
    await eventually(lambda: value(registry, "nuropb_deliveries_unsettled", **served) == 0)
    for name in (
        "outbox_messages",
        "outbox_bytes",
        "outbox_oldest_seconds",
        "messages_unconfirmed",
    ):
        assert value(registry, f"nuropb_{name}", **called) == 0
    states = values(registry, "nuropb_connection_state", "state", **called)
    assert {state for state, on in states.items() if on} == {"ready"}
    assert len(states) == 8
    await client.stop()
    states = values(registry, "nuropb_connection_state", "state", **called)
    assert {state for state, on in states.items() if on} == {"stopped"}


async def test_retries(meshes: Meshes, registry: CollectorRegistry) -> None:
    service = await meshes.serve(Orders(), retry=Retry(attempts=2, delays=(0.05,)))
    collect(service, registry)
    client = await meshes.client()
    await client.command("orders", "fail", {})
    await eventually(lambda: value(registry, "nuropb_dead_letters_total") == 1)
    assert value(registry, "nuropb_retries_total") == 1
    assert values(registry, "nuropb_messages_handled_total", "outcome", method="fail") == {
        "done": 0,
        "failed": 1,
        "call_again": 0,
        "retry": 1,
    }


async def test_hostile_callers_make_a_bounded_number_of_series(
    meshes: Meshes, registry: CollectorRegistry
) -> None:
    """Of a Mesh, and of a handler that takes whatever comes."""
    service, bare = await meshes.serve(Orders()), await meshes.bare(Recorder())
    client = await meshes.client()
    for each in (service, bare, client):
        collect(each, registry)
    before = len(scrape(registry))

    async def call(name: str) -> None:
        for service in ("orders", "bare"):
            await client.transport.request(request(name, service=service))

    for number in range(MOST + 100):
        names = (f"m{number}", f"{number}\n# TYPE x counter\nx 1", f"\ud800{number}")
        await asyncio.gather(*map(call, names), client.publish_event(f"orders.{number}.paid", {}))
    after = scrape(registry)
    buckets = len(BOUNDS) + 3
    of_calls = (MOST + 1) * (buckets + 4)  # of the bare one's handler
    of_requests = (MOST + 1) * (buckets + 2)
    rest = 2 * (buckets + 4)
    assert len(after) - before <= of_calls + of_requests + rest
    refused = {"nuropb_service": "orders", "type": "request", "method": "_OTHER"}
    name = "nuropb_messages_handled_total"
    assert value(registry, name, outcome="failed", **refused) == 3 * (MOST + 100)


async def test_several_meshes_in_one_registry(meshes: Meshes, registry: CollectorRegistry) -> None:
    """With another program's metrics beside; one that is not started yet is not told of."""
    Counter("mine", "A program's own.", registry=registry).inc()
    assert scrape(registry)
    waiting = meshes.mesh(Orders())
    collect(waiting, registry)
    assert {each.name for each in scrape(registry)} == {"mine_total", "mine_created"}
    await waiting.start()
    ends = [collect(await meshes.client(), registry) for _ in range(3)]
    assert len(values(registry, "nuropb_info", "nuropb_instance")) == 4
    ends[0]()
    ends[0]()
    assert len(values(registry, "nuropb_info", "nuropb_instance")) == 3


async def test_the_same_mesh_twice(meshes: Meshes, registry: CollectorRegistry) -> None:
    client = await meshes.client()
    assert collect(client, registry) == collect(client.transport, registry)
    assert value(registry, "nuropb_reconnects_total") == 0
    collect(client, registry)()
    assert scrape(registry) == []
    collect(client, registry)
    assert value(registry, "nuropb_reconnects_total") == 0


async def test_of_two_with_one_identity_the_later_is_told(
    meshes: Meshes, registry: CollectorRegistry
) -> None:
    """As after a program has replaced a mesh: Prometheus would refuse all for a series twice."""
    first = await meshes.client(instance_id="one")
    collect(first, registry)
    await first.stop()
    second = await meshes.client(instance_id="one")
    collect(second, registry)
    states = values(registry, "nuropb_connection_state", "state")
    assert {state for state, on in states.items() if on} == {"ready"}


async def test_a_mesh_that_is_gone_is_not_told_of(
    meshes: Meshes, registry: CollectorRegistry
) -> None:
    mesh = Mesh(meshes.url)
    await mesh.start()
    collect(mesh, registry)
    assert scrape(registry)
    await mesh.stop()
    gone = weakref.ref(mesh)
    del mesh
    await eventually(lambda: gc.collect() >= 0 and gone() is None)
    assert scrape(registry) == []


async def test_mesh_of_nuropb(place: Place, configured: None, registry: CollectorRegistry) -> None:
    class Service:
        async def get(self, number: int) -> int:
            return number

    async def ignore(*_: object) -> None:
        """It gets no messages."""

    service = RMQAPI(place.url, service_name="orders", service_instance=Service())
    client = RMQAPI(place.url)
    bare = RMQTransport("bare", None, place.url, ignore, client_only=True)
    for each in (service, client, bare):
        collect(each, registry)
    await service.connect()
    await client.connect()
    try:
        assert await client.request("orders", "get", {"number": 1}, {}) == 1
    finally:
        await client.disconnect()
        await service.disconnect()
    assert value(registry, "nuropb_messages_handled_total", method="get", outcome="done") == 1
    assert value(registry, "nuropb_requests_total", called_service="orders", method="get") == 1
    assert value(registry, "nuropb_info", nuropb_service="bare") == 1


def test_blocking_mesh(place: Place, registry: CollectorRegistry) -> None:
    mesh = blocking.Mesh(place.url, service=Orders(), service_name="orders")
    end = collect(mesh, registry)
    assert scrape(registry) == []
    with mesh:
        assert mesh.request("orders", "get", {"number": 1}) == 1
        assert value(registry, "nuropb_requests_total", method="get") == 1
        assert value(registry, "nuropb_messages_handled_total", method="get", outcome="done") == 1
    end()
    assert scrape(registry) == []
    collect(mesh, registry)
    gone = weakref.ref(mesh)
    del mesh, end
    gc.collect()
    assert gone() is None
    assert scrape(registry) == []


def test_a_blocking_mesh_whose_callback_refers_to_it(registry: CollectorRegistry) -> None:
    """It is collected with its callbacks."""
    mesh = blocking.Mesh("memory://gone")
    mesh.on_state_change(lambda *_, mesh=mesh: mesh.stats())
    collect(mesh, registry)
    gone = weakref.ref(mesh)
    del mesh
    gc.collect()
    assert gone() is None


async def test_promtool_finds_nothing_to_complain_of(
    meshes: Meshes, registry: CollectorRegistry, promtool: Path
) -> None:
    service, client = await meshes.serve(Orders()), await meshes.client()
    collect(service, registry)
    collect(client, registry)
    await client.request("orders", "get", {"number": 1})
    with pytest.raises(NuropbNotDeliveredError):
        await client.transport.send(command(service="nobody"))
    text, content_type = exposition("", registry)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert await asyncio.to_thread(_checked, promtool, text) == (0, b"", b"")


def _checked(promtool: Path, text: bytes) -> tuple[int, bytes, bytes]:
    command = [str(promtool), "check", "metrics"]
    ran = subprocess.run(command, input=text, capture_output=True, check=False)
    return ran.returncode, ran.stdout, ran.stderr


def test_what_is_no_mesh(registry: CollectorRegistry) -> None:
    with pytest.raises(NuropbConfigurationError, match=r"mesh: expected a Mesh, .*, got str"):
        collect("amqp://localhost/", registry)  # type: ignore[arg-type]


def test_every_metric_is_unique_and_follows_the_conventions() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.startswith("nuropb_")
        assert metric.name.endswith("_total") == (metric.kind.name == "COUNTER")
        assert metric.text.endswith(".")
