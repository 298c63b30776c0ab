"""A message that is put back: what goes back byte for byte, what does not, and how it had come."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Content, Properties
from nuropb_rmq.protocol.put_back import came_by, pack_again
from nuropb_rmq.protocol.reader import Head

from ..amqp.strategies import PROPERTIES, TABLES

GOOD = {
    "nuropb_protocol": "0.1.1",
    "nuropb_version": "0.1.8",
    "nuropb_type": "request",
    "encrypted": "",
    "trace_id": "t-1",
}
RPC, ORDERS = "nuropb-rpc-exchange", "orders"
QUEUE = "nuropb-orders-sq"


def table(headers: Mapping[str, str | int | bool]) -> bytes:
    return b"".join(frames.table_entry(name, value) for name, value in headers.items())


def sized(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def head_of(
    headers: bytes = b"", *, by: tuple[str, str] = (RPC, ORDERS), **properties: Any
) -> Head:
    """The head of a delivery that came by this exchange and routing key."""
    properties.setdefault("correlation_id", "c-1")
    raw = frames.encode_properties(Properties(headers=headers + table(GOOD), **properties))
    route = b"".join(map(frames.shortstr, by))
    return Head(Content(1, False, route, raw_properties=raw))


def put_back(head: Head, left: int | None = None, message_id: str = "m-2") -> Head:
    """The message as it comes back from its service queue."""
    packed = pack_again(head, left=left) + frames.shortstr(message_id)
    route = frames.shortstr("") + frames.shortstr(QUEUE)
    return Head(Content(2, False, route, raw_properties=packed))


def test_a_message_is_put_back_with_its_count_and_its_origin() -> None:
    head = head_of(expiration="60000", reply_to="r", priority=3)
    again = put_back(head, left=59_000)
    assert (head.call_again_count, again.call_again_count) == (0, 1)
    assert again.content.routing_key == QUEUE
    assert came_by(head) == came_by(again) == came_by(put_back(again)) == (RPC, ORDERS)
    assert (again.ttl, again.kind, again.problem) == (59_000, head.kind, None)
    assert again.properties.message_id == "m-2"
    assert put_back(again).call_again_count == 2
    assert again.headers["nuropb_ca_routing_key"] == ORDERS
    assert again.properties.expiration == "59000"
    assert put_back(head).properties.expiration is None


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(TABLES, PROPERTIES)
def test_unknown_header_entries_go_back_byte_for_byte(
    unknown: tuple[bytes, dict[str, Any]], drawn: dict[str, Any]
) -> None:
    """Whatever other properties there are: those behind the message id are left out."""
    assume(not unknown[1].keys() & {"CC", "BCC", "x-delivery-count", "x-acquired-count"})
    properties = {**drawn, "headers": None, "correlation_id": "c-1"}
    entries = unknown[0] + table(GOOD)
    raw = frames.encode_properties(Properties(**{**properties, "headers": entries}))
    again = put_back(Head(Content(1, False, b"\x01e\x01k", raw_properties=raw)))
    assert again.problem is None
    assert again.properties.headers is not None
    assert again.properties.headers.startswith(entries)
    for name in (
        *("content_type", "content_encoding", "delivery_mode", "priority"),
        *("correlation_id", "reply_to"),
    ):
        assert getattr(again.properties, name) == properties.get(name)
    for name in ("expiration", "timestamp", "type", "user_id", "app_id", "cluster_id"):
        assert getattr(again.properties, name) is None


def test_what_would_do_more_than_fill_the_queue_is_taken_out() -> None:
    """Wherever it stands, and however often."""
    victims = b"\x02CCA\x00\x00\x00\x0bS\x00\x00\x00\x06victim"
    forged = table({"nuropb_ca_count": 7, "nuropb_ca_exchange": "e", "nuropb_ca_routing_key": "k"})
    kept = table({"cc": "small", "x-mine": 1})
    hostile = victims + b"\x03B" + victims[1:] + forged + kept + forged + victims
    head = head_of(hostile + table({"x-delivery-count": 9}), user_id="guest")
    again = put_back(head)
    assert again.properties.headers == kept + table(GOOD) + table(
        {"nuropb_ca_count": 1, "nuropb_ca_exchange": RPC, "nuropb_ca_routing_key": ORDERS}
    )
    assert again.properties.user_id is None


@pytest.mark.parametrize("value", ["once", True, 3])
def test_a_count_is_believed_on_what_was_put_back_only(value: str | bool | int) -> None:
    headers = table({"nuropb_ca_count": value})
    assert head_of(headers).call_again_count == 0
    assert head_of(headers, by=("nuropb-events-exchange", "a.b")).call_again_count == 0
    believed = 3 if value == 3 else 1
    assert head_of(headers, by=("", QUEUE)).call_again_count == believed


# -- how it came ----------------------------------------------------------------------------

KEYS = b"S" + sized(ORDERS.encode())
DEATH = table({"exchange": RPC, "reason": "rejected"}) + b"\x0crouting-keysA" + sized(KEYS)
DIED = b"\x07x-deathA" + sized(b"F" + sized(DEATH))
AGAIN = table({"nuropb_ca_exchange": "e", "nuropb_ca_routing_key": "k"})


def test_a_message_came_by_its_exchange_whatever_its_headers_say() -> None:
    assert came_by(head_of(AGAIN + DIED, by=("e2", "k2"))) == ("e2", "k2")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"", ("", QUEUE)),
        (AGAIN, ("e", "k")),
        (DIED, (RPC, ORDERS)),
        (AGAIN + DIED, (RPC, ORDERS)),
        (table({"nuropb_ca_exchange": "e", "nuropb_ca_routing_key": 1}), ("", QUEUE)),
        (table({"nuropb_ca_exchange": "", "nuropb_ca_routing_key": "k"}), ("", QUEUE)),
        (table({"x-death": "often"}), ("", QUEUE)),
    ],
)
def test_what_came_by_the_default_exchange_says_how_it_had_come(
    headers: bytes, expected: tuple[str, str]
) -> None:
    """The broker's word stands above ours, and ours may be missing."""
    head = head_of(headers, by=("", QUEUE))
    assert head.problem is None
    assert came_by(head) == expected


def test_a_message_that_was_never_put_back_has_no_count_whatever_its_way() -> None:
    for by in ((RPC, ORDERS), ("", QUEUE)):
        assert head_of(by=by).call_again_count == 0
