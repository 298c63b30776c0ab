"""Handlers that ask for their message once more, beside a Retry and an Outage."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq import (
    Mesh,
    NuropbCallAgain,
    NuropbRemoteError,
    Outage,
    Retry,
    RetryLater,
    State,
    mesh_event,
    publish_to_mesh,
)
from nuropb_rmq.amqp.settlement import Settlement

from ..mesh.support import Meshes
from ..support import eventually
from .brokers import Place, becomes

DLQ = "nuropb-orders-dlq"
RETRY = Retry(attempts=4, immediate=2, delays=(0.05,), requests=True)


class Orders:
    """Asks again as often as it is called."""

    _service_name = "orders"

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def again(self) -> None:
        self.calls.append("again")
        raise NuropbCallAgain

    async def later(self) -> None:
        self.calls.append("later")
        raise RetryLater("not yet", after=0.05)

    async def later_because(self) -> None:
        self.calls.append("later")
        raise RetryLater("not yet", after=0.05) from ConnectionError("away")


@pytest.mark.parametrize("outage", [None, Outage(after=1, probe_every=0.05)])
async def test_a_call_again_is_one_under_a_retry(
    meshes: Meshes, place: Place, outage: Outage | None
) -> None:
    orders = Orders()
    mesh = await meshes.serve(orders, retry=RETRY, outage=outage)
    await mesh.command("orders", "again")
    await becomes(lambda: place.depth(DLQ), 1)
    assert orders.calls == ["again"] * 2
    with pytest.raises(NuropbRemoteError) as caught:
        await mesh.request("orders", "again")
    assert caught.value.error == "NuropbCallAgainReject"
    assert orders.calls == ["again"] * 4
    assert mesh.state is State.READY
    assert mesh.stats().settled[Settlement.CALL_AGAIN] == 2


async def test_a_retry_later_is_no_failure_unless_it_has_a_cause(meshes: Meshes) -> None:
    orders = Orders()
    outage = Outage(after=2, probe_every=0.05)
    mesh = await meshes.serve(orders, retry=Retry(attempts=99, delays=(0.05,)), outage=outage)
    await mesh.command("orders", "later")
    await eventually(lambda: len(orders.calls) > 5)
    assert mesh.state is State.READY
    await mesh.command("orders", "later_because")
    await eventually(lambda: mesh.state is State.OUTAGE)


class Shipping:
    """Two handlers of one event: one waits, one fails, each the first time."""

    _service_name = "orders"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _call(self, name: str, error: Exception) -> None:
        self.calls.append(name)
        if self.calls.count(name) == 1:
            raise error

    @mesh_event("orders.new")
    async def pack(self) -> None:
        self._call("pack", LookupError("nothing there"))

    @mesh_event("orders.*")
    async def ship(self) -> None:
        self._call("ship", RetryLater("not yet", after=0.05))


@pytest.mark.parametrize("retry", [None, Retry(attempts=2, delays=(0.05,), only=(OSError,))])
async def test_one_handler_of_an_event_waits_and_another_fails(
    meshes: Meshes, place: Place, retry: Retry | None
) -> None:
    shipping = Shipping()
    config = meshes.config(retry_delays=(0.05,))
    mesh = await meshes.serve(shipping, amqp_url=config, retry=retry)
    await mesh.publish_event("orders.new", {})
    await eventually(lambda: len(shipping.calls) == 4)
    assert sorted(shipping.calls) == ["pack", "pack", "ship", "ship"]
    await mesh.command("orders", "nuropb_describe")  # behind it
    assert await place.depth(DLQ) == 0


class Fallback:
    _service_name = "orders"

    def __init__(self) -> None:
        self.calls = 0

    @publish_to_mesh(retry=Retry(attempts=2, delays=(0.05,)))
    async def _handle_event_(self, topic: str, event: Any, *_: Any) -> None:
        self.calls += 1
        raise LookupError(topic)


async def test_the_retry_of_the_handler_of_all_other_events(meshes: Meshes, place: Place) -> None:
    fallback = Fallback()
    mesh: Mesh = await meshes.serve(fallback, event_bindings=("orders.*",))
    assert mesh.transport.config.retry_delays == (0.05,)
    await mesh.publish_event("orders.new", {})
    await becomes(lambda: place.depth(DLQ), 1)
    assert fallback.calls == 2
