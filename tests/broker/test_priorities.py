"""Priorities: an option of the service queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import NuropbConfigurationError, ServiceNotConfigured, TransportConfig

from ..seams import publisher_of
from ..support import Recorder, Transports, command, event, eventually, request


def test_a_quorum_queue_has_none() -> None:
    """RabbitMQ refuses x-max-priority there, with 406."""
    with pytest.raises(NuropbConfigurationError, match="max_priority: is for classic queues only"):
        TransportConfig(
            amqp_url="amqp://localhost", service_name="a", queue_type="quorum", max_priority=5
        )


async def test_a_higher_priority_overtakes_what_waits(mesh: Transports) -> None:
    """Requests, commands and events; without one they come last, in their order."""
    recorder = Recorder()
    settings: dict[str, Any] = {
        "max_priority": 5,
        "prefetch_count": 1,
        "event_bindings": ["shop.*"],
    }
    service = await mesh.service(recorder, **settings)
    await service.stop()
    client = await mesh.client()
    for number, priority in enumerate([None, 1, 5, 3, 5, None]):
        await client.send(command(n=number), priority=priority)
    await client.send(event("shop.opened", 4), priority=4)
    call = asyncio.create_task(client.request(request(n="asked"), priority=2))
    await client.send(command(n=6), priority=200)  # as if it were the highest
    await asyncio.sleep(0)
    await eventually(lambda: publisher_of(client).unconfirmed == 0)
    await service.start()
    await call
    await eventually(lambda: len(recorder.seen) == 9)
    seen = [each.payload.get("params", {}).get("n", "event") for each in recorder.seen]
    assert seen == [2, 4, 6, "event", 3, "asked", 1, 0, 5]


async def test_all_instances_must_agree(mesh: Transports) -> None:
    await mesh.service(Recorder(), instance_id="one")
    other = mesh.transport("orders", Recorder(), instance_id="two", max_priority=5)
    with pytest.raises(ServiceNotConfigured, match="max_priority"):
        await other.start()
