"""Texts of peers and of the broker make no line of their own in a log, and none without an end."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pika
import pytest

from nuropb_rmq import Message
from nuropb_rmq.protocol.remote_errors import remote_error

from ..encrypting import DL_QUEUE, HEADERS, Tap, tapping
from ..support import Transports, event, request
from ..unit.test_printable import FORGED

REQUEST = {**request("m"), "correlation_id": "c"}
EVENTS = "nuropb-events-exchange"
HOSTILE: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("nuropb-rpc-exchange", "orders", {"nuropb_type": FORGED}, REQUEST),
    ("nuropb-rpc-exchange", "orders", {"nuropb_protocol": FORGED}, REQUEST),
    ("nuropb-rpc-exchange", "orders", {"trace_id": FORGED}, REQUEST),
    ("nuropb-rpc-exchange", "orders", {}, {**REQUEST, "service": FORGED}),
    ("nuropb-rpc-exchange", "orders", {}, {**REQUEST, "method": FORGED}),
    ("nuropb-rpc-exchange", "orders", {}, {**REQUEST, "correlation_id": FORGED}),
    (EVENTS, "a.b", {"nuropb_type": "event"}, event(FORGED, 1)),
    (EVENTS, "a.b\n2026-01-01 ERROR", {"nuropb_type": "event"}, event("a.b", 1)),
    ("", "nuropb-orders-sq", {"nuropb_type": "event"}, event(FORGED, 1)),
]
"""Exchange, routing key, headers, payload."""


def forge(tap: Tap) -> None:
    for exchange, key, headers, payload in HOSTILE:
        for identity, reply_to in (("c", f"nuropb-{FORGED}-rq"), (FORGED, "x")):
            said = {**HEADERS, "nuropb_type": "request", "encrypted": "", **headers}
            properties = pika.BasicProperties(
                correlation_id=identity, reply_to=reply_to, headers=said
            )
            tap.channel.basic_publish(exchange, key, json.dumps(payload).encode(), properties)
    tap.take(DL_QUEUE, 2 * len(HOSTILE))


async def test_messages_forge_no_line_in_the_log_of_a_service(
    mesh: Transports, caplog: pytest.LogCaptureFixture
) -> None:
    """Headers, topics, services, methods, ids, and what other services answer with."""

    async def handler(message: Message) -> None:
        raise remote_error({"error": {"error": FORGED, "description": FORGED}})

    await mesh.service(handler, event_bindings=["#"])
    with caplog.at_level(logging.DEBUG, "nuropb_rmq"):
        async with tapping(mesh) as tap:
            await asyncio.to_thread(forge, tap)
    text = "\n".join(each.getMessage() for each in caplog.records)
    assert text.count("dead-lettered") >= 10
    assert "\n2026-01-01 ERROR" not in text
    assert text.replace("\n", "").isprintable()
