"""Exchanges, queues and bindings: what is refused, and in which words."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelClosed,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from nuropb_rmq.broker.topology import Binding, Exchange, Queue

from .brokers import Place
from .raw import Raw, RawChannel, raw

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '{}'. It could "
    "be originally declared on another connection or the exclusive property value does not match "
    "that of the original declaration."
)


async def refused(request: Awaitable[None], kind: type[ChannelClosed], place: Place) -> str:
    """The broker's words, without the name of the place."""
    with pytest.raises(kind) as raised:
        await request
    return str(raised.value).replace(f"vhost '{place.name}'", "vhost")


# what is there, what is asked for, the words
DIFFERENT_QUEUES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "auto_delete": (
        {}, {"auto_delete": True},
        "'auto_delete' for queue 'q' in vhost: received 'true' but current is 'false'",
    ),
    "priority more": (
        {}, {"x_max_priority": 5},
        "'x-max-priority' for queue 'q' in vhost: received the value '5' of type 'byte' but "
        "current is none",
    ),
    "priority less": (
        {"x_max_priority": 5}, {},
        "'x-max-priority' for queue 'q' in vhost: received none but current is the value '5' of "
        "type 'byte'",
    ),
    "priority": (
        {"x_max_priority": 5}, {"x_max_priority": 4},
        "'x-max-priority' for queue 'q' in vhost: received '4' but current is '5'",
    ),
    "dead letters more": (
        {}, {"x_dead_letter_exchange": "dl"},
        "'x-dead-letter-exchange' for queue 'q' in vhost: received the value 'dl' of type "
        "'longstr' but current is none",
    ),
    "dead letters": (
        {"x_dead_letter_exchange": "dl"}, {"x_dead_letter_exchange": "dm"},
        "'x-dead-letter-exchange' for queue 'q' in vhost: received 'dm' but current is 'dl'",
    ),
    "single active": (
        {}, {"x_single_active_consumer": True},
        "'x-single-active-consumer' for queue 'q' in vhost: received the value 'true' of type "
        "'bool' but current is none",
    ),
    "not single active": (
        {"x_single_active_consumer": True}, {},
        "'x-single-active-consumer' for queue 'q' in vhost: received none but current is the "
        "value 'true' of type 'bool'",
    ),
    "quorum": (
        {"x_queue_type": "classic"}, {"x_queue_type": "quorum"},
        "'x-queue-type' for queue 'q' in vhost: received 'quorum' but current is 'classic'",
    ),
    "classic": (
        {"x_queue_type": "quorum"}, {"x_queue_type": "classic"},
        "'x-queue-type' for queue 'q' in vhost: received 'classic' but current is 'quorum'",
    ),
    "delivery limit": (
        {"x_queue_type": "quorum"}, {"x_queue_type": "quorum", "x_delivery_limit": 3},
        "'x-delivery-limit' for queue 'q' in vhost: received the value '3' of type 'byte' but "
        "current is none",
    ),
    "ttl": (
        {"x_message_ttl": 5}, {"x_message_ttl": 600},
        "'x-message-ttl' for queue 'q' in vhost: received '600' but current is '5'",
    ),
    "length": (
        {"x_max_length": 500}, {},
        "'x-max-length' for queue 'q' in vhost: received none but current is the value '500' of "
        "type 'short'",
    ),
    "overflow": (
        {"x_overflow": "reject-publish"}, {},
        "'x-overflow' for queue 'q' in vhost: received none but current is the value "
        "'reject-publish' of type 'longstr'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DIFFERENT_QUEUES)
async def test_a_queue_with_other_properties(connection: Raw, place: Place, what: str) -> None:
    there, wanted, words = DIFFERENT_QUEUES[what]
    await (await connection.channel()).queue("q", **there)
    again = (await connection.channel()).queue("q", **wanted)
    said = await refused(again, ChannelPreconditionFailed, place)
    assert said == f"PRECONDITION_FAILED - inequivalent arg {words}"
    await (await connection.channel()).queue("q", **there)


@pytest.mark.parametrize("there", [{}, {"x_queue_type": "classic"}, {"x_unknown": 1}], ids=str)
async def test_a_queue_that_is_alike(connection: Raw, there: dict[str, Any]) -> None:
    channel = await connection.channel()
    await channel.queue("q", **there)
    await channel.queue("q")
    await channel.queue("q", x_queue_type="classic")
    assert await channel.publish("q", mandatory=True)
    assert not channel.contents


# arguments, the words
IMPOSSIBLE_QUEUES: dict[str, tuple[dict[str, Any], str]] = {
    "ttl": (
        {"x_message_ttl": -1},
        "arg 'x-message-ttl' for queue 'q' in vhost: {value_negative,-1}",
    ),
    "ttl of text": (
        {"x_message_ttl": "a"},
        "arg 'x-message-ttl' for queue 'q' in vhost: \"expected integer, got longstr\"",
    ),
    "length": (
        {"x_max_length": -1},
        "arg 'x-max-length' for queue 'q' in vhost: {value_negative,-1}",
    ),
    "priority": (
        {"x_max_priority": 256},
        "arg 'x-max-priority' for queue 'q' in vhost: {max_value_exceeded,256}",
    ),
    "overflow": ({"x_overflow": "x"}, "arg 'x-overflow' for queue 'q' in vhost: invalid_overflow"),
    "type": (
        {"x_queue_type": "x"},
        "arg 'x-queue-type' for queue 'q' in vhost: \"unsupported queue type 'x'\"",
    ),
    "key only": (
        {"x_dead_letter_routing_key": "k"},
        "arg 'x-dead-letter-routing-key' for queue 'q' in vhost: routing_key_but_no_dlx_defined",
    ),
    "quorum with priority": (
        {"x_queue_type": "quorum", "x_max_priority": 5},
        "arg 'x-max-priority' for queue 'q' in vhost of queue type rabbit_quorum_queue",
    ),
    "classic with limit": (
        {"x_delivery_limit": 5},
        "arg 'x-delivery-limit' for queue 'q' in vhost of queue type rabbit_classic_queue",
    ),
    "single active of text": (
        {"x_single_active_consumer": "x"},
        "arg 'x-single-active-consumer' for queue 'q' in vhost: {unacceptable_type,longstr}",
    ),
    "quorum exclusive": (
        {"x_queue_type": "quorum", "exclusive": True},
        "property 'exclusive-owner' for queue 'q' in vhost",
    ),
    "quorum auto-delete": (
        {"x_queue_type": "quorum", "auto_delete": True},
        "property 'auto-delete' for queue 'q' in vhost",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", IMPOSSIBLE_QUEUES)
async def test_a_queue_that_cannot_be(
    connection: Raw, channel: RawChannel, place: Place, what: str
) -> None:
    options, words = IMPOSSIBLE_QUEUES[what]
    said = await refused(channel.queue("q", **options), ChannelPreconditionFailed, place)
    assert said == f"PRECONDITION_FAILED - invalid {words}"
    assert not await place.exists("q")


async def test_a_reserved_name(connection: Raw, place: Place) -> None:
    said = await refused((await connection.channel()).queue("amq.q"), ChannelAccessRefused, place)
    assert said == "ACCESS_REFUSED - queue name 'amq.q' contains reserved prefix 'amq.*'"
    said = await refused(
        (await connection.channel()).exchange("amq.e", "direct"), ChannelAccessRefused, place
    )
    assert said == "ACCESS_REFUSED - exchange name 'amq.e' contains reserved prefix 'amq.*'"


@pytest.mark.parametrize(
    ("kind", "durable", "words"),
    [
        (
            "topic", True,
            "'type' for exchange 'e' in vhost: received 'topic' but current is 'direct'",
        ),
        (
            "direct", False,
            "'durable' for exchange 'e' in vhost: received 'false' but current is 'true'",
        ),
    ],
    ids=["kind", "durable"],
)  # fmt: skip
async def test_an_exchange_with_other_properties(
    connection: Raw, place: Place, kind: str, durable: bool, words: str
) -> None:
    channel = await connection.channel()
    await channel.exchange("e", "direct")
    await channel.exchange("e", "direct")
    again = (await connection.channel()).exchange("e", kind, durable=durable)
    said = await refused(again, ChannelPreconditionFailed, place)
    assert said == f"PRECONDITION_FAILED - inequivalent arg {words}"


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
async def test_an_exchange_that_every_broker_has(channel: RawChannel, kind: str) -> None:
    await channel.exchange(f"amq.{kind}", kind)
    await channel.control.declare_exchange(Exchange(f"amq.{kind}", kind), passive=True)


async def test_the_default_exchange(connection: Raw, place: Place) -> None:
    await (await connection.channel()).queue("q")
    words = "ACCESS_REFUSED - operation not permitted on the default exchange"
    for request in (
        (await connection.channel()).exchange("", "direct"),
        (await connection.channel()).control.declare_exchange(Exchange("", "direct"), passive=True),
        (await connection.channel()).control.bind([Binding("q", "", "k")]),
        (await connection.channel()).control.bind([Binding("nowhere", "", "k")]),
    ):
        assert await refused(request, ChannelAccessRefused, place) == words


async def test_what_is_missing(connection: Raw, place: Place) -> None:
    await (await connection.channel()).queue("q")
    channels = [await connection.channel() for _ in range(6)]
    requests = {
        "exchange 'e'": channels[0].control.declare_exchange(Exchange("e", "topic"), passive=True),
        "queue 'nq'": channels[1].control.declare_queue(Queue("nq", True), passive=True),
        "queue 'nc'": channels[2].consume("nc"),
        "exchange 'nb'": channels[3].control.bind([Binding("q", "nb", "k")]),
        "queue 'nd'": channels[4].control.bind([Binding("nd", "amq.direct", "k")]),
        "exchange 'both'": channels[5].control.bind([Binding("nd", "both", "k")]),
    }
    for what, request in requests.items():
        said = await refused(request, ChannelNotFoundEntity, place)
        assert said == f"NOT_FOUND - no {what} in vhost"


async def test_an_exclusive_queue_is_of_one_connection(connection: Raw, place: Place) -> None:
    channel = await connection.channel()
    await channel.queue("q", exclusive=True, durable=False)
    await channel.queue("q", exclusive=True, durable=False)
    async with raw(place.url) as other:
        for request in (
            (await other.channel()).queue("q", exclusive=True, durable=False),
            (await other.channel()).control.declare_queue(Queue("q", False), passive=True),
            (await other.channel()).consume("q"),
            (await other.channel()).control.bind([Binding("q", "amq.direct", "k")]),
            (await connection.channel()).queue("q", durable=False),
        ):
            with pytest.raises(ChannelLockedResource) as raised:
                await request
            assert str(raised.value) == LOCKED.format(place.name)
        assert await (await other.channel()).publish("q", b"anybody may send")
    await channel.consume("q")
    assert await channel.bodies(1) == [b"anybody may send"]


async def test_a_queue_that_is_not_exclusive_cannot_become_so(
    connection: Raw, place: Place
) -> None:
    await (await connection.channel()).queue("q")
    with pytest.raises(ChannelLockedResource) as raised:
        await (await connection.channel()).queue("q", exclusive=True)
    assert str(raised.value) == LOCKED.format(place.name)
