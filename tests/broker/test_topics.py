"""Topics against patterns: the broker routes the same as we match."""

from __future__ import annotations

import random

import pika

from nuropb_rmq.service.topics import matcher, matches

from ..unit.service.test_topics import DIFFERENT, MATCHING


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
