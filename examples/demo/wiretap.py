"""Read the broker's queues, as somebody who may do so."""

from __future__ import annotations

from base64 import b64decode

from nuropb_rmq import TransportConfig
from nuropb_rmq.testing import RabbitMQNode

from .programs import in_thread

__all__ = ["begin", "take_all"]

NAME = "demo-wiretap"
QUEUE = f"/api/queues/%2F/{NAME}"


async def begin(node: RabbitMQNode) -> None:
    """From now on a queue gets a copy of all that is sent to the orders service."""
    config = TransportConfig(amqp_url=node.amqp_url, service_name="orders")
    binding = f"/api/bindings/%2F/e/{config.rpc_exchange}/q/{NAME}"
    await in_thread(node.api, "PUT", QUEUE, {"durable": True})
    await in_thread(node.api, "POST", binding, {"routing_key": config.service_name})


async def take_all(node: RabbitMQNode) -> tuple[list[bytes], list[bytes]]:
    """The bodies of the encrypted and of the plain messages so far; and no more copies."""
    everything = {"count": 10_000, "ackmode": "ack_requeue_false", "encoding": "base64"}
    messages = await in_thread(node.api, "POST", f"{QUEUE}/get", everything)
    await in_thread(node.api, "DELETE", QUEUE)
    secret: list[bytes] = []
    plain: list[bytes] = []
    for message in messages:
        encrypted = message["properties"]["headers"]["encrypted"] == "yes"
        (secret if encrypted else plain).append(b64decode(message["payload"]))
    return secret, plain
