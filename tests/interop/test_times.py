"""Dates, times and decimals between a Mesh and nuropb 0.1.8: each reads what the other sends."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest

from nuropb_rmq import Mesh, mesh_event

from ..support import eventually
from .conftest import Peers
from .sides import SERVICE, called
from .times import UTC, VALUES, WRITTEN

READ = {
    **VALUES,
    "naive": VALUES["naive"].replace(tzinfo=UTC),  # its Z says so
    "at": VALUES["at"].replace(tzinfo=UTC),
}


class Model(pydantic.BaseModel):
    aware: datetime.datetime
    naive: datetime.datetime
    day: datetime.date
    at: datetime.time
    long: datetime.timedelta
    price: Decimal


class Struct(msgspec.Struct):
    aware: datetime.datetime
    naive: datetime.datetime
    day: datetime.date
    at: datetime.time
    long: datetime.timedelta
    price: Decimal


class Ours:
    _service_name = SERVICE

    def __init__(self) -> None:
        self.taken: Any = None
        self.events: list[Any] = []

    def take(
        self,
        *,
        aware: datetime.datetime,
        naive: datetime.datetime,
        day: datetime.date,
        at: datetime.time,
        long: datetime.timedelta,
        price: Decimal,
    ) -> Any:
        given = {name: each for name, each in locals().items() if name != "self"}
        self.taken = given
        return given

    @mesh_event("times.*")
    async def on_model(self, event: Model) -> None:
        self.events.append(event)

    @mesh_event("times.*")
    async def on_struct(self, event: Struct) -> None:
        self.events.append(event)


async def test_a_mesh_reads_what_nuropb_sends(old_peers: Peers) -> None:
    ours = Ours()
    caller = await old_peers.caller()
    async with Mesh(old_peers.url, service=ours, configure=False):
        result = await caller.peer.do("request_with_times", service=SERVICE, method="take")
        assert ours.taken == READ
        # What it reads of ours: an aware time in UTC is what it writes for a naive one.
        assert result == {**WRITTEN, "aware": WRITTEN["naive"]}
        await caller.peer.do("event_with_times", topic="times.now")
        await eventually(lambda: len(ours.events) == 2)
    assert {type(each) for each in ours.events} == {Model, Struct}
    for event in ours.events:
        assert {name: getattr(event, name) for name in READ} == READ


async def test_nuropb_reads_what_a_mesh_sends(old_peers: Peers) -> None:
    server = await old_peers.server(what="Times")
    async with Mesh(old_peers.url, configure=False) as mesh:
        read = await mesh.request(SERVICE, "take", VALUES, timeout=20)
        assert read == {
            "aware": "2026-01-02 03:04:05",
            "naive": "2026-01-02 03:04:05",
            "day": "2026-01-02",
            "at": "03:04:00",
            "long": "1 day, 0:00:02",
            "price": "12.50",
        }
        (call,) = await called(server, 1)
        assert call == {"method": "take", **WRITTEN, "aware": WRITTEN["naive"]}
        assert await mesh.request(SERVICE, "give", timeout=20) == WRITTEN


@pytest.mark.parametrize("hint", [Model, Struct])
async def test_what_nuropb_answers_is_read_by_a_service_that_gets_it(
    old_peers: Peers, hint: type
) -> None:
    class Reading:
        _service_name = "reading"
        taken: Any = None

        async def take(self, times: Any) -> None:
            self.taken = times

    # The hint is one that no name stands for: annotations are text in this file.
    Reading.take.__annotations__["times"] = hint
    reading = Reading()
    await old_peers.server(what="Times")
    async with Mesh(old_peers.url, service=reading) as mesh:
        given = await mesh.request(SERVICE, "give", timeout=20)
        await mesh.request("reading", "take", {"times": given}, timeout=20)
    assert {name: getattr(reading.taken, name) for name in READ} == READ
