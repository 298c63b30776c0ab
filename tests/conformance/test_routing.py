"""Routing: kinds of exchange, mandatory returns, confirms, and closed channels."""

from __future__ import annotations

import pytest
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from nuropb_rmq.broker.topology import Binding, ExchangeBinding

from ..support import eventually
from .brokers import Place
from .raw import Raw, RawChannel, headers_of, properties_of

# pattern → keys that match, keys that do not; an empty word is a word
TOPICS: dict[str, tuple[list[str], list[str]]] = {
    "#": (["", "a", "a.b"], []),
    "*": (["a"], ["", "a.b"]),
    "a.*": (["a.", "a.b"], ["a"]),
    "a.#": (["a", "a.b", "a."], ["ab", ".a"]),
    "*.*": ([".", "a.b"], ["", "a"]),
    "#.b": (["b", "a.b"], ["a.b.c"]),
    "a..b": (["a..b"], ["a.x.b", "a.b"]),
    "": ([""], ["a"]),
    "a.#.b": (["a.b", "a.x.b", "a.x.y.b"], ["a", "b"]),
    "#.#": (["", "a", "a.b"], []),
    "*.#": (["a", "a.b"], [""]),
    "#.a.#": (["a", "x.a", "a.x", "x.a.x"], ["x", ""]),
}


@pytest.mark.parametrize("pattern", TOPICS)
async def test_topic(channel: RawChannel, place: Place, pattern: str) -> None:
    wanted, unwanted = TOPICS[pattern]
    await channel.queue("q", ("amq.topic", pattern))
    for key in (*wanted, *unwanted):
        assert await channel.publish(key, key.encode(), exchange="amq.topic")
    assert await place.depth("q") == len(wanted)
    await channel.consume("q")
    assert await channel.bodies(len(wanted)) == [key.encode() for key in wanted]


async def test_direct_and_fanout(channel: RawChannel, place: Place) -> None:
    await channel.exchange("d", "direct")
    await channel.exchange("f", "fanout")
    await channel.queue("one", ("d", "k"), ("d", "l"), ("f", "x"))
    await channel.queue("two", ("d", "k"), ("f", ""), ("f", "y"))
    for exchange, key in (("d", "k"), ("d", "l"), ("d", "*"), ("f", "k"), ("f", "anything")):
        assert await channel.publish(key, b"", exchange=exchange)
    assert [await place.depth("one"), await place.depth("two")] == [4, 3]


async def test_a_binding_that_is_made_twice_counts_once(channel: RawChannel, place: Place) -> None:
    await channel.queue("q", ("amq.direct", "k"), ("amq.direct", "k"))
    assert await channel.publish("k", exchange="amq.direct")
    await place.unbind("q", "amq.direct", "k")
    assert await channel.publish("k", exchange="amq.direct")
    assert await place.depth("q") == 1


async def test_an_exchange_behind_another(channel: RawChannel, place: Place) -> None:
    """Messages go through once, however many bindings and circles there are."""
    await channel.exchange("f", "fanout")
    await channel.exchange("h", "headers")
    await channel.queue("q", ("f", ""))
    matched = {"x-match": "all-with-x", "x-own": "1", "b": "2"}
    await channel.control.bind(
        [Binding("q", "h", "", matched), Binding("q", "h", "", {"x-match": "all", "c": "3"})]
    )
    await channel.control.bind_exchange(ExchangeBinding("h", "f"))
    await channel.control.bind_exchange(ExchangeBinding("h", "f"))
    await channel.control.bind_exchange(ExchangeBinding("f", "h"))
    await channel.queue("only h", x_max_length=100)
    await channel.control.bind([Binding("only h", "h", "", matched)])
    for headers in ({"x-own": "1", "b": "2", "c": "3"}, {"x-own": "1"}, {"b": "2"}, {}):
        assert await channel.publish("any", exchange="f", headers=headers)
    assert [await place.depth("q"), await place.depth("only h")] == [4, 1]
    await channel.control.unbind([Binding("only h", "h", "", {"x-match": "all"})])  # is not there
    await channel.control.unbind([Binding("only h", "h", "", matched)])
    assert await channel.publish("any", exchange="f", headers={"x-own": "1", "b": "2"})
    assert await place.depth("only h") == 1
    await place.delete_exchange("h")
    assert await channel.publish("any", exchange="f")
    assert await place.depth("q") == 6


async def test_a_binding_without_its_exchange_or_with_a_strange_match(
    connection: Raw, channel: RawChannel
) -> None:
    with pytest.raises(ChannelNotFoundEntity, match="no exchange 'nowhere' in vhost"):
        await channel.control.bind_exchange(ExchangeBinding("amq.fanout", "nowhere"))
    channel = await connection.channel()
    with pytest.raises(ChannelNotFoundEntity, match="no exchange 'nowhere' in vhost"):
        await channel.control.bind_exchange(ExchangeBinding("nowhere", "amq.fanout"))
    channel = await connection.channel()
    await channel.queue("q")
    with pytest.raises(ChannelPreconditionFailed, match="Invalid x-match field value") as raised:
        await channel.control.bind([Binding("q", "amq.headers", "", {"x-match": "some"})])
    assert "expected all, any, all-with-x, or any-with-x" in str(raised.value)


