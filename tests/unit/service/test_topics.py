"""Topics against patterns, compared with the definition in AMQP 0-9-1, section 3.1.3.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuropb_rmq.service.topics import matcher, matches

from ...steps import steps

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
    taken = steps(lambda: matches(matcher(pattern), topic))
    assert taken < 10 * (pattern.count(".") + 1) * (topic.count(".") + 1)
    assert not matches(matcher(pattern), topic)
