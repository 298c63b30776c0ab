"""For the tests of encrypted calls: keys, a pair that encrypts, and a client that does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import pika
from cryptography.hazmat.primitives.asymmetric import rsa

from nuropb_rmq import Encryptor, Handler, Transport

from .support import Transports, eventually, request

SECRET = "attack at dawn"
DL_QUEUE = "nuropb-orders-dlq"
TAP_QUEUE = "nuropb-tap-rq"  # a name that services answer to
HEADERS = {"nuropb_protocol": "0.1.1", "nuropb_version": "0.1.8", "trace_id": "t"}
Taken = tuple[pika.BasicProperties, bytes]


@cache
def private_key(name: str) -> rsa.RSAPrivateKey:
    """The key of a service, made once."""
    return rsa.generate_private_key(65537, 2048)


def serving(name: str = "orders") -> Encryptor:
    """Return a service's encryptor, with its private key."""
    return Encryptor(name, private_key(name))


def calling(*names: str) -> Encryptor:
    """Return a requester's encryptor, with the public keys of services."""
    made = Encryptor()
    for name in names or ("orders",):
        made.add_public_key(name, private_key(name).public_key())
    return made


class Pair:
    """A service and a client that encrypt."""

    def __init__(self, mesh: Transports) -> None:
        self.mesh = mesh
        self.theirs = serving()
        self.ours = calling("orders", "nobody")
        self.service: Transport
        self.client: Transport

    async def start(self, handler: Handler, **settings: Any) -> None:
        """Start both; the settings are of the service."""
        self.service = await self.mesh.service(handler, encryptor=self.theirs, **settings)
        self.client = await self.mesh.client(encryptor=self.ours)

    async def call(self, method: str = "echo", timeout: float = 30, **params: Any) -> Any:
        """An encrypted request."""
        return await self.client.request(request(method, **params), timeout=timeout, encrypted=True)

    async def nothing_remembered(self) -> None:
        """Neither side keeps the key of any call."""
        await eventually(
            lambda: self.ours.calls_remembered == 0 == self.theirs.calls_remembered,
            describe=lambda: f"keys: {self.ours.calls_remembered}, {self.theirs.calls_remembered}",
        )


class Tap:
    """A plain AMQP client, for what no transport of ours would show or say."""

    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self._connection.channel()
        self.channel.queue_declare(TAP_QUEUE, durable=True)

    def bind(self, routing_key: str) -> None:
        """Copy the requests and commands for this service into the tap's queue."""
        self.channel.queue_bind(TAP_QUEUE, "nuropb-rpc-exchange", routing_key)

    def subscribe(self, queue: str, topic: str, most: int | None = None) -> None:
        """Declare a queue of events, which refuses more than so many."""
        full = {} if most is None else {"x-max-length": most, "x-overflow": "reject-publish"}
        self.channel.queue_declare(queue, durable=True, arguments=full)
        self.channel.queue_bind(queue, "nuropb-events-exchange", topic)

    def take(self, queue: str = TAP_QUEUE, count: int = 1) -> list[Taken]:
        """Wait for so many messages; more of them stay where they are."""
        taken: list[Taken] = []
        for method, properties, body in self.channel.consume(queue, inactivity_timeout=10):
            assert method is not None, f"only {len(taken)} messages in {queue}"
            assert properties is not None
            assert body is not None
            self.channel.basic_ack(method.delivery_tag)
            taken.append((properties, body))
            if len(taken) == count:
                break
        self.channel.cancel()
        return taken

    def depth(self, queue: str) -> int:
        """Messages in a queue."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def answer(self, to: pika.BasicProperties, body: bytes, *, encrypted: bool) -> None:
        """Publish a response to a message that was taken."""
        said = {**HEADERS, "nuropb_type": "response", "encrypted": "yes" if encrypted else ""}
        properties = pika.BasicProperties(correlation_id=to.correlation_id, headers=said)
        self.channel.basic_publish("", str(to.reply_to), body, properties)

    def ask(self, service: str, body: bytes, identity: str, reply_to: str | None = None) -> None:
        """Publish an encrypted request."""
        said = {**HEADERS, "nuropb_type": "request", "encrypted": "yes"}
        properties = pika.BasicProperties(correlation_id=identity, reply_to=reply_to, headers=said)
        self.channel.basic_publish("nuropb-rpc-exchange", service, body, properties)

    def publish(self, queue: str, body: bytes, kind: str) -> None:
        """Publish a plain message of this type to a queue."""
        said = {**HEADERS, "nuropb_type": kind, "encrypted": ""}
        properties = pika.BasicProperties(correlation_id="tapped", headers=said)
        self.channel.basic_publish("", queue, body, properties)

    def close(self) -> None:
        """End it."""
        self._connection.close()


@asynccontextmanager
async def tapping(mesh: Transports) -> AsyncIterator[Tap]:
    """A tap on the mesh's virtual host."""
    made = await asyncio.to_thread(Tap, mesh.url)
    yield made
    await asyncio.to_thread(made.close)


def headers_of(properties: pika.BasicProperties) -> Mapping[str, Any]:
    """The headers of a message that was taken."""
    assert properties.headers is not None
    headers: Mapping[str, Any] = properties.headers
    return headers


def response(to: pika.BasicProperties, result: object) -> bytes:
    """The body of a response to a message that was taken, in plain."""
    payload = {
        "tag": "response",
        "correlation_id": to.correlation_id,
        "result": result,
        "error": None,
        "context": {},
        "trace_id": None,
        "warning": None,
        "reply_to": to.reply_to,
    }
    return json.dumps(payload).encode()