async def test_one_that_no_queue_takes(channel: RawChannel) -> None:
    assert await channel.publish("nobody", b"not mandatory")
    assert await channel.publish("nobody", b"body", mandatory=True, correlation_id="c")
    assert await channel.publish("k", b"", exchange="amq.topic", mandatory=True)
    first, second = await channel.taken(2)
    assert (first.reply_code, first.reply_text, first.exchange, first.routing_key) == (
        312, "NO_ROUTE", "", "nobody",
    )  # fmt: skip
    assert (first.body, properties_of(first).correlation_id) == (b"body", "c")
    assert (second.exchange, second.routing_key) == ("amq.topic", "k")


async def test_a_return_comes_before_its_confirm(channel: RawChannel) -> None:
    number = channel.put("nobody", mandatory=True)
    await eventually(lambda: channel.contents or channel.confirms)
    assert channel.contents
    await eventually(lambda: channel.confirms == [(number, True)])


async def test_every_message_is_confirmed(channel: RawChannel, place: Place) -> None:
    await channel.queue("q")
    for number in range(200):
        channel.put("q", b"%d" % number)
    await eventually(lambda: len(channel.confirms) == 200)
    assert all(taken for _, taken in channel.confirms)
    assert await place.depth("q") == 200


async def test_an_exchange_that_is_missing_costs_the_channel(
    connection: Raw, channel: RawChannel, place: Place
) -> None:
    await channel.queue("q")
    channel.put("k", exchange="gone")
    channel.put("q", b"behind it")
    await eventually(lambda: channel.closed)
    assert channel.closed is not None
    assert (channel.closed.code, channel.closed.text) == (
        404, f"NOT_FOUND - no exchange 'gone' in vhost '{place.name}'",
    )  # fmt: skip
    assert connection.lost is None
    assert await place.depth("q") == 0
    assert await (await connection.channel()).publish("q")


EXPIRATIONS = {
    "abc": "no_integer",
    "": "no_integer",
    " 1": "no_integer",
    "-1": "{value_negative,-1}",
    "1.5": '{leftover_string,".5"}',
    "315360000001": "{value_too_large,315360000001}",
}


@pytest.mark.parametrize("expiration", EXPIRATIONS)
async def test_an_expiration_that_is_none(
    channel: RawChannel, place: Place, expiration: str
) -> None:
    await channel.queue("q")
    assert not await channel.publish("q", expiration=expiration)
    assert channel.closed is not None
    assert channel.closed.text == (
        f"PRECONDITION_FAILED - invalid expiration '{expiration}': {EXPIRATIONS[expiration]}"
    )
    assert await place.depth("q") == 0


@pytest.mark.parametrize("expiration", ["1000", "+1000", "315360000000"])
async def test_an_expiration(channel: RawChannel, place: Place, expiration: str) -> None:
    await channel.queue("q")
    assert await channel.publish("q", expiration=expiration)
    await channel.consume("q")
    (content,) = await channel.taken(1)
    assert int(properties_of(content).expiration or -1) == int(expiration)


async def test_properties_and_headers_arrive_as_they_were_sent(channel: RawChannel) -> None:
    await channel.queue("q")
    headers = {
        "text": "ž", "number": 1, "large": 2**40, "true": True, "none": None, "float": 1.5,
        "list": [1, "a"], "table": {"b": 1},
    }  # fmt: skip
    properties = {
        "content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2,
        "priority": 7, "correlation_id": "c", "reply_to": "r", "expiration": "60000",
        "message_id": "m", "timestamp": 1_700_000_000, "type": "t", "app_id": "a",
    }  # fmt: skip
    assert await channel.publish("q", b"body", headers=headers, **properties)
    await channel.consume("q")
    (content,) = await channel.taken(1)
    found = properties_of(content)
    assert headers_of(content) == headers
    assert {name: getattr(found, name) for name in properties} == properties
    assert (content.exchange, content.routing_key, content.body) == ("", "q", b"body")


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 500_000])
async def test_a_body_of_any_size(channel: RawChannel, size: int) -> None:
    await channel.queue("q")
    body = bytes(range(256)) * (size // 256 + 1)
    assert await channel.publish("q", body[:size])
    await channel.consume("q")
    assert await channel.bodies(1) == [body[:size]]


async def test_queues_of_one_message_have_their_own_copies(channel: RawChannel) -> None:
    for name in ("one", "two"):
        await channel.queue(name, ("amq.fanout", ""))
    assert await channel.publish("", b"x", exchange="amq.fanout")
    await channel.consume("one", prefetch=1)
    (first,) = await channel.taken(1)
    channel.nack(first, requeue=True)
    (again,) = await channel.taken(1)
    assert (first.redelivered, again.redelivered) == (False, True)


async def test_the_copy_of_another_queue_is_fresh(connection: Raw, channel: RawChannel) -> None:
    for name in ("one", "two"):
        await channel.queue(name, ("amq.fanout", ""))
    assert await channel.publish("", b"x", exchange="amq.fanout")
    await channel.consume("one")
    (first,) = await channel.taken(1)
    channel.nack(first, requeue=True)
    await channel.taken(1)
    other = await connection.channel()
    await other.consume("two")
    (copy,) = await other.taken(1)
    assert (copy.redelivered, copy.body) == (False, b"x")
