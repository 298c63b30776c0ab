"""The floor: the same JSON, and nothing else that could be left out.

Frames are packed by hand, what is constant once; no confirms, no headers, no tasks, no timeouts.
With the option `batched`, the floor below the floor: what one turn of the loop writes is one write,
all that one read brought is acknowledged as one, and the json module's C functions are called
without what is around them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from . import wire
from .loop import LIVE, PREFETCH, STORE, Params, Side, main
from .wire import short

_encode_in_c = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, str, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
)
_decode_in_c = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[attr-defined]

_CORRELATION_AND_REPLY_TO = b"\x06\x00"
_CORRELATION = b"\x04\x00"
_NOTHING = b"\x00\x00"
_ANSWERS = b"answers"


def _encode(payload: Params) -> bytes:
    return json.dumps(payload).encode()


def _encode_lean(payload: Params) -> bytes:
    return "".join(_encode_in_c(payload, 0)).encode("ascii")


def _decode_lean(body: bytes) -> Any:
    return _decode_in_c(body.decode(), 0)[0]


class Acks:
    """Acknowledges each delivery, or, batched, all that came with one read."""

    def __init__(self, connection: wire.Wire, *, batched: bool) -> None:
        self._wire = connection
        self._batched = batched
        self._tag = 0
        if batched:
            connection.on_batch = self._write

    def ack(self, tag: int) -> None:
        """The delivery is done with."""
        if self._batched:
            self._tag = tag
        else:
            self._wire.write(wire.ack(tag, multiple=False))

    def _write(self) -> None:
        if self._tag:
            self._wire.write(wire.ack(self._tag, multiple=True))
            self._tag = 0


class Floor(Side):
    """A bare asyncio protocol."""

    def __init__(self, url: str, options: frozenset[str]) -> None:
        super().__init__(url, options)
        self._batched = "batched" in options
        self._encode = _encode_lean if self._batched else _encode
        self._decode = _decode_lean if self._batched else json.loads

    async def _connect(self) -> wire.Wire:
        return await wire.connect(self.url, joined=self._batched)

    async def start_client(self) -> None:
        """A client, on a connection of its own."""
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._numbers = iter(range(10**9))
        self._to_service = wire.publish_method(b"", b"bench")
        self._reply_to = short(_ANSWERS)
        self._client = await self._connect()
        await self._client.declare(_ANSWERS, b"\x04")
        await self._client.consume(_ANSWERS, self._on_answer, no_ack=True)

    def _on_answer(self, tag: int, properties: memoryview, body: bytes) -> None:
        payload = self._decode(body)
        self._waiting.pop(payload["correlation_id"]).set_result(payload["result"])

    async def call(self, given: Params) -> Any:
        """A request."""
        correlation_id = f"{next(self._numbers):032x}"
        future = self._waiting[correlation_id] = self._loop.create_future()
        body = self._encode(
            {
                "tag": "request",
                "service": "bench",
                "method": "echo",
                "params": given,
                "correlation_id": correlation_id,
                "trace_id": correlation_id,
                "context": {},
            }
        )
        properties = b"%s\x20%s%s" % (
            _CORRELATION_AND_REPLY_TO,
            correlation_id.encode(),
            self._reply_to,
        )
        self._client.write(self._to_service + wire.content(properties, body))
        return await future

    async def start_publisher(self) -> None:
        """A connection and the exchange."""
        self._client = await self._connect()
        self._subscribers: list[wire.Wire] = []
        exchange = self.exchange.encode()
        topic = (b"\x00\x00", short(exchange), short(b"topic"), b"\x02", b"\x00" * 4)
        await self._client.ask(40, 10, *topic)

    async def publish_many(self, topic: str, event: Params, count: int, outstanding: int) -> None:
        """Nothing is confirmed: the loop has a turn after each `outstanding`."""
        destination = wire.publish_method(self.exchange.encode(), topic.encode())
        for number in range(1, count + 1):
            body = self._encode({"tag": "event", "topic": topic, "event": event, "context": {}})
            self._client.write(destination + wire.content(_NOTHING, body))
            if number % outstanding == 0:
                await asyncio.sleep(0)

    async def flush(self) -> None:
        """A round trip behind the last event."""
        await self._client.declare(STORE.encode(), b"\x01")

    async def subscribe(self, number: int) -> None:
        """A durable queue."""
        connection = await self._connect()
        queue = f"listener{number}".encode()
        acks = Acks(connection, batched=self._batched)

        def listen(tag: int, properties: memoryview, body: bytes) -> None:
            self._decode(body)
            acks.ack(tag)
            self.handled()

        await connection.declare(queue, b"\x02")
        await connection.bind(queue, self.exchange.encode(), LIVE.encode())
        await connection.qos(PREFETCH)
        await connection.consume(queue, listen, no_ack=False)
        self._subscribers.append(connection)

    async def unsubscribe(self) -> None:
        """Close their connections."""
        for connection in self._subscribers:
            connection.close()
        self._subscribers.clear()

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service."""
        connection = await self._connect()
        acks = Acks(connection, batched=self._batched)
        to_client = wire.publish_method(b"", _ANSWERS)

        def serve(tag: int, properties: memoryview, body: bytes) -> None:
            payload = self._decode(body)
            correlation_id = payload["correlation_id"]
            answer = self._encode(
                {
                    "tag": "response",
                    "result": payload["params"],
                    "error": None,
                    "correlation_id": correlation_id,
                    "trace_id": payload["trace_id"],
                    "context": {},
                    "warning": None,
                    "reply_to": "",
                }
            )
            answered = b"%s\x20%s" % (_CORRELATION, correlation_id.encode())
            connection.write(to_client + wire.content(answered, answer))
            acks.ack(tag)

        await connection.declare(b"bench", b"\x02")
        await connection.qos(PREFETCH)
        await connection.consume(b"bench", self.callback(serve), no_ack=False)

        async def stop() -> None:
            connection.close()

        return stop


if __name__ == "__main__":
    main(Floor)
