"""Which two deliveries are taken for one message, and whose outcome settles it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.consumer import Consumer
from nuropb_rmq.amqp.frames import Content, Properties, table_entry
from nuropb_rmq.amqp.settlement import Settlement
from nuropb_rmq.exceptions import NuropbException
from nuropb_rmq.transport.delivery import Delivery
from nuropb_rmq.transport.redelivery import InHand, same_message

from ...support import LOG

BODY = b'{"n": 1}'
ROUTE = frames.shortstr("exchange") + frames.shortstr("key")


def content(
    headers: dict[str, Any], *, tag: int = 1, body: bytes = BODY, route: bytes = ROUTE, **more: Any
) -> Content:
    """A delivery."""
    table = b"".join(table_entry(name, value) for name, value in headers.items())
    properties = Properties(headers=table, **{"correlation_id": "c-1", "message_id": "m-1"} | more)
    raw = frames.encode_properties(properties)
    return Content(tag, False, route, 0, "", raw, len(body), body)


HEADERS = {"nuropb_trace_id": "t-1", "nuropb_type": "command"}
ONE = content(HEADERS)


@pytest.mark.parametrize(
    "headers",
    [
        HEADERS,
        {**HEADERS, "x-delivery-count": 1},
        {"x-acquired-count": 7, "x-delivery-count": 3, **HEADERS},
        dict(reversed(HEADERS.items())),
    ],
)
def test_the_brokers_counts_make_no_difference(headers: dict[str, Any]) -> None:
    other = content(headers, tag=9)
    assert same_message(ONE, other)
    assert same_message(other, ONE)
    assert same_message(content({**HEADERS, "x-delivery-count": 4}), other)


@pytest.mark.parametrize(
    "other",
    [
        content(HEADERS, body=b'{"n": 2}'),
        content(HEADERS, route=frames.shortstr("exchange") + frames.shortstr("other")),
        content(HEADERS, message_id="m-2"),
        content(HEADERS, correlation_id="c-2"),
        content(HEADERS, reply_to="nuropb-other-rq"),
        content({**HEADERS, "nuropb_trace_id": "t-2"}),
        content({**HEADERS, "nuropb_ca_count": 1}),
        replace(ONE, body_size=2**30),
        replace(ONE, raw_properties=ONE.raw_properties[:-1]),
        replace(ONE, raw_properties=b""),
    ],
)
def test_anything_else_does(other: Content) -> None:
    assert not same_message(ONE, other)
    assert not same_message(other, ONE)


def test_what_cannot_be_read_is_like_itself_only() -> None:
    bad = replace(ONE, raw_properties=b"\xff")
    assert same_message(bad, replace(bad, tag=2))
    assert not same_message(bad, replace(bad, raw_properties=b"\xfe"))


class Port:
    """The part of a channel that a consumer uses."""

    def __init__(self) -> None:
        self.open = True


class Settled(Consumer):
    """A consumer that notes what is settled."""

    def __init__(self, name: str) -> None:
        self.port = Port()  # type: ignore[assignment]
        self.name = name
        self.settled: list[tuple[int, Settlement]] = []

    def settle(self, content: Content, settlement: Settlement) -> bool:
        self.settled.append((content.tag, settlement))
        return self.port.open


class Owner:
    """Takes a delivery out when it is settled."""

    log = LOG

    def __init__(self, in_hand: InHand) -> None:
        self._in_hand = in_hand

    def settled(self, work: Delivery, settlement: Settlement | None) -> None:
        del self._in_hand[work]

    def cancelled_by_us(self, work: Delivery) -> bool:
        return False

    def undelivered(self, work: Delivery, part: str, error: NuropbException) -> bool:
        return False

    def not_retried(self, work: Delivery, error: NuropbException) -> None:
        """No message comes back here."""

    def complete(self, *_: object) -> None:
        """No message is completed here."""


def begin(in_hand: InHand, consumer: Consumer, tag: int) -> Delivery:
    """A delivery in hand."""
    work = Delivery(Owner(in_hand), consumer, replace(ONE, tag=tag))
    in_hand[work] = None
    return work


def test_each_delivery_joins_one_handler_that_lost_its_channel() -> None:
    """Two messages that are equal in everything, both delivered again; and a third one."""
    in_hand, old, new = InHand(), Settled("old"), Settled("new")
    first, second = begin(in_hand, old, 1), begin(in_hand, old, 2)
    assert not in_hand.join(new, replace(ONE, tag=10)), "their channel has not ended"
    old.port.open = False
    assert not in_hand.join(new, content(HEADERS, body=b"{}"))
    assert in_hand.join(new, replace(ONE, tag=11))
    begin(in_hand, new, 12)
    assert in_hand.join(new, replace(ONE, tag=13))
    assert not in_hand.join(new, replace(ONE, tag=14)), "nobody is left whose channel has ended"
    first.settle(Settlement.ACK)
    second.settle(Settlement.REJECT)
    assert new.settled == [(11, Settlement.ACK), (13, Settlement.REJECT)]
    assert old.settled == []
    assert len(in_hand) == 1
