"""Row 54: what a message may do is what its exchange and routing key allow, not what it says."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import pika
import pytest

from nuropb_rmq import mesh_event

from ..broker.test_security import urls
from ..encrypting import DL_QUEUE, HEADERS, TAP_QUEUE, Taken, Tap, tapping
from ..mesh.support import Meshes
from ..support import Transports, command, event, eventually, request

__all__ = ["urls"]

RPC, EVENTS, QUEUE = "nuropb-rpc-exchange", "nuropb-events-exchange", "nuropb-orders-sq"


class Orders:
    _service_name = "orders"

    def __init__(self) -> None:
        self.runs: list[str] = []

    @mesh_event("admin.*")
    def on_admin(self, topic: str) -> None:
        self.runs.append(topic)

    @mesh_event("shop.*")
    def on_shop(self, topic: str) -> None:
        self.runs.append(topic)

    async def note(self, name: str) -> None:
        self.runs.append(name)
        if name == "fails once" and self.runs.count(name) == 1:
            raise LookupError(name)


RESET = event("admin.reset", 1)
AGAIN = {"nuropb_ca_count": 1, "nuropb_ca_exchange": EVENTS, "nuropb_ca_routing_key": "admin.reset"}
ATTACKS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    (EVENTS, "shop.x", RESET, {}),
    (EVENTS, "shop.x", RESET, AGAIN),
    (EVENTS, "shop.x", command(name="by events"), {}),
    (EVENTS, "shop.x", request("note", name="by events"), {}),
    (RPC, "orders", RESET, {}),
    (RPC, "orders", RESET, AGAIN),
]
"""Exchange, routing key, payload, and headers beside the usual."""


def publish(
    channel: Any, exchange: str, key: str, payload: Mapping[str, Any], headers: Mapping[str, Any]
) -> None:
    said = {**HEADERS, **headers, "nuropb_type": payload["tag"], "encrypted": ""}
    properties = pika.BasicProperties(correlation_id="c", reply_to=TAP_QUEUE, headers=said)
    channel.basic_publish(exchange, key, json.dumps(payload).encode(), properties)


def put_back(tap: Tap, letters: list[Taken]) -> None:
    """As an operator does: all that is in a letter, to the queue."""
    for properties, body in letters:
        tap.channel.basic_publish("", QUEUE, body, properties)


async def test_row_54_a_message_may_do_what_its_way_in_allows(
    urls: dict[str, str], mesh: Transports, meshes: Meshes, caplog: pytest.LogCaptureFixture
) -> None:
    orders = Orders()
    await meshes.serve(orders, amqp_url=urls["orders"], configure=False)
    async with tapping(mesh) as tap:

        def attack() -> list[Taken]:
            connection = pika.BlockingConnection(pika.URLParameters(urls["shop"]))
            for each in ATTACKS:
                publish(connection.channel(), *each)
            connection.close()
            letters = tap.take(DL_QUEUE, len(ATTACKS))
            put_back(tap, letters)  # a refused one stays refused
            tap.take(DL_QUEUE, len(ATTACKS))
            for _, body in tap.take(count=2 * len(ATTACKS)):
                assert json.loads(body)["error"]["error"] == "MalformedMessageError"
            return letters

        with caplog.at_level(logging.WARNING, "nuropb_rmq"):
            await asyncio.to_thread(attack)
        assert orders.runs == []
        assert caplog.text.count("is dead-lettered: field 'topic' is 'admin.reset'") >= 2

        def properly() -> None:
            publish(tap.channel, EVENTS, "shop.x", event("shop.x", 1), {})
            publish(tap.channel, EVENTS, "admin.reset", RESET, {})
            publish(tap.channel, RPC, "orders", command(name="fails once"), {})
            put_back(tap, tap.take(DL_QUEUE))
            publish(tap.channel, "", QUEUE, event("shop.y", 1), {})

        await asyncio.to_thread(properly)
        await eventually(lambda: len(orders.runs) == 5)
        expected = ["admin.reset", "fails once", "fails once", "shop.x", "shop.y"]
        assert sorted(orders.runs) == expected
