"""Row 55: a message to another service is dead-lettered, whatever put it into this one's queue."""

from __future__ import annotations

import asyncio
import json

import pika
import pytest

from nuropb_rmq import NuropbRemoteError, publish_to_mesh

from ..compat.apis import Apis
from ..encrypting import DL_QUEUE, HEADERS, TAP_QUEUE, Tap, calling, private_key, tapping
from ..mesh.support import Meshes
from ..support import Transports, eventually, request

RPC, QUEUE = "nuropb-rpc-exchange", "nuropb-orders-sq"


class Orders:
    """Two services have a method of this name."""

    _service_name = "orders"
    _private_key = private_key("orders")

    def __init__(self) -> None:
        self.runs: list[str] = []

    @publish_to_mesh
    async def delete_all(self, of: str) -> str:
        self.runs.append(of)
        if of.startswith("fails once") and self.runs.count(of) == 1:
            raise LookupError(of)
        return of


def misdirect(tap: Tap) -> dict[str, str]:
    """Calls to `billing`, by a binding that somebody made and past the exchange; their errors."""
    tap.channel.queue_bind(QUEUE, RPC, "billing")
    stranger = calling("orders")
    for way, (exchange, key) in {"bound": (RPC, "billing"), "direct": ("", QUEUE)}.items():
        for sealed in (False, True):
            identity = f"{way}, encrypted" if sealed else way
            payload = {**request("delete_all", service="billing", of=identity)}
            body = json.dumps({**payload, "correlation_id": identity}).encode()
            if sealed:
                body = stranger.encrypt_payload(body, identity, "orders")
            said = {**HEADERS, "nuropb_type": "request", "encrypted": "yes" if sealed else ""}
            properties = pika.BasicProperties(
                correlation_id=identity, reply_to=TAP_QUEUE, headers=said
            )
            tap.channel.basic_publish(exchange, key, body, properties)
    told = {}
    for properties, body in tap.take(count=4):
        identity = str(properties.correlation_id)
        sealed = "encrypted" in identity
        error = json.loads(stranger.decrypt_payload(body, identity) if sealed else body)["error"]
        assert "'billing'" in error["description"]
        told[identity] = error["error"]
    tap.take(DL_QUEUE, 4)
    return told


@pytest.mark.parametrize("surface", ["Mesh", "RMQAPI"])
async def test_row_55_a_message_to_another_service_runs_nothing(
    mesh: Transports, meshes: Meshes, apis: Apis, surface: str
) -> None:
    orders = Orders()
    await (meshes.serve(orders) if surface == "Mesh" else apis.connect(orders))
    async with tapping(mesh) as tap:
        told = await asyncio.to_thread(misdirect, tap)
    names = ("bound", "bound, encrypted", "direct", "direct, encrypted")
    assert told == dict.fromkeys(names, "MalformedMessageError")
    assert orders.runs == []


async def test_row_55_a_dead_letter_of_its_own_runs_when_it_is_put_back(
    mesh: Transports, apis: Apis
) -> None:
    """By the default exchange, to the queue: its routing key is the queue's name then."""
    orders = Orders()
    await apis.connect(orders, transport_settings={"rpc_bindings": ["orders-eu"]})
    client = await apis.connect()
    calls = [(to, sealed) for to in ("orders", "orders-eu") for sealed in (False, True)]
    async with tapping(mesh) as tap:
        for to, sealed in calls:
            of = f"fails once: {to}, {sealed}"
            with pytest.raises(NuropbRemoteError):
                await client.request(to, "delete_all", {"of": of}, context={}, encrypted=sealed)

        def put_back() -> None:
            for properties, body in tap.take(DL_QUEUE, len(calls)):
                tap.channel.basic_publish("", QUEUE, body, properties)

        await asyncio.to_thread(put_back)
        await eventually(lambda: len(orders.runs) == 2 * len(calls))
        assert len(set(orders.runs)) == len(calls)
        assert await asyncio.to_thread(tap.depth, DL_QUEUE) == 0
