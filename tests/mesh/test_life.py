"""A mesh's life: made without a loop, started, stopped, started again, interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

from nuropb_rmq import (
    BrokerUnreachableError,
    InstanceInUseError,
    Mesh,
    NuropbTransportError,
    ServiceNotConfigured,
    State,
    TransportClosedError,
    configure,
)
from nuropb_rmq.broker import Broker
from nuropb_rmq.testing import RabbitMQNode

from ..support import eventually
from .support import Meshes


class Orders:
    _service_name = "orders"

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()

    async def echo(self, **params: Any) -> Any:
        return params

    def block(self, seconds: float = 30) -> str:
        self.begun.set()
        self.release.wait(seconds)
        return "done"

    async def wait(self, seconds: float) -> str:
        self.begun.set()
        await asyncio.sleep(seconds)
        return "done"


def test_made_at_import_time_and_run_by_several_loops(mesh_url: str) -> None:
    service = Mesh(mesh_url, service=Orders())
    client = Mesh(mesh_url)
    assert (service.state, service.instance_id) == (State.STOPPED, "")
    instances: set[str] = set()

    async def run() -> None:
        async with service, client:
            assert await client.request("orders", "echo", {"a": 1}, timeout=5) == {"a": 1}
            assert await client.request("orders", "block", {"seconds": 0}, timeout=5) == "done"
            instances.update((service.instance_id, client.instance_id))

    asyncio.run(run())
    asyncio.run(run())
    assert len(instances) == 4
    assert service.state is State.STOPPED


async def test_started_twice(meshes: Meshes) -> None:
    mesh = await meshes.serve(Orders())
    with pytest.raises(NuropbTransportError, match="READY already"):
        await mesh.start()
    await mesh.stop()
    await mesh.stop()
    with pytest.raises(TransportClosedError):
        await mesh.request("orders", "echo")
    await mesh.start()
    assert await mesh.request("orders", "echo", {"a": 1}) == {"a": 1}


async def test_without_configure_a_missing_exchange_is_told(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders(), configure=False)
    with pytest.raises(ServiceNotConfigured, match="nuropb-rpc-exchange"):
        await mesh.start()
    assert mesh.state.over
    assert isinstance(mesh.error, ServiceNotConfigured)
    await configure(meshes.config())
    await mesh.start()
    assert mesh.state is State.READY
    assert mesh.error is None


async def test_start_makes_the_dead_letter_queue(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    await client.command("orders", "nope")
    assert (await meshes.taken("nuropb-orders-dlq"))[0]["method"] == "nope"


async def test_a_virtual_host_is_made_where_it_is_missing(
    meshes: Meshes, rabbitmq_node: RabbitMQNode
) -> None:
    url = f"{meshes.url}-more"
    vhost = Broker.parse(url).vhost
    try:
        mesh = meshes.mesh(Orders(), amqp_url=url, management_url=rabbitmq_node.management_url)
        await mesh.start()
        assert await mesh.request("orders", "echo", {"a": 1}) == {"a": 1}
        await mesh.stop()
    finally:
        await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/vhosts/{vhost}")


async def test_a_broker_that_is_not_there(meshes: Meshes) -> None:
    started = time.monotonic()
    mesh = meshes.mesh(Orders(), amqp_url="amqp://guest:guest@127.0.0.1:1/")
    with pytest.raises(BrokerUnreachableError) as caught:
        await mesh.start()
    assert mesh.state.over
    assert mesh.error is caught.value
    assert time.monotonic() - started < 10


async def test_an_instance_that_is_there_already(meshes: Meshes) -> None:
    first = await meshes.serve(Orders(), instance_id="1")
    config = meshes.config(instance_id="1", instance_retry=0.2)
    second = meshes.mesh(Orders(), amqp_url=config)
    with pytest.raises(InstanceInUseError):
        await second.start()
    assert second.state.over
    assert first.state is State.READY


async def test_row_27_a_start_that_is_cancelled_leaves_nothing(meshes: Meshes) -> None:
    for after in (0.0, 0.005, 0.02, 0.05, 0.1):
        mesh = meshes.mesh(Orders())
        start = asyncio.create_task(mesh.start())
        await asyncio.sleep(after)
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        await mesh.stop()
        assert mesh.state.over


async def test_row_27_a_stop_during_the_start_ends_it(meshes: Meshes) -> None:
    for after in (0.0, 0.005, 0.02, 0.05, 0.1):
        mesh = meshes.mesh(Orders())
        start = asyncio.create_task(mesh.start())
        await asyncio.sleep(after)
        assert mesh.state is State.CONNECTING or mesh.state is State.READY
        await mesh.stop()
        with contextlib.suppress(TransportClosedError):
            await start
        assert mesh.state.over


async def test_stop_finishes_what_is_in_hand(meshes: Meshes) -> None:
    orders = Orders()
    service = await meshes.serve(orders)
    client = await meshes.client()
    for method in ("wait", "block"):
        orders.begun.clear()
        call = asyncio.create_task(client.request("orders", method, {"seconds": 0.3}))
        await eventually(orders.begun.is_set)
        await service.stop(grace=5)
        assert await call == "done"
        await service.start()


async def test_stop_leaves_a_thread_that_does_not_end(meshes: Meshes) -> None:
    orders = Orders()
    service = await meshes.serve(orders)
    client = await meshes.client()
    call = asyncio.create_task(client.request("orders", "block"))
    await eventually(orders.begun.is_set)
    started = time.monotonic()
    await service.stop(grace=0.2)
    assert time.monotonic() - started < 4
    orders.release.set()
    other = Orders()
    other.release.set()
    await meshes.serve(other)  # it was not acked, so another instance does it
    assert await call == "done"
    assert other.begun.is_set()


async def test_its_state_is_told(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())
    states: list[State] = []
    end = mesh.on_state_change(lambda state, _: states.append(state))
    await mesh.start()
    assert await mesh.wait_for(State.READY, timeout=1) is State.READY
    assert mesh.error is None
    await mesh.stop()
    end()
    assert states == [State.CONNECTING, State.READY, State.DRAINING, State.STOPPED]
    assert "guest:***@" in repr(mesh)
    assert "STOPPED" in repr(mesh)


async def test_a_config_holds_all_other_settings(meshes: Meshes) -> None:
    config = meshes.config("shop", instance_id="7", event_bindings=["a"], prefetch_count=5)
    mesh = meshes.mesh(Orders(), amqp_url=config, event_bindings=["b"], prefetch_count=6)
    made = mesh.transport.config
    assert (made.service_name, made.instance_id, made.prefetch_count) == ("shop", "7", 6)
    assert made.event_bindings == ("a", "b")
    assert not made.client_only
    assert meshes.mesh(None, amqp_url=config).transport.config.client_only
