"""Topics against patterns, compared with the definition in AMQP 0-9-1, section 3.1.3.3."""

from __future__ import annotations

import random
import time

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuropb_rmq.service.topics import matcher, matches

MATCHING = [
    ("orders.created", "orders.created"),
    ("orders.*", "orders.created"),
    ("orders.#", "orders"),
    ("orders.#", "orders.created.eu"),
    ("#", ""),
    ("#", "orders.created"),
    ("*.created", "orders.created"),
    ("#.eu", "eu"),
    ("#.eu", "orders.created.eu"),
    ("orders.#.eu", "orders.eu"),
    ("orders.*.#", "orders.created"),
    ("a.*", "a."),  # an empty word is a word
    ("o(.*", "o(.d"),
]
DIFFERENT = [
    ("orders.created", "orders.created.eu"),
    ("orders.*", "orders"),
    ("orders.*", "orders.created.eu"),
    ("*", ""),
    ("orders.*.#", "orders"),
    ("orders", "Orders"),
    ("o.ders", "oxders"),
    ("#.eu", "orders.eu.x"),
    ("or*", "orders"),  # only a whole word is a wildcard
]


@pytest.mark.parametrize(("pattern", "topic"), MATCHING)
def test_a_topic_matches(pattern: str, topic: str) -> None:
    assert matches(matcher(pattern), topic)


@pytest.mark.parametrize(("pattern", "topic"), DIFFERENT)
def test_a_topic_does_not_match(pattern: str, topic: str) -> None:
    assert not matches(matcher(pattern), topic)


def by_definition(pattern: list[str], topic: list[str]) -> bool:
    if not pattern:
        return not topic
    first, *rest = pattern
    if first == "#":
        return any(by_definition(rest, topic[skip:]) for skip in range(len(topic) + 1))
    return bool(topic) and first in ("*", topic[0]) and by_definition(rest, topic[1:])


WORDS = st.lists(st.sampled_from(["a", "b", "*", "#", "a+", "é"]), max_size=6)


@given(WORDS, WORDS)
def test_any_topic_matches_as_defined(pattern: list[str], topic: list[str]) -> None:
    expected = by_definition(pattern, topic)
    assert matches(matcher(".".join(pattern)), ".".join(topic)) is expected


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("#.x.#.y", "x." * 127 + "z"),
        ("#.#.#.#.#.end", ".".join("a" * 127)),
        (".".join(["#", "*"] * 60 + ["end"]), "." * 254),
        (".".join(["#", "a", "a", "b"] * 30), ".".join("a" * 128)),
    ],
)
def test_the_worst_topic_costs_words_times_pattern(pattern: str, topic: str) -> None:
    started = time.process_time()
    assert not matches(matcher(pattern), topic)
    assert time.process_time() - started < 0.5  # most take a few ms


def routed(url: str, patterns: list[str], topics: list[str]) -> set[tuple[str, str]]:
    """Which (pattern, topic) a topic exchange of the broker routes."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.exchange_declare("topics", "topic", auto_delete=True)
    queues = {}
    for pattern in patterns:
        queues[pattern] = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queues[pattern], "topics", pattern)
    channel.confirm_delivery()  # each is in its queues when publishing it returns
    for topic in topics:
        channel.basic_publish("topics", topic, topic.encode())
    found = set()
    for pattern, queue in queues.items():
        while (body := channel.basic_get(queue, auto_ack=True)[2]) is not None:
            found.add((pattern, body.decode()))
    connection.close()
    return found


def test_the_broker_routes_the_same(mesh_url: str) -> None:
    sample = random.Random(1)
    words = ("a", "a", "b", "", "#", "#", "*")
    made = [".".join(sample.choices(words, k=sample.randint(1, 6))) for _ in range(60)]
    made = [each for each in made if each.count("#") <= 2]  # RabbitMQ 4.3 refuses more
    patterns = sorted({*made, *(pattern for pattern, _ in MATCHING + DIFFERENT)})
    topics = sorted({*made, *(topic for _, topic in MATCHING + DIFFERENT)})
    expected = {
        (pattern, topic)
        for pattern in patterns
        for topic in topics
        if matches(matcher(pattern), topic)
    }
    assert len(topics) < len(expected) < len(topics) * len(patterns)
    assert routed(mesh_url, patterns, topics) == expected
