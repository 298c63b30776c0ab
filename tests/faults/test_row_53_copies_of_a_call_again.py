"""Row 53: a message that is put back goes to its service queue, and to nothing that it names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pika

from nuropb_rmq import NuropbCallAgain

from ..broker.test_security import urls
from ..encrypting import HEADERS, tapping
from ..mesh.support import Meshes
from ..support import Transports, command, eventually

__all__ = ["urls"]

RPC = "nuropb-rpc-exchange"
FORGED = {"nuropb_ca_count": 1, "nuropb_ca_exchange": "", "nuropb_ca_routing_key": "victim"}
COMMANDS: Mapping[str, Mapping[str, Any]] = {
    "CC": {"CC": ["victim"]},
    "BCC": {"BCC": ["victim"]},
    "both, twice": {"CC": ["victim", "victim"], "BCC": ["victim"]},
    "called again already": FORGED,
    "never called again": {"nuropb_ca_count": -1},
}


class Orders:
    """Each command calls again, once."""

    _service_name = "orders"

    def __init__(self) -> None:
        self.runs: list[str] = []

    async def note(self, name: str) -> None:
        self.runs.append(name)
        if self.runs.count(name) == 1:
            raise NuropbCallAgain


async def test_row_53_a_call_again_is_copied_to_no_other_queue(
    urls: dict[str, str], mesh: Transports, meshes: Meshes
) -> None:
    orders = Orders()
    await meshes.serve(orders, amqp_url=urls["orders"], configure=False)
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.channel.queue_declare, "victim", durable=True)

        def attack() -> None:
            connection = pika.BlockingConnection(pika.URLParameters(urls["shop"]))
            channel = connection.channel()
            channel.confirm_delivery()
            for name, headers in COMMANDS.items():
                properties = pika.BasicProperties(
                    correlation_id=name,
                    expiration="60000",
                    headers={**HEADERS, **headers, "nuropb_type": "command", "encrypted": ""},
                )
                body = json.dumps(command("note", name=name)).encode()
                channel.basic_publish(RPC, "orders", body, properties, mandatory=True)
            connection.close()

        await asyncio.to_thread(attack)
        await eventually(lambda: len(orders.runs) == 2 * len(COMMANDS))
        assert sorted(orders.runs) == sorted([*COMMANDS, *COMMANDS])
        assert await asyncio.to_thread(tap.depth, "victim") == 0
        assert await asyncio.to_thread(tap.depth, "nuropb-orders-dlq") == 0


async def test_row_53_a_request_that_is_put_back_expires_for_its_requester(
    mesh: Transports,
) -> None:
    """The rest of its expiration goes with it."""
    left: list[int | None] = []

    async def handler(message: Any) -> None:
        left.append(message.ttl)
        if message.call_again_count == 0:
            await asyncio.sleep(0.3)
            raise NuropbCallAgain

    await mesh.service(handler)
    client = await mesh.client()
    await client.request({**command("note"), "tag": "request"}, timeout=60)
    await client.send(command("note"), ttl=60)
    await eventually(lambda: len(left) == 4)
    for first, second in (left[:2], left[2:]):
        assert first == 60_000
        assert second is not None
        assert 1 <= second <= 59_700
