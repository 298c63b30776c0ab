"""Which dead letters come to a service's own queue, by each way that a message dies."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq import TransportConfig, configure
from nuropb_rmq.broker.topology import Binding, dead_letter_bindings

from .brokers import Place, becomes
from .raw import Raw, RawChannel, headers_of

TYPES = pytest.mark.parametrize("kind", ["classic", "quorum"])
SERVICES = ("orders", "billing")
COMMAND = {"nuropb_type": "command"}
DEAD = "nuropb-dl-exchange"


@pytest.fixture
async def services(place: Place) -> None:
    """Two services of one virtual host, and the queue of an old peer, which gets all letters."""
    for name in SERVICES:
        await configure(TransportConfig(amqp_url=place.url, service_name=name))
    await configure(TransportConfig(amqp_url=place.url, service_name="old", dl_queue="old-dl"))


async def service_queue(channel: RawChannel, kind: str, name: str = "orders", **more: Any) -> None:
    await channel.queue(f"nuropb-{name}-sq", x_dead_letter_exchange=DEAD, x_queue_type=kind, **more)


async def reject(connection: Raw, queue: str) -> None:
    """Take the first message, and refuse it; it does not matter who does."""
    consumer = await connection.channel()
    await consumer.consume(queue, prefetch=1)
    (content,) = await consumer.taken(1)
    consumer.reject(content, requeue=False)
    await consumer.close()


async def letters(place: Place, own: int, of_others: int = 0, of_all: int | None = None) -> None:
    """Wait until the queues hold so many letters."""
    expected = [own, of_others, own + of_others if of_all is None else of_all]

    async def depths() -> list[int]:
        return [
            await place.depth(queue)
            for queue in ("nuropb-orders-dlq", "nuropb-billing-dlq", "old-dl")
        ]

    await becomes(depths, expected)


@TYPES
@pytest.mark.parametrize("kept", ["request", "command", "event"])
async def test_what_is_refused(
    services: None, connection: Raw, channel: RawChannel, place: Place, kind: str, kept: str
) -> None:
    await service_queue(channel, kind)
    await channel.publish("nuropb-orders-sq", headers={"nuropb_type": kept})
    await reject(connection, "nuropb-orders-sq")
    await letters(place, own=1)


@TYPES
async def test_those_of_two_services(
    services: None, connection: Raw, channel: RawChannel, place: Place, kind: str
) -> None:
    for name, count in (("orders", 3), ("billing", 2)):
        await service_queue(channel, kind, name)
        for _ in range(count):
            await channel.publish(f"nuropb-{name}-sq", headers=COMMAND)
            await reject(connection, f"nuropb-{name}-sq")
    await letters(place, own=3, of_others=2)


@TYPES
@pytest.mark.parametrize(
    ("what", "own"), [("request", 0), ("command", 1), ("event", 1), ("response", 0), (None, 0)]
)
async def test_what_expires(
    services: None, channel: RawChannel, place: Place, kind: str, what: str | None, own: int
) -> None:
    await service_queue(channel, kind)
    headers = {} if what is None else {"nuropb_type": what}
    await channel.publish("nuropb-orders-sq", headers=headers, expiration="10")
    await letters(place, own=own, of_all=1)


async def test_requests_that_expire_are_kept_when_that_is_asked_for(
    services: None, channel: RawChannel, place: Place
) -> None:
    await service_queue(channel, "classic")
    asked = TransportConfig(amqp_url=place.url, service_name="orders", dead_letter_requests=True)
    await configure(asked)
    request: dict[str, Any] = {"headers": {"nuropb_type": "request"}, "expiration": "10"}
    await channel.publish("nuropb-orders-sq", **request)
    await letters(place, own=1)
    await configure(TransportConfig(amqp_url=place.url, service_name="orders"))
    await channel.publish("nuropb-orders-sq", **request)
    await letters(place, own=1, of_all=2)


@TYPES
async def test_what_does_not_fit(
    services: None, channel: RawChannel, place: Place, kind: str
) -> None:
    await service_queue(channel, kind, x_max_length=1)
    for _ in range(3):
        await channel.publish("nuropb-orders-sq", headers={"nuropb_type": "request"})
    await letters(place, own=2)


async def test_what_came_back_too_often(
    services: None, connection: Raw, channel: RawChannel, place: Place
) -> None:
    await service_queue(channel, "quorum", x_delivery_limit=1)
    await channel.publish("nuropb-orders-sq")
    for _ in range(2):
        consumer = await connection.channel()
        await consumer.consume("nuropb-orders-sq")
        await consumer.taken(1)
        await consumer.close()
    await letters(place, own=1)


async def test_copies(services: None, channel: RawChannel, place: Place) -> None:
    for queue, count in (("nuropb-orders-sq", 2), ("nuropb-billing-sq", 1), ("nowhere", 1)):
        for _ in range(count):
            headers = {"nuropb_dead_letter_of": queue, "x-death": [{"queue": queue}]}
            await channel.publish("", exchange=DEAD, headers=headers)
    await letters(place, own=2, of_others=1, of_all=4)


@TYPES
async def test_what_died_in_a_retry_rung_first(
    services: None, connection: Raw, channel: RawChannel, place: Place, kind: str
) -> None:
    """Anybody may reject it then, an old peer as well; without the binding it would be nobody's."""
    await service_queue(channel, kind)
    rung = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": "nuropb-orders-sq"}
    await channel.queue("nuropb-orders-retry-10", x_message_ttl=10, x_queue_type=kind, **rung)
    await channel.publish("nuropb-orders-retry-10", headers=COMMAND)
    await reject(connection, "nuropb-orders-sq")
    await letters(place, own=0, of_all=1)
    config = TransportConfig(amqp_url=place.url, service_name="orders")
    await channel.control.bind(dead_letter_bindings(config, ["nuropb-orders-retry-10"]))
    await channel.publish("nuropb-orders-retry-10", headers=COMMAND)
    await reject(connection, "nuropb-orders-sq")
    await letters(place, own=1, of_all=2)


@TYPES
async def test_what_a_sender_claims_of_its_first_death(
    services: None, connection: Raw, channel: RawChannel, place: Place, kind: str
) -> None:
    """It does not keep the letter from the service that gave it up."""
    await service_queue(channel, kind)
    forged = {"x-first-death-queue": "nuropb-billing-sq", "x-first-death-reason": "rejected"}
    await channel.publish("nuropb-orders-sq", headers={**COMMAND, **forged})
    await reject(connection, "nuropb-orders-sq")
    await letters(place, own=1)
    await channel.consume("nuropb-orders-dlq")
    (letter,) = await channel.taken(1)
    assert headers_of(letter)["x-first-death-queue"] == "nuropb-orders-sq"


async def test_a_letter_comes_once_while_both_bindings_are_there(
    services: None, connection: Raw, channel: RawChannel, place: Place
) -> None:
    """As between the two steps of moving a queue, and after an older version has bound it again."""
    await service_queue(channel, "classic")
    await channel.control.bind([Binding("nuropb-orders-dlq", DEAD, "nuropb-orders-dlq")])
    await channel.publish("nuropb-orders-sq", headers=COMMAND)
    await reject(connection, "nuropb-orders-sq")
    await letters(place, own=1)
