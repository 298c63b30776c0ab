"""Headers that never go along when a message is copied or put back, and those that do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from pamqp import encode

from nuropb_rmq import AMQPProtocolError
from nuropb_rmq.amqp import frames
from nuropb_rmq.protocol import dead_letter
from nuropb_rmq.protocol.dead_letter import stripped

from ..amqp.strategies import TABLES

KEPT = {"nuropb_type", "trace_id", "x-delay", "nuropb_replay_count", "nuropb_replay_id", "cc"}
TAKEN_OUT = [
    "CC",
    "BCC",
    "x-death",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-first-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-delivery-count",
    "x-acquired-count",
    "nuropb_dead_letter_of",
    "nuropb_failure_id",
    "nuropb_error",
    "nuropb_error_text",
    "nuropb_error_of_others",
    "nuropb_traceback",
    "nuropb_failed_method",
    "nuropb_failed_instance",
    "nuropb_failed_at",
    "nuropb_attempts",
    "nuropb_first_failed_at",
    "nuropb_time_left",
    "nuropb_original_exchange",
    "nuropb_original_routing_key",
    "nuropb_message_id",
]


def table(headers: dict[str, Any]) -> bytes:
    return encode.field_table(headers)[4:]


@pytest.mark.parametrize("name", TAKEN_OUT)
def test_it_does_not_go_along_whatever_its_value(name: str) -> None:
    for value in ("text", 3, True, None, [{"queue": "q"}], {"a": "table"}):
        entries = table({"before": 1, name: value, "nuropb_type": "event"})
        assert stripped(entries) == table({"before": 1, "nuropb_type": "event"})


@pytest.mark.parametrize("name", sorted(KEPT))
def test_it_goes_along(name: str) -> None:
    entries = table({name: "text"})
    assert stripped(entries) == entries


def test_every_header_of_a_failure_is_taken_out() -> None:
    for constant, name in vars(dead_letter).items():
        if constant.startswith("HEADER_") and "REPLAY" not in constant:
            assert name in TAKEN_OUT


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(TABLES)
def test_other_entries_stay_byte_for_byte(unknown: tuple[bytes, dict[str, Any]]) -> None:
    entries, values = unknown
    assume(not values.keys() & set(TAKEN_OUT))
    assert stripped(entries) == entries
    assert stripped(table({"CC": ["q"]}) + entries + table({"x-death": []})) == entries


@pytest.mark.parametrize(
    "entries",
    [b"\x03abcS\x00\x00\x00\x09short", b"\x03abc", b"\x09a", b"\x01a?", b"\x01aA\x00\x00\x00\x02x"],
)
def test_a_table_that_cannot_be_read_is_refused(entries: bytes) -> None:
    with pytest.raises(AMQPProtocolError, match="header table cannot be decoded"):
        stripped(frames.table_entry("good", 1) + entries)
