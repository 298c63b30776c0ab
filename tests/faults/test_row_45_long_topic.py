"""Row 45: a topic that is longer than a routing key can be is refused before it is compared."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pika

from nuropb_rmq import mesh_event

from ..mesh.support import Meshes
from ..support import eventually

LONG = "x." * 20_000 + "y"


class Desk:
    _service_name = "desk"

    def __init__(self) -> None:
        self.seen: list[str] = []

    @mesh_event("#.x.#.y")
    async def on_y(self, topic: str) -> None:
        self.seen.append(topic)

    async def ping(self) -> str:
        return "pong"


def publish_event(url: str, routing_key: str, topic: str) -> None:
    """As a peer without any checks of its own does."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    body = {"tag": "event", "topic": topic, "event": 1, "target": None, "context": {}}
    headers = {"nuropb_protocol": "0.1.1", "nuropb_version": "0.1.8", "nuropb_type": "event"}
    connection.channel().basic_publish(
        "nuropb-events-exchange",
        routing_key,
        json.dumps(body).encode(),
        pika.BasicProperties(correlation_id="c", headers={**headers, "encrypted": ""}),
    )
    connection.close()


async def test_row_45_a_topic_that_no_routing_key_can_be(meshes: Meshes) -> None:
    desk = Desk()
    await meshes.serve(desk)
    client = await meshes.client()
    await asyncio.to_thread(publish_event, meshes.url, "x.y", LONG)
    dead: list[dict[str, Any]] = await meshes.taken("nuropb-desk-dlq")
    assert dead[0]["topic"] == LONG
    await client.publish_event("a.x.b.y", 1)
    await eventually(lambda: desk.seen == ["a.x.b.y"])
    assert await client.request("desk", "ping", {}, timeout=5) == "pong"
