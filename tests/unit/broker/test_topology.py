"""The topology, against what nuropb 0.1.8 declares on a real broker."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq.broker.topology import (
    Binding,
    DeadLetterTopology,
    Exchange,
    ExchangeBinding,
    Queue,
    Topology,
    dead_letter_bindings,
)
from nuropb_rmq.config.settings import TransportConfig

CAPTURED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "nuropb-0.1.8.json").read_text()
)["management"]


CLASSIC = {"x-queue-type": "classic"}


def topology(**settings: Any) -> Topology:
    base = {"amqp_url": "amqp://h", "service_name": "orders", "event_bindings": ["orders.#"]}
    return Topology.of(TransportConfig(**base | settings), "svc-1")


def letters_of(made: Topology) -> DeadLetterTopology:
    assert made.dead_letters is not None
    return made.dead_letters


def captured_queue(name: str) -> dict[str, Any]:
    return next(queue for queue in CAPTURED["queues"] if queue["name"] == name)


def test_exchanges_are_the_captured_ones() -> None:
    ours = {(item.name, item.kind, item.durable) for item in topology().exchanges}
    assert ours == {(item["name"], item["type"], item["durable"]) for item in CAPTURED["exchanges"]}


def test_service_queue_is_the_captured_one() -> None:
    queue = topology().service_queue
    assert queue is not None
    old = captured_queue("nuropb-orders-sq")
    assert (queue.durable, queue.exclusive, queue.auto_delete, dict(queue.arguments)) == (
        old["durable"],
        old["exclusive"],
        old["auto_delete"],
        {**old["arguments"], "x-queue-type": "classic"},  # which are the same to the broker
    )


def test_bindings_are_the_captured_ones() -> None:
    old = {
        Binding(item["destination"], item["source"], item["routing_key"])
        for item in CAPTURED["bindings"]
        if item["destination"] == "nuropb-orders-sq"
    }
    assert set(topology().bindings) == old


def test_response_queue_has_the_captured_name_and_dies_with_its_connection() -> None:
    queue = topology().response_queue
    assert captured_queue(queue.name)
    assert queue == Queue(
        "nuropb-orders-svc-1-rq", durable=False, exclusive=True, arguments=CLASSIC
    )
    assert not queue.auto_delete


def test_a_renewed_response_queue_has_a_name_that_peers_answer_to() -> None:
    config = TransportConfig(amqp_url="amqp://h", service_name="orders")
    first = Topology.of(config, "0123456789abcdef" * 2)
    made = first.renewed(config).renewed(config)
    assert made.response_queue.name == "nuropb-orders-0123456789abcdef0123456700000002-rq"
    assert re.fullmatch(config.reply_to_pattern, made.response_queue.name)
    assert re.fullmatch("nuropb-orders-[0-9a-f]{32}-rq", made.response_queue.name)
    assert dataclasses.replace(made, generation=0, response_queue=first.response_queue) == first


def test_dead_letter_queue_is_never_the_captured_one() -> None:
    letters = letters_of(topology())
    assert letters.queue == Queue("nuropb-orders-dlq", durable=True, arguments=CLASSIC)
    assert letters.queue.name not in {queue["name"] for queue in CAPTURED["queues"]}


def arguments_of(bindings: tuple[Binding, ...]) -> list[dict[str, Any]]:
    """The arguments of bindings of the dead-letter queue to the exchange of ours."""
    assert {(each.queue, each.exchange, each.routing_key) for each in bindings} == {
        ("nuropb-orders-dlq", "nuropb-dl-exchange-by-queue", "")
    }
    assert {each.arguments["x-match"] for each in bindings} == {"all-with-x"}
    return [{k: v for k, v in each.arguments.items() if k != "x-match"} for each in bindings]


def test_a_dead_letter_queue_gets_the_letters_of_its_service() -> None:
    letters = letters_of(topology())
    first = {"x-first-death-queue": "nuropb-orders-sq"}
    expired = {**first, "x-first-death-reason": "expired"}
    assert arguments_of(letters.bindings) == [
        {**first, "x-first-death-reason": "rejected"},
        {**first, "x-first-death-reason": "delivery_limit"},
        {**first, "x-first-death-reason": "maxlen"},
        {**expired, "nuropb_type": "command"},
        {**expired, "nuropb_type": "event"},
        {"nuropb_dead_letter_of": "nuropb-orders-sq"},
    ]
    assert letters.exchange == Exchange("nuropb-dl-exchange-by-queue", "headers", durable=True)
    assert letters.exchange_binding == ExchangeBinding(
        "nuropb-dl-exchange-by-queue", "nuropb-dl-exchange"
    )
    of_all, requests = letters.former
    assert of_all == Binding("nuropb-orders-dlq", "nuropb-dl-exchange", "nuropb-orders-dlq")
    assert arguments_of((requests,)) == [{**expired, "nuropb_type": "request"}]
    asked = letters_of(topology(dead_letter_requests=True))
    assert asked.bindings == (*letters.bindings, requests)
    assert asked.former == (of_all,)


def test_what_died_first_in_a_queue_of_the_service_is_its_own() -> None:
    config = TransportConfig(amqp_url="amqp://h", service_name="orders")
    bindings = dead_letter_bindings(config, ["one", "two"])
    assert arguments_of(bindings)[-3:-1] == [
        {"x-first-death-queue": "one"},
        {"x-first-death-queue": "two"},
    ]
    assert set(dead_letter_bindings(config)) < set(bindings)


def test_a_client_has_a_response_queue_only() -> None:
    made = topology(client_only=True, rpc_bindings=["x"])
    assert (made.service_queue, made.dead_letters) == (None, None)
    assert made.bindings == ()
    assert made.response_queue.name == "nuropb-orders-svc-1-rq"


def test_every_name_can_be_configured() -> None:
    made = topology(
        rpc_exchange="r",
        events_exchange="e",
        dl_exchange="d",
        service_queue="s",
        response_queue="q",
        dl_queue="l",
        rpc_bindings=["orders", "more"],
        event_bindings=["t.*"],
    )
    assert [exchange.name for exchange in made.exchanges] == ["r", "e", "d"]
    arguments = {"x-dead-letter-exchange": "d", **CLASSIC}
    assert made.service_queue == Queue("s", durable=True, arguments=arguments)
    assert made.response_queue.name == "q"
    letters = DeadLetterTopology(
        queue=Queue("l", durable=True, arguments=CLASSIC), bindings=(Binding("l", "d", "l"),)
    )
    assert made.dead_letters == letters
    assert made.bindings == (
        Binding("s", "r", "orders"),
        Binding("s", "r", "more"),
        Binding("s", "e", "t.*"),
    )


def test_a_quorum_queue_has_its_dead_letters_in_one_too() -> None:
    made = topology(queue_type="quorum", delivery_limit=3, single_active_consumer=True)
    assert made.service_queue is not None
    assert made.service_queue.arguments == {
        "x-dead-letter-exchange": "nuropb-dl-exchange",
        "x-queue-type": "quorum",
        "x-delivery-limit": 3,
        "x-single-active-consumer": True,
    }
    assert letters_of(made).queue == Queue(
        "nuropb-orders-dlq", durable=True, arguments={"x-queue-type": "quorum"}
    )
    assert made.response_queue == topology().response_queue


def test_priorities_are_of_the_service_queue_alone() -> None:
    made = topology(max_priority=5)
    assert made.service_queue is not None
    assert made.service_queue.arguments == {
        "x-dead-letter-exchange": "nuropb-dl-exchange",
        "x-queue-type": "classic",
        "x-max-priority": 5,
    }
    assert made.dead_letters == topology().dead_letters
    assert made.response_queue == topology().response_queue


def test_the_brokers_own_delivery_limit_is_not_said() -> None:
    made = topology(queue_type="quorum").service_queue
    assert made is not None
    assert set(made.arguments) == {"x-dead-letter-exchange", "x-queue-type"}


def test_it_is_frozen_and_hashable() -> None:
    made = topology()
    assert hash(made) == hash(topology())
    with pytest.raises(AttributeError):
        made.bindings = ()  # type: ignore[misc]
