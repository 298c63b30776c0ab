"""Row 32: what is no response is sent to a response queue. It is never executed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pika
import pytest

from nuropb_rmq import Message, State, Transport

from ..encrypting import HEADERS, Tap, tapping
from ..support import Recorder, Transports, eventually, request, result_of


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """A plain AMQP client."""
    async with tapping(mesh) as made:
        yield made


def bodies(correlation_id: str) -> dict[str, bytes]:
    """A well-formed payload of each kind that is no response."""
    ids: dict[str, Any] = {"correlation_id": correlation_id, "context": {}, "trace_id": None}
    call = {"service": "orders", "method": "drop_all", "params": {}}
    payloads = {
        "request": {**ids, **call},
        "command": {**ids, **call},
        "event": {**ids, "topic": "orders.gone", "event": {}, "target": None},
    }
    return {
        kind: json.dumps({"tag": kind, **payload}).encode() for kind, payload in payloads.items()
    }


def post(tap: Tap, queue: str, kind: str, body: bytes, correlation_id: str) -> None:
    properties = pika.BasicProperties(
        correlation_id=correlation_id,
        reply_to="nuropb-tap-rq",
        headers={**HEADERS, "nuropb_type": kind, "encrypted": ""},
    )
    tap.channel.basic_publish("", queue, body, properties)


def response_queue(transport: Transport) -> str:
    return transport.config.response_queue_name(transport.instance_id)


@pytest.mark.parametrize("whose", ["client's", "service's"])
async def test_row_32_it_is_dropped_and_counted(mesh: Transports, tap: Tap, whose: str) -> None:
    recorder = Recorder()
    service = await mesh.service(recorder)
    client = await mesh.client()
    target = client if whose == "client's" else service
    for kind, body in bodies("c-1").items():
        await asyncio.to_thread(post, tap, response_queue(target), kind, body, "c-1")
    await eventually(lambda: target.dropped == {"not a response": 3})
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert [each.payload["method"] for each in recorder.seen] == ["echo"]
    assert await asyncio.to_thread(tap.depth, "nuropb-tap-rq") == 0, "it was answered"
    assert await asyncio.to_thread(tap.depth, "nuropb-orders-dlq") == 0
    assert (service.state, client.state) == (State.READY, State.READY)


async def test_row_32_it_does_not_end_the_request_whose_id_it_has(
    mesh: Transports, tap: Tap
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(_: Message) -> str:
        begun.set()
        await release.wait()
        return "the answer"

    await mesh.service(slow)
    client = await mesh.client()
    call = asyncio.create_task(client.request({**request(), "correlation_id": "c-2"}))
    await begun.wait()
    for kind, body in bodies("c-2").items():
        await asyncio.to_thread(post, tap, response_queue(client), kind, body, "c-2")
    # Nor do a response that cannot be read as one, and one that belongs to nobody.
    await asyncio.to_thread(post, tap, response_queue(client), "riddle", b"{}", "c-2")
    await asyncio.to_thread(post, tap, response_queue(client), "response", b"{}", "nobody's")
    await eventually(
        lambda: client.dropped == {"not a response": 3, "malformed": 1, "unclaimed": 1},
        describe=lambda: client.dropped,
    )
    assert client.pending == 1
    assert not call.done()
    release.set()
    assert result_of(await call) == "the answer"


async def test_row_32_the_count_begins_anew_with_a_start(mesh: Transports, tap: Tap) -> None:
    client = await mesh.client()
    assert client.dropped == {}
    await asyncio.to_thread(
        post, tap, response_queue(client), "command", bodies("c")["command"], "c"
    )
    await eventually(lambda: client.dropped)
    await client.stop()
    assert client.dropped == {"not a response": 1}, "it can be read when all is over"
    await client.start()
    assert client.dropped == {}
    assert mesh.transport("never-started").dropped == {}
