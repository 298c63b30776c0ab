"""Kinds of exchange, and what a headers exchange compares."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq.memory.errors import ChannelError
from nuropb_rmq.memory.exchange import StoredExchange

from .support import Host


def routed(exchange: StoredExchange, key: str, headers: dict[str, Any] | None = None) -> list[str]:
    """The names of the queues that a message goes to."""
    return [queue.name for queue in exchange.route(key, lambda: headers or {})]


@pytest.mark.parametrize(
    ("kind", "key", "names"),
    [
        ("direct", "a.b", ["one", "two"]), ("direct", "a.*", ["three"]), ("direct", "c", []),
        ("topic", "a.b", ["one", "two", "three"]), ("topic", "a.c", ["three"]), ("topic", "c", []),
        ("fanout", "c", ["one", "two", "three"]), ("headers", "c", ["one", "two", "three"]),
    ],
)  # fmt: skip
def test_kinds(kind: str, key: str, names: list[str]) -> None:
    exchange, host = StoredExchange("e", kind, durable=True), Host()
    one, two, three = (host.queue(name) for name in ("one", "two", "three"))
    for queue, pattern in ((one, "a.b"), (two, "a.b"), (three, "a.*"), (two, "x"), (two, "a.b")):
        exchange.bind(queue, pattern, {})
    assert routed(exchange, key) == names


# arguments of the binding, headers, whether it matches
HEADERS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {}, True),
    ({}, {"a": 1}, True),
    ({"a": 1}, {"a": 1}, True),
    ({"a": 1}, {"a": 2}, False),
    ({"a": 1}, {}, False),
    ({"a": 1}, {"a": "1"}, False),
    ({"a": 1}, {"a": True}, False),
    ({"a": True}, {"a": True}, True),
    ({"a": None}, {"a": 7}, True),
    ({"a": None}, {"b": 7}, False),
    ({"a": 1, "b": 2}, {"a": 1}, False),
    ({"x-match": "all", "a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
    ({"x-match": "all", "a": 1, "b": 2}, {"a": 1}, False),
    ({"x-match": "any", "a": 1, "b": 2}, {"a": 1}, True),
    ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
    ({"x-match": "any", "a": 1, "b": 2}, {"a": 2}, False),
    ({"x-match": "any"}, {"a": 1}, False),
    ({"x-match": "any", "x-own": 1}, {"x-own": 1}, False),
    ({"x-own": 1, "a": 1}, {"a": 1}, True),
    ({"x-match": "any-with-x", "x-own": 1}, {"x-own": 1}, True),
    ({"x-match": "all-with-x", "x-own": 1, "a": 1}, {"a": 1}, False),
    ({"x-match": "all-with-x", "x-own": 1, "a": 1}, {"x-own": 1, "a": 1}, True),
]


@pytest.mark.parametrize(("arguments", "headers", "matches"), HEADERS, ids=str)
def test_headers(arguments: dict[str, Any], headers: dict[str, Any], matches: bool) -> None:
    exchange = StoredExchange("e", "headers", durable=True)
    exchange.bind(Host().queue(), "", arguments)
    assert routed(exchange, "any key", headers) == (["q"] if matches else [])


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
def test_unbinding(kind: str) -> None:
    exchange, host = StoredExchange("e", kind, durable=True), Host()
    one, two = host.queue("one"), host.queue("two")
    for queue in (one, two):
        for key in ("a", "b"):
            exchange.bind(queue, key, {})
    exchange.unbind(one, "a", {})
    exchange.unbind(one, "never bound", {})
    exchange.unbind(two, "a", {"other": "arguments"})
    assert routed(exchange, "a") == (["two"] if kind in ("direct", "topic") else ["one", "two"])
    exchange.forget(one)
    assert routed(exchange, "b") == ["two"]
    exchange.forget(two)
    assert routed(exchange, "b") == []


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
def test_one_binding_for_each_set_of_arguments(kind: str) -> None:
    exchange, queue = StoredExchange("e", kind, durable=True), Host().queue()
    for arguments in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2}, {"a": 2}):
        exchange.bind(queue, "k", arguments)
    assert routed(exchange, "k", {"a": 2}) == ["q"]
    exchange.unbind(queue, "k", {"a": 2})
    assert routed(exchange, "k", {"a": 2}) == ([] if kind == "headers" else ["q"])
    assert routed(exchange, "k", {"a": 1, "b": 2}) == ["q"]
    exchange.unbind(queue, "k", {"b": 2, "a": 1})
    assert routed(exchange, "k", {"a": 1, "b": 2}) == []


def test_exchanges_are_followed_each_once() -> None:
    host = Host()
    one, two = host.queue("one"), host.queue("two")
    first, by_headers, back = (
        StoredExchange(name, kind, durable=True)
        for name, kind in (("f", "fanout"), ("h", "headers"), ("b", "direct"))
    )
    first.bind(by_headers, "", {})
    first.bind(one, "", {})
    by_headers.bind(back, "", {})
    by_headers.bind(one, "", {"a": 1})
    back.bind(first, "k", {})
    back.bind(two, "k", {})
    for exchange in (first, by_headers, back):
        assert sorted(routed(exchange, "k", {"a": 1})) == ["one", "two"]
    assert routed(first, "other") == ["one"]
    first.forget(by_headers)
    assert routed(first, "k", {"a": 1}) == ["one"]
    back.unbind(first, "k", {})
    assert sorted(routed(by_headers, "k")) == ["two"]


@pytest.mark.parametrize("pattern", ["#.#.#", "#.a.#.b.#"])
def test_a_topic_has_two_hashes_at_most(pattern: str) -> None:
    with pytest.raises(ChannelError, match="uses 3 '#' wildcards, at most 2 are allowed") as raised:
        StoredExchange("e", "topic", durable=True).bind(Host().queue(), pattern, {})
    assert raised.value.code == 406
    StoredExchange("e", "direct", durable=True).bind(Host().queue(), pattern, {})
    StoredExchange("e", "topic", durable=True).bind(Host().queue(), "#.a#.#", {})
