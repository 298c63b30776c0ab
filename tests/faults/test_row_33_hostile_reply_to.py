"""Row 33: a request names a reply_to that no requester has. Nothing is published there."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pika
import pytest

from nuropb_rmq import Message, State

from ..encrypting import HEADERS, TAP_QUEUE, Tap, tapping
from ..support import Recorder, Transports, request, result_of

VICTIM = "somebody-elses-queue"
HOSTILE = [
    VICTIM,
    "nuropb-orders-sq",  # the service itself, for ever
    "nuropb-orders-dlq",
    f"{VICTIM}\nnuropb-x-rq",
    f"nuropb-\n{VICTIM}-rq",
    "x-nuropb-a-rq",
    "nuropb-a-rq-x",
    "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM.x==",
    "NUROPB-A-RQ",
    "nuropb-rq",
]


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """A plain AMQP client, and a queue that is none of our business."""
    async with tapping(mesh) as made:
        await asyncio.to_thread(made.channel.queue_declare, VICTIM, exclusive=True)
        yield made


def ask(tap: Tap, reply_to: str, body: bytes | None = None) -> None:
    """Publish a request, or what pretends to be one."""
    payload = {"correlation_id": "c", "context": {}, "trace_id": "t", **request(text="hello")}
    properties = pika.BasicProperties(
        correlation_id="c",
        reply_to=reply_to,
        headers={**HEADERS, "nuropb_type": "request", "encrypted": ""},
    )
    body = json.dumps(payload).encode() if body is None else body
    tap.channel.basic_publish("nuropb-rpc-exchange", "orders", body, properties)


async def test_row_33_nothing_is_published_there(
    mesh: Transports, tap: Tap, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    service = await mesh.service(recorder)
    client = await mesh.client()
    states: list[State] = []
    service.on_state_change(lambda state, _: states.append(state))
    with caplog.at_level(logging.WARNING, "nuropb_rmq"):
        for reply_to in HOSTILE:
            await asyncio.to_thread(ask, tap, reply_to)
            await asyncio.to_thread(ask, tap, reply_to, b"no JSON")
        # The broker has all of it when it answers the tap, and it is dealt with before this call.
        await asyncio.to_thread(tap.depth, VICTIM)
        assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert [each.payload["params"] for each in recorder.seen] == [
        *[{"text": "hello"}] * len(HOSTILE),
        {"n": 1},
    ]
    told = [each.getMessage() for each in caplog.records if "reply_to" in each.getMessage()]
    assert len(told) == 1, "a refusal is logged once, however many there are"
    assert "reply_to_pattern" in told[0], "it names the setting"
    assert VICTIM in told[0]
    assert await asyncio.to_thread(tap.depth, VICTIM) == 0
    await asyncio.to_thread(tap.take, "nuropb-orders-dlq", len(HOSTILE))
    assert states == []


async def test_row_33_what_looks_like_a_response_queue_is_answered(
    mesh: Transports, tap: Tap
) -> None:
    await mesh.service(Recorder())
    await asyncio.to_thread(ask, tap, TAP_QUEUE)
    ((properties, body),) = await asyncio.to_thread(tap.take)
    assert properties.correlation_id == "c"
    assert json.loads(body)["result"] == {"text": "hello"}


async def test_row_33_the_pattern_can_be_set(mesh: Transports, tap: Tap) -> None:
    await mesh.service(Recorder(), reply_to_pattern=f"nuropb-.*-rq|{VICTIM}")
    await asyncio.to_thread(ask, tap, VICTIM)
    ((_, body),) = await asyncio.to_thread(tap.take, VICTIM)
    assert json.loads(body)["result"] == {"text": "hello"}


async def test_row_33_a_handler_cannot_be_made_to_answer_elsewhere(
    mesh: Transports, tap: Tap
) -> None:
    """The reply_to in a request's body counts for nothing, nor does one that a handler echoes."""

    async def echo(message: Message) -> object:
        return message.payload

    await mesh.service(echo)
    payload = {"correlation_id": "c", "context": {}, "trace_id": "t", "reply_to": VICTIM}
    body = json.dumps({**payload, **request()}).encode()
    await asyncio.to_thread(ask, tap, TAP_QUEUE, body)
    ((_, answer),) = await asyncio.to_thread(tap.take)
    assert json.loads(answer)["result"]["reply_to"] == VICTIM
    assert await asyncio.to_thread(tap.depth, VICTIM) == 0
