"""Messages that a queue gives up: x-death, limits, expiration, priorities."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ..support import eventually
from .brokers import Place, becomes
from .raw import Raw, RawChannel, headers_of, properties_of

TYPES = pytest.mark.parametrize("kind", ["classic", "quorum"])
LETTERS = {"x_dead_letter_exchange": "dlx"}


@pytest.fixture
async def letters(connection: Raw) -> RawChannel:
    """A consumer of the dead letters."""
    channel = await connection.channel()
    await channel.exchange("dlx", "fanout")
    await channel.queue("letters", ("dlx", ""))
    await channel.consume("letters", no_ack=True)
    return channel


async def die(connection: Raw, channel: RawChannel, why: str, kind: str, **more: Any) -> None:
    """Make q give up its first message for this reason."""
    options: dict[str, Any] = {
        "expired": {"x_message_ttl": 50},
        "maxlen": {"x_max_length": 1},
        "delivery_limit": {"x_delivery_limit": 1},
    }.get(why, {})
    await channel.queue("q", x_queue_type=kind, **LETTERS, **options, **more)
    await channel.publish("q", b"first", headers={"own": 1}, priority=9, correlation_id="c")
    if why == "maxlen":
        await channel.publish("q", b"second")
    elif why == "rejected":
        consumer = await connection.channel()
        await consumer.consume("q")
        (content,) = await consumer.taken(1)
        consumer.reject(content, requeue=False)
    elif why == "delivery_limit":
        for _ in range(2):
            consumer = await connection.channel()
            await consumer.consume("q")
            await consumer.taken(1)
            await consumer.close()


@pytest.mark.parametrize(
    ("why", "kind"),
    [
        ("rejected", "classic"), ("rejected", "quorum"), ("expired", "classic"),
        ("expired", "quorum"), ("maxlen", "classic"), ("maxlen", "quorum"),
        ("delivery_limit", "quorum"),
    ],
)  # fmt: skip
async def test_a_death(
    connection: Raw, channel: RawChannel, letters: RawChannel, why: str, kind: str
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    await die(connection, channel, why, kind)
    (letter,) = await letters.taken(1)
    headers, properties = headers_of(letter), properties_of(letter)
    (death,) = headers["x-death"]
    at = death.pop("time")
    assert before - timedelta(seconds=1) <= at <= datetime.now(UTC) + timedelta(seconds=1)
    assert death == {
        "count": 1, "reason": why, "queue": "q", "exchange": "", "routing-keys": ["q"],
    }  # fmt: skip
    assert {name: headers[f"x-first-death-{name}"] for name in ("queue", "reason", "exchange")} == {
        "queue": "q", "reason": why, "exchange": "",
    }  # fmt: skip
    assert headers["own"] == 1
    assert (letter.exchange, letter.routing_key, letter.body, letter.redelivered) == (
        "dlx", "q", b"first", False,
    )  # fmt: skip
    assert (properties.priority, properties.correlation_id) == (9, "c")


@TYPES
async def test_its_routing_key(
    connection: Raw, channel: RawChannel, letters: RawChannel, kind: str
) -> None:
    await die(connection, channel, "rejected", kind, x_dead_letter_routing_key="dead")
    (letter,) = await letters.taken(1)
    assert letter.routing_key == "dead"
    assert headers_of(letter)["x-death"][0]["routing-keys"] == ["q"]


@TYPES
@pytest.mark.parametrize("why", ["rejected", "expired"])
async def test_its_expiration_is_kept_apart(
    connection: Raw, channel: RawChannel, letters: RawChannel, kind: str, why: str
) -> None:
    await channel.queue("q", x_queue_type=kind, **LETTERS)
    expiration = "50" if why == "expired" else "60000"
    await channel.publish("q", b"", expiration=expiration)
    if why == "rejected":
        consumer = await connection.channel()
        await consumer.consume("q")
        (content,) = await consumer.taken(1)
        consumer.nack(content, requeue=False)
    (letter,) = await letters.taken(1)
    (death,) = headers_of(letter)["x-death"]
    assert (death["reason"], death["original-expiration"]) == (why, expiration)
    assert properties_of(letter).expiration is None


async def test_deaths_are_counted_by_queue_and_reason(connection: Raw, channel: RawChannel) -> None:
    """To and fro between a queue with a consumer and one where it waits: a retry."""
    await channel.queue("work", x_dead_letter_exchange="", x_dead_letter_routing_key="wait")
    await channel.queue(
        "wait", x_dead_letter_exchange="", x_dead_letter_routing_key="work", x_message_ttl=20
    )
    consumer = await connection.channel()
    await consumer.consume("work")
    channel.put("work", b"x")
    for turn in range(4):
        (content,) = await consumer.taken(1)
        headers = headers_of(content)
        deaths = [
            (each["queue"], each["reason"], each["count"]) for each in headers.get("x-death", [])
        ]
        expected = [("wait", "expired", turn), ("work", "rejected", turn)] if turn else []
        assert deaths == expected
        assert headers.get("x-first-death-queue") == ("work" if turn else None)
        consumer.reject(content, requeue=False)


@pytest.mark.parametrize("queues", [["a"], ["a", "b"], ["a", "b", "c"]], ids=len)
async def test_what_only_expires_does_not_go_in_circles(
    channel: RawChannel, place: Place, queues: list[str]
) -> None:
    for name, then in zip(queues, (*queues[1:], queues[0]), strict=True):
        await channel.queue(
            name, x_dead_letter_exchange="", x_dead_letter_routing_key=then, x_message_ttl=20
        )
    await channel.publish("a", b"x")
    for name in queues:
        await becomes(lambda name=name: place.depth(name), 0)  # type: ignore[misc]
    assert [await place.depth(name) for name in queues] == [0] * len(queues)


async def test_letters_that_go_nowhere(connection: Raw, channel: RawChannel, place: Place) -> None:
    await channel.queue("q", x_dead_letter_exchange="nowhere")
    await channel.publish("q")
    await channel.consume("q")
    (content,) = await channel.taken(1)
    channel.reject(content, requeue=False)
    await channel.close()
    other = await connection.channel()
    assert await other.publish("q", b"next")
    assert await place.depth("q") == 1


async def test_what_is_deleted_or_purged_is_no_dead_letter(
    channel: RawChannel, letters: RawChannel, place: Place
) -> None:
    for name in ("q", "p"):
        await channel.queue(name, **LETTERS)
        await channel.publish(name, b"x")
    await place.delete_queue("q")
    await place.purge("p")
    assert await place.depth("letters") == 0
    assert not letters.contents


async def test_what_is_rejected_after_its_queue_was_deleted(
    connection: Raw, channel: RawChannel, letters: RawChannel, place: Place
) -> None:
    await channel.queue("q", **LETTERS)
    await channel.publish("q")
    consumer = await connection.channel()
    await consumer.consume("q")
    (content,) = await consumer.taken(1)
    await place.delete_queue("q")
    await eventually(lambda: consumer.cancelled)
    consumer.reject(content, requeue=False)
    await consumer.close()
    assert not letters.contents
    assert consumer.closed is None or consumer.closed.code == 0


# -- limits -----------------------------------------------------------------------------------

# arguments, bodies that are published, whether each is taken, what is left, the dead letters
LIMITS: dict[str, tuple[dict[str, Any], str, str, str, str]] = {
    "drop-head": ({"x_max_length": 2}, "a b c d", "yyyy", "c d", "a b"),
    "said so": ({"x_max_length": 2, "x_overflow": "drop-head"}, "a b c", "yyy", "b c", "a"),
    "reject-publish": (
        {"x_max_length": 2, "x_overflow": "reject-publish"}, "a b c d", "yynn", "a b", "",
    ),
    "reject-publish-dlx": (
        {"x_max_length": 2, "x_overflow": "reject-publish-dlx"}, "a b c d", "yynn", "a b", "c d",
    ),
    "bytes": ({"x_max_length_bytes": 5}, "aa bb cc", "yyy", "bb cc", "aa"),
    "bytes, reject-publish": (
        {"x_max_length_bytes": 5, "x_overflow": "reject-publish"}, "aa bb cc d", "yyny",
        "aa bb d", "",
    ),
    "none": ({"x_max_length": 0}, "a b", "yy", "", "a b"),
    "quorum": ({"x_max_length": 2, "x_queue_type": "quorum"}, "a b c d", "yyyy", "c d", "a b"),
}  # fmt: skip


@pytest.mark.parametrize("what", LIMITS)
async def test_a_limit(channel: RawChannel, letters: RawChannel, place: Place, what: str) -> None:
    arguments, published, taken, left, dead = LIMITS[what]
    await channel.queue("q", **LETTERS, **arguments)
    said = [await channel.publish("q", body.encode()) for body in published.split()]
    assert "".join("y" if each else "n" for each in said) == taken
    assert b" ".join(await letters.bodies(len(dead.split()))).decode() == dead
    await channel.consume("q")
    assert b" ".join(await channel.bodies(len(left.split()))).decode() == left


async def test_one_of_several_queues_refuses(channel: RawChannel, place: Place) -> None:
    await channel.exchange("f", "fanout")
    await channel.queue("all", ("f", ""))
    await channel.queue("one", ("f", ""), x_max_length=1, x_overflow="reject-publish")
    said = [await channel.publish("", b"%d" % n, exchange="f") for n in range(3)]
    assert said == [True, False, False]
    assert [await place.depth("all"), await place.depth("one")] == [3, 1]


async def test_what_is_delivered_at_once_needs_no_room(
    connection: Raw, channel: RawChannel
) -> None:
    await channel.queue("q", x_max_length=0)
    consumer = await connection.channel()
    await consumer.consume("q")
    assert await channel.publish("q", b"x")
    assert await consumer.bodies(1) == [b"x"]


async def test_what_comes_back_to_a_full_queue(
    connection: Raw, channel: RawChannel, place: Place
) -> None:
    await channel.queue("q", x_max_length=2)
    for body in (b"0", b"1"):
        await channel.publish("q", body)
    consumer = await connection.channel()
    await consumer.consume("q", prefetch=2)
    await consumer.taken(2)
    for body in (b"2", b"3"):
        await channel.publish("q", body)
    await consumer.close()
    await channel.consume("q")
    assert await channel.bodies(2) == [b"2", b"3"]
    assert not channel.contents


# -- expiration -------------------------------------------------------------------------------


@TYPES
@pytest.mark.parametrize("limit", [{"x_message_ttl": 100}, {}], ids=["of the queue", "its own"])
async def test_it_expires(
    channel: RawChannel, place: Place, kind: str, limit: dict[str, Any]
) -> None:
    await channel.queue("q", x_queue_type=kind, **limit)
    await channel.publish("q", b"x", expiration="30000" if limit else "100")
    await becomes(lambda: place.depth("q"), 0)
    await channel.consume("q")
    await channel.publish("q", b"next")
    assert await channel.bodies(1) == [b"next"]


async def test_only_the_head_expires(channel: RawChannel, letters: RawChannel) -> None:
    await channel.queue("q", **LETTERS)
    for body, expiration in ((b"a", "50"), (b"b", "60000"), (b"c", "50")):
        await channel.publish("q", body, expiration=expiration)
    assert await letters.bodies(1) == [b"a"]
    await channel.publish("q", b"d", expiration="50")
    await channel.consume("q", prefetch=1)
    (head,) = await channel.taken(1)
    assert head.body == b"b"
    assert await letters.bodies(2) == [b"c", b"d"]


async def test_an_expired_head_behind_a_higher_priority_stays(
    channel: RawChannel, letters: RawChannel, place: Place
) -> None:
    await channel.queue("q", x_max_priority=5, **LETTERS)
    await channel.publish("q", b"low", priority=1, expiration="50")
    await channel.publish("q", b"high", priority=4)
    await channel.queue("clock", x_message_ttl=100, **LETTERS)
    await channel.publish("clock", b"tick")
    assert await letters.bodies(1) == [b"tick"]
    assert await place.depth("q") == 2
    await channel.consume("q", prefetch=1)
    assert await channel.bodies(1) == [b"high"]
    assert await letters.bodies(1) == [b"low"]


@TYPES
async def test_zero_is_for_those_who_wait(
    connection: Raw, channel: RawChannel, place: Place, kind: str
) -> None:
    await channel.queue("q", x_queue_type=kind)
    await channel.publish("q", b"nobody", expiration="0")
    await becomes(lambda: place.depth("q"), 0)
    consumer = await connection.channel()
    await consumer.consume("q", prefetch=1)
    await channel.publish("q", b"one", expiration="0")
    await channel.publish("q", b"two", expiration="0")
    assert await consumer.bodies(1) == [b"one"]
    await becomes(lambda: place.depth("q"), 0)
    assert not consumer.contents


async def test_time_goes_on_in_the_hand_of_a_consumer(
    connection: Raw, channel: RawChannel, letters: RawChannel
) -> None:
    await channel.queue("q", **LETTERS)
    await channel.publish("q", b"x", expiration="100")
    consumer = await connection.channel()
    await consumer.consume("q")
    (content,) = await consumer.taken(1)
    await channel.queue("clock", x_message_ttl=150, **LETTERS)
    await channel.publish("clock", b"tick")
    assert await letters.bodies(1) == [b"tick"]
    consumer.nack(content, requeue=True)
    assert await letters.bodies(1) == [b"x"]
    assert not consumer.contents


# -- priorities -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("highest", "order"),
    [(None, "0 1 2 3 4 5 6 7"), (1, "1 2 3 4 6 7 0 5"), (5, "3 4 7 2 6 1 0 5")],
)
async def test_priorities(channel: RawChannel, highest: int | None, order: str) -> None:
    await channel.queue("q", **({} if highest is None else {"x_max_priority": highest}))
    for number, priority in enumerate([None, 1, 4, 9, 5, 0, 4, 200]):
        known = {} if priority is None else {"priority": priority}
        await channel.publish("q", b"%d" % number, **known)
    await channel.consume("q", prefetch=1)
    seen = []
    for _ in range(8):
        (content,) = await channel.taken(1)
        seen.append(content.body)
        channel.ack(content)
    assert b" ".join(seen).decode() == order


async def test_what_comes_back_keeps_its_priority(connection: Raw, channel: RawChannel) -> None:
    await channel.queue("q", x_max_priority=5)
    for body, priority in ((b"low", 1), (b"high", 4), (b"high again", 4)):
        await channel.publish("q", body, priority=priority)
    consumer = await connection.channel()
    await consumer.consume("q", prefetch=2)
    assert await consumer.bodies(2) == [b"high", b"high again"]
    await consumer.close()
    await channel.publish("q", b"middle", priority=2)
    await channel.consume("q")
    assert await channel.bodies(4) == [b"high", b"high again", b"middle", b"low"]


async def test_a_limit_drops_the_highest_priority_first(
    channel: RawChannel, letters: RawChannel
) -> None:
    await channel.queue("q", x_max_priority=5, x_max_length=2, **LETTERS)
    for number, priority in enumerate([4, 1, 2]):
        await channel.publish("q", b"%d" % number, priority=priority)
    assert await letters.bodies(1) == [b"0"]
    await channel.consume("q")
    assert await channel.bodies(2) == [b"2", b"1"]


@pytest.mark.parametrize("limit", [0, 2])
async def test_a_delivery_limit(connection: Raw, letters: RawChannel, limit: int) -> None:
    channel = await connection.channel()
    await channel.queue("q", x_queue_type="quorum", x_delivery_limit=limit, **LETTERS)
    await channel.publish("q", b"x")
    counts = []
    for _ in range(limit + 1):
        consumer = await connection.channel()
        await consumer.consume("q")
        (content,) = await consumer.taken(1)
        counts.append(headers_of(content).get("x-delivery-count", 0))
        await consumer.close()
    (letter,) = await letters.taken(1)
    assert counts == list(range(limit + 1))
    assert headers_of(letter)["x-death"][0]["reason"] == "delivery_limit"
