"""Tests of what a message may do, by the exchange and routing key by which it came."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq import MalformedMessageError, TransportConfig
from nuropb_rmq.amqp import frames
from nuropb_rmq.transport.routes import Routes

from ..protocol.test_put_back import head_of

RPC, EVENTS = "nuropb-rpc-exchange", "nuropb-events-exchange"
QUEUE = "nuropb-orders-sq"
CALLED = {"nuropb_ca_count": 1}


def routes(**settings: Any) -> Routes:
    settings = {"rpc_bindings": ["orders-eu"], "event_bindings": ["shop.*"], **settings}
    return Routes(TransportConfig(amqp_url="amqp://localhost", service_name="orders", **settings))


def check(
    kind: str, names: str, by: tuple[str, str], made: Routes, **headers: str | int
) -> str | None:
    """Return why it is refused: an event with this topic, or a call that names this service."""
    entries = b"".join(frames.table_entry(*each) for each in headers.items())
    entries += frames.table_entry("nuropb_type", kind)
    # The last entry of a name counts, and head_of() appends a request's.
    head = head_of(entries, by=by)
    head.kind = type(head.kind)(kind)
    payload = {"topic": names} if kind == "event" else {"service": names}
    try:
        made.check(head, payload)
    except MalformedMessageError as e:
        return str(e)
    return None


def again(exchange: str, routing_key: str) -> dict[str, str | int]:
    return {**CALLED, "nuropb_ca_exchange": exchange, "nuropb_ca_routing_key": routing_key}


ADMITTED: dict[str, tuple[str, str, tuple[str, str], dict[str, str | int]]] = {
    "a call": ("request", "orders", (RPC, "orders"), {}),
    "a command to another name": ("command", "orders-eu", (RPC, "orders-eu"), {}),
    "an event": ("event", "shop.opened", (EVENTS, "shop.opened"), {}),
    "an event by a binding that an operator has made": ("event", "a.b", (EVENTS, "a.b"), {}),
    "a call past the exchange": ("request", "orders", ("", QUEUE), {}),
    "to another name, past the exchange": ("request", "orders-eu", ("", QUEUE), {}),
    "an event past the exchange": ("event", "shop.opened", ("", QUEUE), {}),
    "the longest topic, past the exchange": ("event", "shop." + "x" * 250, ("", QUEUE), {}),
    "a call by an operator's exchange": ("request", "orders", ("ours", "anything"), {}),
    "an event by an operator's exchange": ("event", "shop.opened", ("ours", ""), {}),
    "a call again": ("request", "orders", ("", QUEUE), again(RPC, "orders")),
    "an event again": ("event", "a.b", ("", QUEUE), again(EVENTS, "a.b")),
}
REFUSED: dict[str, tuple[str, str, tuple[str, str], dict[str, str | int], str]] = {
    "another topic": ("event", "admin.reset", (EVENTS, "shop.x"), {}, "'topic' is 'admin.reset'"),
    "a command by the exchange of events": (
        *("command", "orders", (EVENTS, "orders"), {}, "a command by the exchange"),
    ),
    "an event by the exchange of requests": (
        *("event", "shop.x", (RPC, "orders"), {}, "an event by the exchange"),
    ),
    "another service": ("request", "billing", (RPC, "orders"), {}, "'service' is 'billing'"),
    "another service, by a binding that somebody has made": (
        *("request", "billing", (RPC, "billing"), {}, "'service' is 'billing'"),
    ),
    "another name of ours": ("request", "orders-eu", (RPC, "orders"), {}, "'service'"),
    "another service, past the exchange": (
        *("request", "billing", ("", QUEUE), {}, "this service is orders, orders-eu"),
    ),
    "another topic, past the exchange": (
        *("event", "admin.reset", ("", QUEUE), {}, "by the default exchange"),
    ),
    "another topic, by an operator's exchange": (
        *("event", "admin.reset", ("ours", "shop.x"), {}, "by the exchange 'ours'"),
    ),
    "another topic, by an exchange whose name is as long as that of events": (
        *("event", "admin.reset", ("x" * len(EVENTS), "admin.reset"), {}, "by the exchange 'xxx"),
    ),
    "a topic that no routing key could be": (
        *("event", "shop." + "x" * 251, ("", QUEUE), {}, "no event binding"),
    ),
    "another topic, as if again": ("event", "admin.reset", ("", QUEUE), again(EVENTS, "x"), "key"),
    "again, on another exchange": (
        *("event", "admin.reset", (EVENTS, "shop.x"), again(EVENTS, "admin.reset"), "key"),
    ),
    "again, another service": (
        *("request", "billing", ("", QUEUE), again(RPC, "billing"), "this service is"),
    ),
    "lines of its own": ("event", "a\nERROR b", (EVENTS, "a"), {}, r"'a\nERROR b'"),
}


@pytest.mark.parametrize(("kind", "names", "by", "headers"), ADMITTED.values(), ids=ADMITTED)
def test_what_may_come(kind: str, names: str, by: tuple[str, str], headers: Any) -> None:
    assert check(kind, names, by, routes(), **headers) is None


@pytest.mark.parametrize(("kind", "names", "by", "headers", "why"), REFUSED.values(), ids=REFUSED)
def test_what_may_not(kind: str, names: str, by: tuple[str, str], headers: Any, why: str) -> None:
    problem = check(kind, names, by, routes(), **headers)
    assert problem is not None
    assert why in problem
    assert "\n" not in problem


def test_the_exchanges_are_those_of_the_configuration() -> None:
    own = routes(rpc_exchange="calls", events_exchange="news")
    assert check("request", "orders", ("calls", "orders"), own) is None
    assert check("event", "a.b", ("news", "a.b"), own) is None
    assert check("event", "shop.x", ("calls", "orders"), own)
    assert check("request", "orders", ("news", "orders"), own)
    assert check("request", "orders", (RPC, "orders"), own) is None, "an operator's, by now"


@pytest.mark.parametrize("binding", ["orders.*", "orders.#"])
def test_bindings_may_be_patterns(binding: str) -> None:
    """Of a topic exchange that somebody has made for requests."""
    own = routes(rpc_bindings=[binding])
    assert check("request", "orders.eu", (RPC, "orders.eu"), own) is None
    assert check("request", "billing", (RPC, "billing"), own)
    assert check("request", "orders.eu", (RPC, "orders.us"), own)
