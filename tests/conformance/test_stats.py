"""Counts of a transport, and the ends of requests as observers hear of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import (
    MessageType,
    NuropbRemoteError,
    NuropbTimeoutError,
    Observer,
    Outage,
    Outcome,
    Retry,
    SentMessage,
    Settlement,
    State,
    mesh_event,
)

from ..mesh.support import Meshes
from ..support import eventually


class Shop:
    """A service with every kind of end."""

    _service_name = "shop"

    def __init__(self) -> None:
        self.events = 0
        self.go_on = asyncio.Event()

    async def get(self, number: int) -> int:
        return number

    async def fail(self) -> None:
        raise LookupError("no")

    async def away(self) -> None:
        raise ConnectionError("the database is away")

    async def wait(self) -> None:
        await self.go_on.wait()

    @mesh_event("shop.*")
    async def on_event(self, topic: str, event: Any) -> None:
        self.events += 1


class Ends(Observer):
    """Notes the ends of requests."""

    def __init__(self) -> None:
        self.of: list[tuple[str | None, str | None]] = []

    def request_ended(self, message: SentMessage, error: str | None, seconds: float) -> None:
        assert 0 <= seconds < 60
        assert message.kind is MessageType.REQUEST
        self.of.append((message.method, error))


async def test_what_is_counted(meshes: Meshes) -> None:
    shop = Shop()
    service = await meshes.serve(shop, retry=Retry(attempts=2, delays=(0.05,)))
    client = await meshes.client()
    before = client.stats()
    assert (before.service, before.state) == (client.service_name, State.READY)
    assert await client.request("shop", "get", {"number": 1}, encrypted=False) == 1
    with pytest.raises(NuropbRemoteError):
        await client.request("shop", "fail", encrypted=False)
    await client.publish_event("shop.opened", {})
    await client.command("shop", "fail", encrypted=False)
    waiting = asyncio.create_task(client.request("shop", "wait", encrypted=False))
    await eventually(lambda: service.stats().handlers_active == 1)
    await eventually(lambda: service.stats().dead_letters == 1)
    await eventually(lambda: service.stats().deliveries_unsettled == 1)
    stats = client.stats()
    assert stats.sent == {
        MessageType.REQUEST: 3, MessageType.COMMAND: 1, MessageType.EVENT: 1,
        MessageType.RESPONSE: 0,
    }  # fmt: skip
    assert (stats.answered, stats.requests_pending, stats.unconfirmed) == (2, 1, 0)
    assert (stats.outbox_messages, stats.outbox_bytes, stats.outbox_oldest) == (0, 0, 0)
    served = service.stats()
    assert served.received == 6  # the command twice
    assert served.sent[MessageType.RESPONSE] == 2
    assert served.handled == {
        Outcome.DONE: 2, Outcome.FAILED: 2, Outcome.RETRY: 1, Outcome.CALL_AGAIN: 0,
    }  # fmt: skip
    assert served.settled[Settlement.ACK] == 3
    assert (served.retries, served.dead_letters, served.returned) == (1, 1, 0)
    shop.go_on.set()
    await waiting
    await service.stop()
    await client.stop()
    assert service.stats().handled[Outcome.DONE] == 3
    assert service.stats().state is State.STOPPED


async def test_what_is_left_at_stop_was_returned(meshes: Meshes) -> None:
    service = await meshes.serve(Shop())
    client = await meshes.client()
    await client.command("shop", "wait", encrypted=False)
    await eventually(lambda: service.stats().handlers_active == 1)
    await service.stop(grace=0)
    assert (service.stats().returned, service.stats().received) == (1, 1)


async def test_the_ends_of_requests(meshes: Meshes) -> None:
    await meshes.serve(Shop())
    client = await meshes.client()
    ends = Ends()
    stop = client.observe(ends)
    await client.request("shop", "get", {"number": 1}, encrypted=False)
    with pytest.raises(NuropbRemoteError):
        await client.request("shop", "fail", encrypted=False)
    with pytest.raises(NuropbRemoteError):
        await client.request("shop", "nope", encrypted=False)
    with pytest.raises(NuropbTimeoutError):
        await client.request("shop", "wait", timeout=0.05, encrypted=False)
    waiting = asyncio.create_task(client.request("shop", "wait", encrypted=False))
    await eventually(lambda: client.stats().requests_pending == 1)
    waiting.cancel()
    await eventually(waiting.done)
    stop()
    await client.request("shop", "get", {"number": 1}, encrypted=False)
    assert ends.of == [
        ("get", None), ("fail", "LookupError"), ("nope", "NuropbHandlingError"),
        ("wait", "NuropbTimeoutError"), ("wait", "CancelledError"),
    ]  # fmt: skip


async def test_received_messages_stay_counted(meshes: Meshes) -> None:
    """Of those that an outage holds, only the ones that were begun count, whatever comes after."""
    service = await meshes.serve(Shop(), outage=Outage(after=1, probe_every=20))
    client = await meshes.client()
    await client.command("shop", "away", encrypted=False)
    await eventually(lambda: service.state is State.OUTAGE)
    for _ in range(5):
        await client.command("shop", "away", encrypted=False)
    await eventually(lambda: service.stats().deliveries_unsettled >= 5)
    received = service.stats().received
    await service.transport.stop_consuming()
    assert service.stats().received == received
    await service.stop()
    assert service.stats().received == received
