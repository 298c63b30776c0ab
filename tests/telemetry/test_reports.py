"""Reports of a mesh's own figures, as events."""

from __future__ import annotations

import time
from typing import Any

import pytest

from nuropb_rmq import (
    EventListener,
    Mesh,
    MessageType,
    NuropbConfigurationError,
    NuropbValidationError,
    blocking,
)
from nuropb_rmq.telemetry.reports import TOPIC, report

from ..mesh.support import Meshes
from ..support import eventually
from .support import Recorded, Traced, parent_of


class Orders:
    """A service."""

    _service_name = "orders"

    async def get(self, number: int) -> int:
        return number

    async def fail(self) -> None:
        raise LookupError("a secret")


class Reports:
    """A service that takes the reports."""

    _service_name = "listener"

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []

    async def _handle_event_(self, topic: str, event: Any, *_: object) -> None:
        self.taken.append((topic, event))


async def test_what_they_say(meshes: Meshes) -> None:
    reports = Reports()
    await meshes.serve(reports, event_bindings=[f"{TOPIC}.#"])
    mesh = await meshes.serve(Orders())
    end = report(mesh, every=0.05)
    for number in range(10):
        await mesh.request("orders", "get", {"number": number}, encrypted=False)
    await mesh.command("orders", "fail", encrypted=False)
    await eventually(lambda: reports.taken and reports.taken[-1][1]["handled"]["failed"] == 1)
    topic, last = reports.taken[-1]
    assert topic == f"nuropb.stats.orders.{mesh.instance_id}"
    assert (last["service"], last["instance"], last["state"]) == (
        "orders", mesh.instance_id, "READY",
    )  # fmt: skip
    assert last["handled"]["done"] == 10
    assert last["sent"]["request"] == 10
    assert sum(each["handler_seconds"]["count"] for _, each in reports.taken) >= 10
    assert "secret" not in str(reports.taken)
    end()
    so_far = mesh.stats().sent
    await eventually(lambda: mesh.stats().unconfirmed == 0)
    assert mesh.stats().sent == so_far


async def test_they_go_on_after_a_stop_and_a_start(meshes: Meshes) -> None:
    reports = Reports()
    await meshes.serve(reports, event_bindings=[f"{TOPIC}.#"])
    mesh = await meshes.serve(Orders())
    report(mesh, every=0.05)
    await eventually(lambda: reports.taken)
    await mesh.stop()
    reports.taken.clear()
    await mesh.start()
    await eventually(lambda: reports.taken)


async def test_they_belong_to_no_trace(in_memory: Traced, recorded: Recorded) -> None:
    """However it was that they were begun: in a web application's request, say."""
    mesh = await in_memory.serve(Orders())
    with recorded.tracer.start_as_current_span("a view"):
        end = report(mesh, every=0.02)
    await eventually(lambda: len(recorded.spans) > 2)
    end()
    parents = {each.name.partition(":")[0]: parent_of(each) for each in recorded.spans}
    assert parents == {"a view": 0, "publish nuropb-events-exchange": 0}


@pytest.mark.parametrize("every", [0, -1, "soon", None])
def test_bad_intervals(every: Any) -> None:

    with pytest.raises(NuropbValidationError, match="every"):
        report(Mesh("memory://reports"), every=every)


def test_a_blocking_mesh_reports_from_its_start() -> None:
    mesh = blocking.Mesh("memory://blocking-reports", service=Orders())
    report(mesh, every=0.05)
    with mesh:
        sent = mesh.stats().sent[MessageType.EVENT]
        deadline = time.monotonic() + 30
        while mesh.stats().sent[MessageType.EVENT] == sent and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mesh.stats().sent[MessageType.EVENT] > sent
        with pytest.raises(NuropbConfigurationError, match="before start"):
            report(mesh)


async def test_a_listener_hears_them(meshes: Meshes) -> None:
    mesh = await meshes.serve(Orders())
    async with EventListener(meshes.config(), f"{TOPIC}.#") as listener:
        report(mesh, every=0.05)
        event = await anext(listener)
    assert event.event["service"] == "orders"
