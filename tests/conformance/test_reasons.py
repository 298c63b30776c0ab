"""Dead letters that say why: a copy with the reason, and which requests leave one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from nuropb_rmq import (
    Message,
    NuropbRemoteError,
    NuropbValidationError,
    Observer,
    Settlement,
    Transport,
    TransportConfig,
    configure,
    mesh_event,
    publish_to_mesh,
)
from nuropb_rmq.amqp import frames
from nuropb_rmq.protocol import dead_letter
from nuropb_rmq.service.methods import DESCRIBE

from ..encrypting import private_key
from ..mesh.support import Meshes
from ..support import eventually
from .brokers import Place, becomes
from .raw import RawChannel, headers_of

DLQ = "nuropb-orders-dlq"
SECRET = "the pin is 1234"


class Orders:
    _service_name = "orders"
    _private_key = private_key("orders")

    def __init__(self) -> None:
        self.attempts: list[int] = []

    async def fail(self, text: str = "no such order") -> None:
        raise LookupError(text)

    async def refuse(self, text: str) -> None:
        raise NuropbValidationError(text)

    async def slow(self) -> None:
        await asyncio.sleep(10)

    @publish_to_mesh(requires_encryption=True)
    async def secret(self, text: str) -> None:
        raise LookupError(text)


class Settled(Observer):
    """Notes the settlements."""

    def __init__(self) -> None:
        self.all: list[Settlement] = []

    def settled(self, message: Message, settlement: Settlement) -> None:
        """Note it, unless the mesh has only asked itself for its description."""
        if message.payload.get("method") != DESCRIBE:
            self.all.append(settlement)


async def letters(place: Place, channel: RawChannel, count: int = 1) -> list[dict[str, Any]]:
    """Wait for so many dead letters of orders; their headers, with those of the properties."""
    await becomes(lambda: place.depth(DLQ), count)
    await channel.consume(DLQ)
    found = []
    for content in await channel.taken(count):
        properties = frames.decode_properties(content.raw_properties)
        found.append(
            {
                **headers_of(content),
                "delivery_mode": properties.delivery_mode,
                "expiration": properties.expiration,
                "body": content.body,
            }
        )
    return found


async def test_a_command(meshes: Meshes, place: Place, channel: RawChannel) -> None:
    mesh = await meshes.serve(Orders())
    settled = Settled()
    mesh.observe(settled)
    await mesh.command("orders", "fail", {"text": "no such order"}, ttl=60)
    (letter,) = await letters(place, channel)
    assert settled.all == [Settlement.DEAD_LETTER]
    assert letter["nuropb_dead_letter_of"] == "nuropb-orders-sq"
    assert letter["nuropb_error"] == "LookupError"
    assert letter["nuropb_error_text"] == "no such order"
    assert "in fail" in letter["nuropb_traceback"]
    assert letter["nuropb_failed_method"] == "fail"
    assert letter["nuropb_failed_instance"] == mesh.instance_id
    assert letter["nuropb_attempts"] == 1
    assert letter["nuropb_original_exchange"] == "nuropb-rpc-exchange"
    assert letter["nuropb_original_routing_key"] == "orders"
    assert len(letter["nuropb_failure_id"]) == 32
    assert letter["nuropb_failed_at"].endswith("+00:00")
    assert letter["nuropb_type"] == "command"
    assert (letter["delivery_mode"], letter["expiration"]) == (2, None)
    assert b'"no such order"' in letter["body"]


async def test_an_event_and_a_senders_mistake(
    meshes: Meshes, place: Place, channel: RawChannel
) -> None:
    mesh = await meshes.serve(Orders(), event_bindings=["orders.#"])
    await mesh.publish_event("orders.placed", {"id": 1})
    await mesh.command("orders", "nope")
    event, command = sorted(await letters(place, channel, 2), key=lambda each: each["nuropb_type"])[
        ::-1
    ]
    assert event["nuropb_failed_method"] == "orders.placed"
    assert event["nuropb_original_exchange"] == "nuropb-events-exchange"
    assert "no handler for events" in event["nuropb_error_text"]
    assert "Unknown method 'nope'" in command["nuropb_error_text"]
    assert "nuropb_traceback" not in command


async def test_requests_whose_error_was_answered_leave_none(meshes: Meshes, place: Place) -> None:
    mesh = await meshes.serve(Orders())
    settled = Settled()
    mesh.observe(settled)
    calls: Sequence[tuple[str, dict[str, Any]]] = (
        ("fail", {}),
        ("refuse", {"text": "no"}),
        ("nope", {}),
    )
    for method, params in calls:
        with pytest.raises((NuropbRemoteError, NuropbValidationError)):
            await mesh.request("orders", method, params)
    await eventually(lambda: settled.all == [Settlement.ACK] * 3)
    assert await place.depth(DLQ) == 0


async def test_requests_that_are_kept(meshes: Meshes, place: Place, channel: RawChannel) -> None:
    config = meshes.config(handler_timeout=0.2, dead_letter_requests=True)
    mesh = await meshes.serve(Orders(), amqp_url=config)
    for method in ("fail", "slow"):
        with pytest.raises(NuropbRemoteError):
            await mesh.request("orders", method, timeout=5)
    first, second = await letters(place, channel, 2)
    assert first["nuropb_error"] == "LookupError"
    assert "handler_timeout" in second["nuropb_error_text"]


async def test_a_request_whose_time_was_over_is_kept(
    meshes: Meshes, place: Place, channel: RawChannel
) -> None:
    mesh = await meshes.serve(Orders(), amqp_url=meshes.config(handler_timeout=0.2))
    with pytest.raises(NuropbRemoteError):
        await mesh.request("orders", "slow", timeout=5)
    (letter,) = await letters(place, channel)
    assert "handler_timeout" in letter["nuropb_error_text"]


async def test_what_came_encrypted_leaves_no_text(
    meshes: Meshes, place: Place, channel: RawChannel
) -> None:
    mesh = await meshes.serve(Orders())
    await mesh.command("orders", "secret", {"text": SECRET})
    (letter,) = await letters(place, channel)
    assert letter["nuropb_error"] == "LookupError"
    assert "in secret" in letter["nuropb_traceback"]
    assert not {"nuropb_error_text", "nuropb_failed_method"} & set(letter)
    assert SECRET not in str(letter)
    assert letter["encrypted"] == "yes"


async def test_without_texts(meshes: Meshes, place: Place, channel: RawChannel) -> None:
    mesh = await meshes.serve(Orders(), log_error_text=False)
    await mesh.command("orders", "fail", {"text": SECRET})
    (letter,) = await letters(place, channel)
    assert "nuropb_error_text" not in letter
    assert SECRET not in letter["nuropb_traceback"]


async def test_long_texts_are_cut(meshes: Meshes, place: Place, channel: RawChannel) -> None:
    mesh = await meshes.serve(Orders())
    await mesh.command("orders", "fail", {"text": "ä" * 100_000})
    (letter,) = await letters(place, channel)
    assert letter["nuropb_error_text"] == "ä" * 2048
    assert len(letter["nuropb_traceback"].encode()) <= 8192


async def test_what_cannot_be_read(meshes: Meshes, place: Place, channel: RawChannel) -> None:
    await meshes.serve(Orders())
    headers: dict[str, Any] = {
        "nuropb_type": "command",
        "nuropb_protocol": "0.1.1",
        "nuropb_error": "forged",
    }
    headers |= {"nuropb_dead_letter_of": "nuropb-other-sq", "CC": ["nuropb-other-sq"]}
    await channel.publish(
        "orders",
        b"no JSON",
        exchange="nuropb-rpc-exchange",
        correlation_id="1",
        headers=headers,
        expiration="60000",
    )
    (letter,) = await letters(place, channel)
    assert letter["nuropb_error"] == "MalformedMessageError"
    assert letter["nuropb_dead_letter_of"] == "nuropb-orders-sq"
    assert letter["body"] == b"no JSON"
    assert letter["expiration"] is None
    assert "CC" not in letter


async def test_it_comes_to_its_own_queue_and_to_old_ones(meshes: Meshes, place: Place) -> None:
    for name, dl_queue in (("billing", None), ("old", "old-dl")):
        await configure(TransportConfig(amqp_url=place.url, service_name=name, dl_queue=dl_queue))
    mesh = await meshes.serve(Orders())
    await mesh.command("orders", "fail")
    await becomes(lambda: place.depth(DLQ), 1)
    await becomes(lambda: place.depth("old-dl"), 1)
    assert await place.depth("nuropb-billing-dlq") == 0


async def test_of_a_plain_transport(
    configured: None, place: Place, channel: RawChannel, meshes: Meshes
) -> None:
    async def handle(message: Message) -> None:
        raise LookupError("no such order")

    async with Transport(meshes.config(), handle) as transport:
        payload = {"tag": "command", "service": "orders", "method": "m", "params": {}}
        await transport.send({**payload, "context": {}})
        (letter,) = await letters(place, channel)
    assert letter[dead_letter.HEADER_ERROR_TEXT] == "no such order"


async def test_where_nobody_takes_the_copy_it_is_rejected(meshes: Meshes, place: Place) -> None:
    """The dead-letter exchange has no queue: a copy is returned, a reject is dropped."""
    mesh = await meshes.serve(Orders())
    settled = Settled()
    mesh.observe(settled)
    await place.delete_queue(DLQ)
    await mesh.command("orders", "fail")
    await eventually(lambda: settled.all == [Settlement.REJECT])


class Guarded:
    _service_name = "orders"

    @staticmethod
    def _refuse(token: str) -> None:
        raise ValueError(f"bad token {token}")

    @mesh_event("orders.placed")
    @publish_to_mesh(authorize_func=_refuse)
    async def first(self) -> None: ...

    @mesh_event("orders.*")
    @publish_to_mesh(authorize_func=_refuse)
    async def second(self) -> None: ...


async def test_what_authorizers_raise_is_in_no_letter(
    meshes: Meshes, place: Place, channel: RawChannel, caplog: pytest.LogCaptureFixture
) -> None:
    mesh = await meshes.serve(Guarded())
    await mesh.publish_event("orders.placed", 1, context={"Authorization": "hunter2"})
    (letter,) = await letters(place, channel)
    letter.pop("body")
    assert letter["nuropb_error"] == "ExceptionGroup"
    assert "hunter2" not in str(letter)
    assert "hunter2" not in caplog.text
