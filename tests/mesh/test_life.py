"""A mesh's life: made without a loop, started, stopped, started again, interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from typing import Any

import pytest

from nuropb_rmq import (
    BrokerUnreachableError,
    InstanceInUseError,
    Mesh,
    NuropbConfigurationError,
    NuropbTransportError,
    ServiceNotConfigured,
    State,
    TransportClosedError,
    configure,
    publish_to_mesh,
)
from nuropb_rmq.config.address import Broker
from nuropb_rmq.testing import RabbitMQNode

from ..faults.console import delete_exchange
from ..seams import connections_of
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


async def test_exchanges_alone_are_made(meshes: Meshes, rabbitmq_node: RabbitMQNode) -> None:
    """With configure="exchanges": a virtual host with a typing error in its name is an error."""
    url, api = f"{meshes.url}-typo", rabbitmq_node.management_url
    options: dict[str, Any] = {"configure": "exchanges", "management_url": api}
    mesh = meshes.mesh(Orders(), amqp_url=url, **options)
    with pytest.raises(ServiceNotConfigured, match="-typo' does not exist: is its name right"):
        await mesh.start()
    vhosts = await asyncio.to_thread(rabbitmq_node.api, "GET", "/api/vhosts")
    assert Broker.parse(url).vhost not in {each["name"] for each in vhosts}
    await meshes.serve(Orders(), **options)
    client = await meshes.client(configure=False)
    assert await client.request("orders", "echo", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("wrong", ["exchange", "True", "", 1, 0, None, ["exchanges"]])
def test_what_is_to_be_configured_is_one_of_three(wrong: Any) -> None:
    with pytest.raises(NuropbConfigurationError, match=r"^configure: must be True, False or"):
        Mesh("amqp://localhost", configure=wrong)


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
    mesh = meshes.mesh(Orders(), amqp_url="amqp://guest:guest@127.0.0.1:1/")
    with pytest.raises(BrokerUnreachableError) as caught:
        await mesh.start()
    assert mesh.state.over
    assert mesh.error is caught.value


async def test_an_instance_that_is_there_already(meshes: Meshes) -> None:
    first = await meshes.serve(Orders(), instance_id="1")
    config = meshes.config(instance_id="1", instance_retry=0.2)
    second = meshes.mesh(Orders(), amqp_url=config)
    with pytest.raises(InstanceInUseError):
        await second.start()
    assert second.state.over
    assert first.state is State.READY


async def test_one_can_wait_for_a_mesh_that_configures_the_broker(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())
    start = asyncio.create_task(mesh.start())
    while not configuring():
        assert not start.done()
        await asyncio.sleep(0)
    assert await mesh.wait_for(State.READY, timeout=10) is State.READY
    await start


async def test_row_27_a_start_that_is_cancelled_leaves_nothing(meshes: Meshes) -> None:
    for after in (0.0, 0.005, 0.02, 0.05, 0.1):
        mesh = meshes.mesh(Orders())
        start = asyncio.create_task(mesh.start())
        await asyncio.sleep(after)
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        await mesh.stop()
        assert mesh.state.over


async def test_row_27_a_mesh_that_is_started_twice_starts_once(meshes: Meshes) -> None:
    """Also one that has run before: a second start() finds that it is CONNECTING already."""
    mesh = meshes.mesh(Orders())
    for _ in range(2):
        outcomes = await asyncio.gather(mesh.start(), mesh.start(), return_exceptions=True)
        assert outcomes[0] is None
        assert "CONNECTING already" in str(outcomes[1])
        await mesh.stop()
        assert mesh.state is State.STOPPED


async def test_row_27_a_stop_right_behind_a_restart_ends_it(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders())
    async with mesh:
        pass
    for ticks in range(4):
        start = asyncio.create_task(mesh.start())
        for _ in range(ticks):
            await asyncio.sleep(0)
        await mesh.stop()
        # Where tasks are not eager, stop() comes first with 0, and the start is another run.
        outcome = await settled(start)
        assert outcome is None or isinstance(outcome, TransportClosedError)
        assert (outcome is None) <= (ticks == 0)
        if outcome is None:
            await mesh.stop()
        assert mesh.state is State.STOPPED


async def settled(task: asyncio.Task[None]) -> BaseException | None:
    """The error of a task, once it has ended."""
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    return outcome


async def test_row_27_a_cancellation_is_not_lost_in_a_start_that_fails(meshes: Meshes) -> None:
    """It comes while the failed start closes what it has opened."""
    seen = set()
    for ticks in range(1, 60, 4):
        mesh = meshes.mesh(Orders(), amqp_url="amqp://guest:guest@127.0.0.1:1/")
        start = asyncio.create_task(mesh.start())
        for _ in range(ticks):
            await asyncio.sleep(0)
        asked = start.cancel()
        outcome = await settled(start)
        assert isinstance(outcome, asyncio.CancelledError) is asked
        seen.add(asked)
    assert True in seen


async def test_the_error_of_a_start_is_the_one_that_it_raised(meshes: Meshes) -> None:
    missing = f"{meshes.url.rpartition('/')[0]}/missing"
    mesh = meshes.mesh(Orders(), amqp_url=missing, management_url="ftp://127.0.0.1/")
    with pytest.raises(NuropbConfigurationError) as raised:
        await mesh.start()
    assert str(raised.value) in str(mesh.error)


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


async def test_row_27_a_start_that_is_cancelled_as_it_fails_leaves_nothing(meshes: Meshes) -> None:
    """Nor an exception that nobody asks for: the fixture of all tests finds that, too."""
    for ticks in range(60):
        mesh = meshes.mesh(Orders(), amqp_url="amqp://guest:guest@127.0.0.1:1/")
        start = asyncio.create_task(mesh.start())
        for _ in range(ticks // 2):
            await asyncio.sleep(0)
        start.cancel()
        if ticks % 2:  # once more, while it waits for the end
            await asyncio.sleep(0)
            start.cancel()
        (outcome,) = await asyncio.gather(start, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError | BrokerUnreachableError)
        assert not configuring()
    gc.collect()


async def test_row_27_a_stop_waits_for_the_start_to_end(meshes: Meshes) -> None:
    for ticks in range(1, 40):
        mesh = meshes.mesh(Orders())
        start = asyncio.create_task(mesh.start())
        for _ in range(ticks):
            await asyncio.sleep(0)
        assert configuring()
        await mesh.stop()
        assert not configuring()
        with pytest.raises(TransportClosedError):
            await start


def configuring() -> list[asyncio.Task[Any]]:
    """Return the tasks that a start() of a mesh begins with."""
    return [each for each in asyncio.all_tasks() if each.get_name() == "nuropb-configure"]


async def test_threads_end_with_the_mesh(meshes: Meshes, rabbitmq_node: RabbitMQNode) -> None:
    """They end when it stops and when it fails, also when a method still runs in one of them."""
    orders, config = Orders(), meshes.config(missing_timeout=0)
    await configure(config)
    service = await meshes.serve(orders, amqp_url=config, configure=False)
    client = await meshes.client()
    calls = [
        asyncio.create_task(client.request("orders", "block", {"seconds": 0.2})) for _ in range(8)
    ]
    assert await asyncio.gather(*calls) == ["done"] * 8
    assert len(threads()) == 8
    await service.stop()
    await eventually(lambda: not threads())
    await service.start()
    call = asyncio.create_task(client.request("orders", "block"))
    await eventually(lambda: len(threads()) == 1)
    await asyncio.to_thread(delete_exchange, rabbitmq_node, meshes.url, "nuropb-rpc-exchange")
    for link in connections_of(service.transport):
        link.router.abort("test")
    await service.wait_for(State.FAILED, timeout=10)
    orders.release.set()
    await eventually(lambda: not threads())
    call.cancel()


def threads() -> list[str]:
    """Those in which methods of `orders` run."""
    return [each.name for each in threading.enumerate() if each.name.startswith("nuropb-orders")]


async def test_what_is_in_hand_has_threads_when_nobody_waits_for_the_stop(meshes: Meshes) -> None:
    """A stop() goes on by itself when it is cancelled; so do the methods that it waits for."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def admit(token: str) -> str:
        asked.set()
        await release.wait()
        return token

    class Door:
        _service_name = "orders"

        @publish_to_mesh(authorize_func=admit)
        def enter(self) -> str:
            return threading.current_thread().name

    service = await meshes.serve(Door())
    client = await meshes.client()
    call = asyncio.create_task(client.request("orders", "enter", context={"Authorization": "x"}))
    async with asyncio.timeout(5):
        await asked.wait()
    stop = asyncio.create_task(service.stop(grace=5))
    await eventually(lambda: service.state is State.DRAINING)
    stop.cancel()
    await asyncio.wait([stop])
    release.set()
    assert (await call).startswith("nuropb-orders")
    await eventually(lambda: service.state is State.STOPPED)
    await eventually(lambda: not threads())


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
    await service.stop(grace=0.2)
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
