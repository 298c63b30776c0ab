"""Rows 17-20: messages that cannot be read are dead-lettered once; nothing else is harmed."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import pika
import pytest

from nuropb_rmq import NuropbSerializationError, State, Transport
from nuropb_rmq.amqp import frames
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, command, event, request, result_of
from .console import connections, depth
from .test_row_05_channel_closed import ports_of

HEADERS = {
    "nuropb_protocol": "0.1.1",
    "nuropb_version": "0.1.8",
    "nuropb_type": "request",
    "trace_id": "t",
    "encrypted": "",
}
GOOD = (
    b'{"tag": "request", "service": "orders", "method": "m", "params": {}, '
    b'"correlation_id": "c", "context": {}, "trace_id": "t"}'
)
REPLIES = "nuropb-tap-tap-rq"
MAX_DEPTH = 100
"""Levels of arrays and objects, by default."""


def with_header(name: str, value: Any) -> dict[str, Any]:
    return {**HEADERS, name: value}


def body(**fields: Any) -> bytes:
    return json.dumps({**json.loads(GOOD), **fields}).encode()


def nesting(depth: int) -> bytes:
    """A good request that nests so many levels of arrays and objects, and has few brackets."""
    inner = depth - 2  # within the payload and its params
    return GOOD.replace(b'"params": {}', b'"params": {"n": %b1%b}' % (b"[" * inner, b"]" * inner))


# what is wrong → (headers, body)
BROKEN: dict[str, tuple[dict[str, Any] | None, bytes]] = {
    "17 bad JSON": (HEADERS, b'{"tag": "request",'),
    "17 not UTF-8": (HEADERS, b'{"tag": "\xff"}'),
    "17 a list": (HEADERS, b"[]"),
    "17 empty body": (HEADERS, b""),
    "17 unknown type": (with_header("nuropb_type", "riddle"), GOOD),
    "17 type is a number": (with_header("nuropb_type", 7), GOOD),
    "17 a response": (with_header("nuropb_type", "response"), GOOD),
    "17 wrong protocol": (with_header("nuropb_protocol", "9.9.9"), GOOD),
    "17 no protocol": ({"nuropb_type": "request"}, GOOD),
    "17 method is a number": (HEADERS, body(method=1)),
    "17 params is a list": (HEADERS, body(params=[])),
    "17 context is text": (HEADERS, body(context="x")),
    "17 foreign correlation id": (HEADERS, body(correlation_id="other")),
    "17 encrypted without a key": (with_header("encrypted", "yes"), b"abc.def"),
    "18 no headers": (None, GOOD),
    "18 empty headers": ({}, GOOD),
    "20 too deep": (HEADERS, b'{"a":' * 200 + b"1" + b"}" * 200),
    "20 a good request, one level too deep": (HEADERS, nesting(MAX_DEPTH + 1)),
    "20 far too deep": (HEADERS, b"[" * 100_000 + b"]" * 100_000),
    "20 too large": (HEADERS, body(params={"text": "x" * 200_000})),
    "20 a number with 10,000 digits": (HEADERS, body()[:-1] + b', "n": ' + b"9" * 10_000 + b"}"),
}


SAYS = {
    "20 a good request, one level too deep": b"nested deeper than 100 levels",
    "20 too large": b"larger than max_body_bytes",
}
"""Its author gets an error that names the limit."""


class Tap:
    """A plain pika client: publishes what no library of ours would, and reads queues."""

    def __init__(self, url: str) -> None:
        parameters = pika.URLParameters(url)
        self._connection = pika.BlockingConnection(parameters)
        self.channel = self._connection.channel()
        self.channel.queue_declare(REPLIES, durable=True)
        self.channel.queue_declare("nuropb-orders-dlq", passive=True)

    def publish(self, headers: dict[str, Any] | None, payload: bytes) -> None:
        properties = pika.BasicProperties(
            content_type="application/json",
            correlation_id="c",
            reply_to=REPLIES,
            headers=headers,
        )
        self.channel.basic_publish("nuropb-rpc-exchange", "orders", payload, properties)

    def take(self, queue: str) -> list[tuple[Any, bytes]]:
        """Everything that is in a queue now."""
        taken: list[tuple[Any, bytes]] = []
        while True:
            method, properties, payload = self.channel.basic_get(queue, auto_ack=True)
            if method is None or payload is None:
                return taken
            taken.append((properties, payload))

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    made = await asyncio.to_thread(Tap, mesh.url)
    yield made
    await asyncio.to_thread(made.close)


async def take(tap: Tap, queue: str, count: int) -> list[tuple[Any, bytes]]:
    """Wait for so many messages, and see that there are no more."""
    taken: list[tuple[Any, bytes]] = []

    async def more() -> None:
        while len(taken) < count:
            taken.extend(await asyncio.to_thread(tap.take, queue))
            await asyncio.sleep(0.02)

    await asyncio.wait_for(more(), 10)
    return taken


@pytest.mark.parametrize("problem", BROKEN)
async def test_rows_17_18_20(
    mesh: Transports, rabbitmq_node: RabbitMQNode, tap: Tap, problem: str
) -> None:
    recorder = Recorder()
    service = await mesh.service(recorder, max_body_bytes=100_000)
    client = await mesh.client()
    states: list[State] = []
    service.on_state_change(lambda state, _: states.append(state))
    headers, payload = BROKEN[problem]
    await asyncio.to_thread(tap.publish, headers, payload)
    (dead,) = await take(tap, "nuropb-orders-dlq", 1)
    assert dead[1] == payload
    (answer,) = await take(tap, REPLIES, 1)
    assert answer[0].correlation_id == "c"
    assert b'"error":{"error":"' in answer[1].replace(b" ", b"")
    assert SAYS.get(problem, b"") in answer[1]
    # Everything that was published before this call has been dealt with when it is answered.
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert await asyncio.to_thread(tap.take, "nuropb-orders-dlq") == []
    assert await asyncio.to_thread(tap.take, REPLIES) == []
    assert [each.payload["params"] for each in recorder.seen] == [{"n": 1}]
    assert states == []


async def test_row_20_as_deep_as_it_may_be_is_handled(mesh: Transports, tap: Tap) -> None:
    """The limit itself is admitted, coming in and going out; one level more is refused."""
    recorder = Recorder()
    await mesh.service(recorder)
    client = await mesh.client()
    await asyncio.to_thread(tap.publish, HEADERS, nesting(MAX_DEPTH))
    (answer,) = await take(tap, REPLIES, 1)
    assert b'"error":null' in answer[1].replace(b" ", b"")
    admitted = json.loads(nesting(MAX_DEPTH))["params"]
    assert result_of(await client.request(request(**admitted))) == admitted
    for deep in (MAX_DEPTH + 1, 2 * MAX_DEPTH):
        refused = json.loads(nesting(deep))["params"]
        for payload in (request(**refused), command(**refused), event("orders.deep", refused)):
            with pytest.raises(NuropbSerializationError, match=r"max_json_depth \(100 levels\)"):
                await client.send(payload)
        with pytest.raises(NuropbSerializationError, match="max_json_depth"):
            await client.request(request(**refused))
    assert len(recorder.seen) == 2


def entry(name: str, kind: bytes, value: bytes) -> bytes:
    return frames.shortstr(name) + kind + value


def nested(depth: int) -> bytes:
    table = b""
    for _ in range(depth):
        table = entry("a", b"F", struct.pack(">I", len(table)) + table)
    return table


GOOD_TABLE = b"".join(
    frames.table_entry(name, value) for name, value in HEADERS.items() if isinstance(value, str)
)
# what is wrong → (header table, correlation id)
UNDECODABLE: dict[str, tuple[bytes, bytes]] = {
    "19 timestamp beyond year 9999": (
        GOOD_TABLE + entry("when", b"T", struct.pack(">Q", 2**60)),
        b"c",
    ),
    "19 correlation id is not UTF-8": (GOOD_TABLE, b"c\xff\xfe"),
    "19 nested 900 deep": (GOOD_TABLE + nested(900), b"c"),
}


def publish_raw(transport: Transport, table: bytes, correlation_id: bytes) -> None:
    """Publish through a transport's own channel what pika would refuse to encode."""
    port = ports_of(transport)[-1]
    properties = b"".join(
        (
            struct.pack(">H", 0x2000 | 0x0400 | 0x0200),
            struct.pack(">I", len(table)),
            table,
            bytes((len(correlation_id),)),
            correlation_id,
            frames.shortstr(REPLIES),
        )
    )
    method = frames.publish_method("nuropb-rpc-exchange", "orders", mandatory=False)
    port.write(frames.pack_content(port.number, method, properties, GOOD, port.frame_max))


@pytest.mark.parametrize("problem", UNDECODABLE)
async def test_row_19_undecodable_headers(
    mesh: Transports, rabbitmq_node: RabbitMQNode, tap: Tap, problem: str
) -> None:
    recorder = Recorder()
    service = await mesh.service(recorder)
    client, spoiler = await mesh.client(), await mesh.client("spoiler")
    states: list[State] = []
    service.on_state_change(lambda state, _: states.append(state))
    before = await asyncio.to_thread(connections, rabbitmq_node)
    publish_raw(spoiler, *UNDECODABLE[problem])
    while await asyncio.to_thread(depth, rabbitmq_node, mesh.url, "nuropb-orders-dlq") == 0:
        assert service.state is State.READY
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert await asyncio.to_thread(depth, rabbitmq_node, mesh.url, "nuropb-orders-dlq") == 1
    assert await asyncio.to_thread(depth, rabbitmq_node, mesh.url, REPLIES) == 1
    assert [each.payload["params"] for each in recorder.seen] == [{"n": 1}]
    assert states == []
    assert before <= await asyncio.to_thread(connections, rabbitmq_node)
