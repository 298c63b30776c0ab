"""EventListener: events beside their services, in memory and on RabbitMQ."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from nuropb_rmq import (
    EventListener,
    NuropbConfigurationError,
    NuropbTransportError,
    ServiceNotConfigured,
    TransportClosedError,
    TransportConfig,
)
from nuropb_rmq.broker.connecting import open_connection

from ..mesh.support import Meshes
from ..seams import cut
from ..support import eventually
from .brokers import Place
from .raw import RawChannel
from .test_events import Audit

EVENTS = "nuropb-events-exchange"


async def test_it_takes_copies(meshes: Meshes, place: Place) -> None:
    audit = Audit()
    await meshes.serve(audit, event_bindings=["#"])
    client = await meshes.client()
    async with EventListener(place.url, "a.*", "#.z") as listener:
        for topic in ("a.b", "b", "c.d.z", "a.z"):
            await client.publish_event(topic, {"to": topic}, context={"user": "hugo"})
        heard = [await anext(listener) for _ in range(3)]
        assert [each.topic for each in heard] == ["a.b", "c.d.z", "a.z"]
        assert heard[0].event == {"to": "a.b"}
        assert heard[0].context == {"user": "hugo"}
        assert heard[0].correlation_id
        assert (heard[0].problem, heard[0].target) == (None, None)
        assert heard[0].body_size > 0
        assert "hugo" not in repr(heard[0])
    await eventually(lambda: len(audit.seen) == 4)


async def test_all_topics_and_many(meshes: Meshes, place: Place, configured: None) -> None:
    """More than are in hand at a time, while nobody takes them."""
    client = await meshes.client()
    async with EventListener(place.url) as listener:
        for number in range(600):
            client.transport.post({"tag": "event", "topic": "t", "event": number, "target": None})
        assert [(await anext(listener)).event for _ in range(600)] == list(range(600))


async def test_what_is_no_event(place: Place, channel: RawChannel, configured: None) -> None:
    said = {"nuropb_type": "event", "nuropb_protocol": "0.1.1"}
    async with EventListener(TransportConfig(amqp_url=place.url, service_name="ear")) as listener:
        command = {**said, "nuropb_type": "command"}
        bodies = [(said, b"\xff"), (said, b"[1]"), (said, b"{}"), (None, b'{"event": 1}')]
        for headers, body in (*bodies, (command, b'{"event": 1}')):
            await channel.publish("t", body, exchange=EVENTS, headers=headers, correlation_id="c")
            event = await anext(listener)
            assert event.topic == "t"
            assert event.event is None
            assert event.problem


async def test_a_cancelled_wait_loses_nothing(
    meshes: Meshes, place: Place, configured: None
) -> None:
    client = await meshes.client()
    heard: list[Any] = []
    async with EventListener(place.url) as listener:
        for number in range(20):
            waiting = asyncio.ensure_future(anext(listener))
            await client.publish_event("t", number)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                heard.append((await waiting).event)
        while len(heard) < 20:
            heard.append((await anext(listener)).event)
    assert heard == list(range(20))


async def test_it_is_closed(place: Place, configured: None) -> None:
    listener = EventListener(place.url)
    with pytest.raises(TransportClosedError):
        await anext(listener)
    async with listener:
        waiting = asyncio.ensure_future(anext(listener))
        await asyncio.sleep(0)
    with pytest.raises(TransportClosedError):
        await waiting


async def test_it_goes_on(meshes: Meshes, place: Place, configured: None) -> None:
    told: list[NuropbTransportError | None] = []
    client = await meshes.client()
    async with EventListener(place.url, on_interrupted=told.append) as listener:
        await client.publish_event("t", 1)
        assert (await anext(listener)).event == 1
        waiting = asyncio.ensure_future(anext(listener))
        cut(listener)
        await eventually(lambda: len(told) == 2, within=15)
        assert isinstance(told[0], NuropbTransportError)
        assert told[1] is None
        await client.publish_event("t", 2)
        assert (await waiting).event == 2


async def test_a_recovery_may_be_cancelled(meshes: Meshes, place: Place, configured: None) -> None:
    told: list[NuropbTransportError | None] = []
    client = await meshes.client()
    async with EventListener(place.url, on_interrupted=told.append) as listener:
        cut(listener)
        for turns in range(30):  # at each of its steps, one way or another
            waiting = asyncio.ensure_future(anext(listener))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
        waiting = asyncio.ensure_future(anext(listener))
        await eventually(lambda: told[-1:] == [None], within=15)
        await client.publish_event("t", 1)
        assert (await waiting).event == 1
    assert len(told) % 2 == 0


async def test_a_connection_that_was_shut_is_not_usable(place: Place) -> None:
    config = TransportConfig(amqp_url=place.url, service_name="orders")
    connection = await open_connection(config, purpose="test")
    await connection.usable()
    await connection.shut()
    for _ in range(2):
        with pytest.raises(TransportClosedError):
            await connection.usable()


async def test_it_is_closed_while_it_recovers(
    meshes: Meshes, place: Place, configured: None
) -> None:
    for turns in range(0, 30, 3):
        async with EventListener(place.url) as listener:
            waiting = asyncio.ensure_future(anext(listener))
            await asyncio.sleep(0)
            cut(listener)
            for _ in range(turns):
                await asyncio.sleep(0)
        with pytest.raises(TransportClosedError):
            await waiting


async def test_what_is_missing(place: Place) -> None:
    with pytest.raises(ServiceNotConfigured, match=r"nuropb-events-exchange.* does not exist"):
        async with EventListener(place.url):
            pass


@pytest.mark.parametrize("topic", ["", "a" * 256, 1])
def test_what_is_no_topic(topic: Any) -> None:
    with pytest.raises(NuropbConfigurationError, match="topics: must be a topic"):
        EventListener("memory://x", topic)
