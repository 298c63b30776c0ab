"""Texts of peers and of the broker make no line of their own in a log, and none without an end."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pika
import pytest

from nuropb_rmq import Encryptor, Message, NuropbHandlingError, NuropbValidationError
from nuropb_rmq.mesh.discovery import Discovery
from nuropb_rmq.printable import printable
from nuropb_rmq.protocol.message import describe
from nuropb_rmq.protocol.remote_errors import remote_error

from ..encrypting import DL_QUEUE, HEADERS, Tap, tapping
from ..support import Mesh, event, request

FORGED = "no\n2026-01-01 ERROR root: you are\r\x1b[31mhacked\u2028\x85\x00\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two words, é ☃", "two words, é ☃"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x00\x7f\x85", r"\x00\x7f\x85"),
        ("\u2028\u202e\ud800", r"\u2028\u202e\ud800"),
        ("x" * 1000, "x" * 1000),
        ("x" * 1001, "x" * 1000 + "…"),
        ("", ""),
    ],
)
def test_one_line_of_bounded_length(text: str, shown: str) -> None:
    assert printable(text) == shown


def assert_one_line(text: str) -> None:
    assert text.isprintable(), text
    assert len(text) < 2000


def test_a_remote_error_is_one_line_and_tells_all() -> None:
    error = remote_error({"error": {"error": "E" * 1_000_000, "description": FORGED * 1000}})
    assert_one_line(str(error))
    assert error.description == FORGED * 1000
    assert error.error == "E" * 256
    assert len(describe(error)["error"]) == 256
    known = remote_error({"error": {"error": "NuropbValidationError", "description": FORGED}})
    assert isinstance(known, NuropbValidationError)
    assert str(known).startswith("NuropbValidationError: no\\n2026")


def test_the_class_name_of_an_error_is_cut_in_an_answer() -> None:
    long: Any = type("E" * 1_000_000, (Exception,), {})
    also: Any = type("E" * 1_000_000, (NuropbHandlingError,), {})
    for each in (long("why"), also("why")):
        assert describe(each) == {"error": "E" * 256, "description": "why"}


async def test_what_a_service_answers_with_is_logged_on_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def ask(_: str) -> dict[str, Any]:
        return {"result": None, "error": {"error": FORGED, "description": FORGED}}

    with caplog.at_level(logging.DEBUG, "nuropb_rmq"):
        await Discovery(ask, Encryptor()).find("orders", 1)
    (record,) = caplog.records
    assert_one_line(record.getMessage())


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
            tap._channel.basic_publish(exchange, key, json.dumps(payload).encode(), properties)
    tap.take(DL_QUEUE, 2 * len(HOSTILE))


async def test_messages_forge_no_line_in_the_log_of_a_service(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
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
