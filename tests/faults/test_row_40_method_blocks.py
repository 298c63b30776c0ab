"""Row 40: a synchronous method blocks. In a thread it harms nobody; on the loop it is warned of."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from nuropb_rmq import State, mesh_event, publish_to_mesh
from nuropb_rmq.testing import RabbitMQNode
from nuropb_rmq.transport import stalls

from ..compat.apis import Apis
from ..mesh.support import Meshes
from ..support import Watch, eventually
from .console import connections, until_depths

STILL = stalls.STALLED_FOR + 4 * stalls.BEAT
"""Seconds that are long enough to be seen, wherever they begin between two looks."""


class Orders:
    _service_name = "orders"

    def __init__(self) -> None:
        self.runs = 0
        self.heard = 0

    def block(self, seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    @publish_to_mesh(in_thread=False)
    def block_here(self, seconds: float) -> str:
        return self.block(seconds)

    def block_once(self, seconds: float) -> int:
        self.runs += 1
        if self.runs == 1:
            time.sleep(seconds)
        return self.runs

    @mesh_event("orders.*")
    def on_order(self, event: float) -> None:
        time.sleep(event)
        self.heard += 1

    async def echo(self, number: int) -> int:
        return number


@pytest.mark.parametrize(
    ("heartbeat", "seconds"),
    [pytest.param(10, 60, marks=[pytest.mark.long, pytest.mark.timeout(240)]), (1, 6)],
)
async def test_row_40_in_a_thread_it_costs_no_connection(
    meshes: Meshes, rabbitmq_node: RabbitMQNode, heartbeat: int, seconds: float
) -> None:
    """Six heartbeats long, three times what a broker bears of silence; others go on."""
    config = meshes.config(heartbeat=heartbeat)
    service = await meshes.serve(Orders(), amqp_url=config)
    client = await meshes.client(amqp_url=meshes.config("client", heartbeat=heartbeat))
    watches = [Watch(service.transport), Watch(client.transport)]
    before = await asyncio.to_thread(connections, rabbitmq_node, meshes.url)
    assert len(before) == 3, "a service has two, a client one"
    calls = [
        asyncio.create_task(
            client.request("orders", "block", {"seconds": seconds}, timeout=2 * seconds)
        )
        for _ in range(3)
    ]
    async with asyncio.timeout(seconds):
        for number in range(50):
            echoed = client.request("orders", "echo", {"number": number}, timeout=seconds)
            assert await echoed == number
    assert not any(call.done() for call in calls)
    assert await asyncio.gather(*calls) == ["done"] * 3
    assert [watch.states for watch in watches] == [[], []]
    assert await asyncio.to_thread(connections, rabbitmq_node, meshes.url) == before


async def test_row_40_on_the_loop_it_is_warned_of(
    apis: Apis, caplog: pytest.LogCaptureFixture
) -> None:
    """RMQAPI runs synchronous methods there, as nuropb does."""
    await apis.connect(Orders())
    client = await apis.connect()
    for seconds in (0.2, STILL):
        params = {"seconds": seconds}
        assert await client.request("orders", "block", params, context={}) == "done"
    assert named(caplog) == ["Orders.block"]


async def test_row_40_whatever_runs_on_the_loop_is_warned_of(
    meshes: Meshes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Methods run on the loop by a mark or by the Mesh's setting; handlers of events, too."""
    monkeypatch.setattr(stalls, "STALLED_FOR", 0.2)
    orders = Orders()
    service = await meshes.serve(orders)
    client = await meshes.client()
    for method in ("block", "block_here"):
        assert await client.request("orders", method, {"seconds": 1.3}) == "done"
    assert named(caplog) == ["Orders.block_here, by Orders.block"]
    await service.stop()
    caplog.clear()
    orders = Orders()
    await meshes.serve(orders, sync_in_threads=False)
    for seconds in (0.0, 1.3):
        assert await client.request("orders", "block", {"seconds": seconds}) == "done"
        await client.publish_event("orders.made", seconds)
    await eventually(lambda: orders.heard == 2)
    assert named(caplog) == ["Orders.block", "Orders.on_order"]


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The functions that are warned of, as the warnings name them."""
    texts = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    blocked = (each.partition(" s so far, in ")[2] for each in texts)
    return [each.partition(" (")[0] for each in blocked if each]


async def test_row_40_on_the_loop_for_more_than_three_heartbeats(
    meshes: Meshes, rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker gives the connections up. The method ends, its reply is sent, all is well again.

    The request was not acked on the connection that it came by, so it is delivered once more, and
    handled again unless its reply is still to be confirmed then.
    """
    orders = Orders()
    config = meshes.config(heartbeat=1)
    service = await meshes.serve(orders, amqp_url=config, sync_in_threads=False)
    client = await meshes.client(amqp_url=meshes.config("client", heartbeat=30))
    watch, other = Watch(service.transport), Watch(client.transport)
    before = await asyncio.to_thread(connections, rabbitmq_node, meshes.url)
    began = time.monotonic()
    answer: Any = await client.request("orders", "block_once", {"seconds": 4}, timeout=30)
    assert answer == 1, "the reply of the one that blocked"
    took = time.monotonic() - began
    assert took < 14, "back within 10 s"
    await watch.recovered()
    await until_depths(rabbitmq_node, meshes.url, {"nuropb-orders-sq": 0})
    assert orders.runs in (1, 2)
    assert named(caplog) == ["Orders.block_once"]
    after = await asyncio.to_thread(connections, rabbitmq_node, meshes.url)
    assert len(after - before) == 2, "both of the service's are new ones"
    assert await client.request("orders", "echo", {"number": 7}) == 7
    assert (service.state, other.states) == (State.READY, [])
