"""doctor looks at exchanges and queues: each fault is made, seen, repaired, and gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq.doctor.finding import Level

from .doctoring import BY_QUEUE, DEAD, DL_QUEUE, EVENTS, PROGRAM, QUEUE, RPC, SERVICE, Deployment

BOTH = pytest.mark.parametrize("target", [PROGRAM, SERVICE], ids=["program", "name"])
OURS = {"x_dead_letter_exchange": DEAD, "x_queue_type": "classic"}


async def test_all_is_well(deployed: Deployment) -> None:
    """But nobody serves, which is seen."""
    report = await deployed.look()
    assert {each.check for each in report.findings if each.finding.level is not Level.NOTE} == {
        "consumers"
    }
    assert not report.left_out
    assert report.first is not None
    assert report.first.finding.fix == (f"nuropb-rmq serve {PROGRAM}",)


# -- exchanges ------------------------------------------------------------------------------


@BOTH
async def test_nothing_is_there(deployment: Deployment, target: str) -> None:
    found = await deployment.broken(
        "exchange-missing", Level.ERROR, target, repaired_by=f"nuropb-rmq configure {target}"
    )
    for name in (RPC, EVENTS, DEAD):
        assert name in found.finding.text


async def test_an_exchange_is_of_another_type_and_transient(deployment: Deployment) -> None:
    await deployment.api("PUT", f"exchanges/{{vhost}}/{RPC}", {"type": "fanout", "durable": False})
    report = await deployment.look()
    found = {each.check: each for each in report.findings}
    assert f"{RPC!r} is of type fanout, not direct" in found["exchange-type"].finding.text
    assert f"{RPC!r} is transient" in found["exchange-durable"].finding.text
    await deployment.api("DELETE", f"exchanges/{{vhost}}/{RPC}")  # as the text says
    await deployment.repair(found["exchange-type"])
    await deployment.clean("exchange-type")
    await deployment.clean("exchange-durable")


async def test_an_alternate_exchange(deployed: Deployment) -> None:
    await deployed.policy(f"^{RPC}$", alternate_exchange="amq.fanout")
    await deployed.broken("exchange-alternate", Level.WARNING, repaired_by="clear_policy")


# -- the service queue ----------------------------------------------------------------------


async def test_the_service_queue_is_missing(deployed: Deployment) -> None:
    await deployed.api("DELETE", f"queues/{{vhost}}/{QUEUE}")
    by_name = await deployed.sees("queue-missing", SERVICE)
    assert by_name.finding.fix == ()
    await deployed.broken("queue-missing", Level.ERROR, repaired_by=f"configure {PROGRAM}")


async def test_a_classic_queue_where_quorum_is_declared(deployed: Deployment) -> None:
    target = "tests.cli.deployed:quorum"
    await deployed.broken("queue-type", Level.ERROR, target, repaired_by="delete_queue")


async def test_a_quorum_queue_is_used_as_it_is(deployment: Deployment) -> None:
    await deployment.make("tests.cli.deployed:quorum")
    found = await deployment.sees("queue-type")
    assert found.finding.level is Level.NOTE
    await deployment.clean("queue-type", "tests.cli.deployed:quorum")


async def test_other_arguments(deployment: Deployment) -> None:
    await deployment.declare(QUEUE, **OURS, x_max_length=10)
    found = await deployment.sees("queue-arguments", SERVICE)
    assert "x-max-length is 10, declared is none" in found.finding.text
    await deployment.broken("queue-arguments", Level.ERROR, repaired_by="delete_queue")


async def test_options_are_compared_with_a_program_alone(deployment: Deployment) -> None:
    await deployment.make("tests.cli.deployed:limited")
    await deployment.clean("queue-arguments", SERVICE)
    found = await deployment.sees("queue-arguments", "tests.cli.deployed:quorum")
    assert "x-delivery-limit is 20" in found.finding.text


async def test_a_queue_that_vanishes(deployment: Deployment) -> None:
    await deployment.api(
        "PUT",
        f"queues/{{vhost}}/{QUEUE}",
        {"durable": True, "auto_delete": True, "arguments": {"x-dead-letter-exchange": DEAD}},
    )
    await deployment.broken("queue-durable", Level.ERROR, text="auto-delete")


async def test_a_queue_without_dead_letters(deployment: Deployment) -> None:
    await deployment.declare(QUEUE, x_queue_type="classic")
    await deployment.broken("queue-dead-letters", Level.ERROR, text="exchange none")


async def test_a_queue_with_messages_is_not_deleted(deployment: Deployment) -> None:
    await deployment.declare(QUEUE, x_queue_type="classic")
    await deployment.publish(QUEUE)
    async with asyncio.timeout(20):
        while (await deployment.sees("queue-dead-letters")).finding.fix:
            pass


@BOTH
async def test_it_cannot_be_called(deployed: Deployment, target: str) -> None:
    await deployed.unbind(RPC, QUEUE, "orders")
    await deployed.broken("binding-rpc", Level.ERROR, target, text="as orders")


async def test_events_do_not_come(deployed: Deployment) -> None:
    await deployed.unbind(EVENTS, QUEUE, "shop.%2A")
    await deployed.broken("binding-events", Level.ERROR, text="shop.*")
    assert "binding-events" not in (await deployed.look(SERVICE)).done


async def test_bindings_without_handlers(deployed: Deployment) -> None:
    for exchange, key in ((EVENTS, "old.#"), (RPC, "billing")):
        await deployed.api(
            "POST", f"bindings/{{vhost}}/e/{exchange}/q/{QUEUE}", {"routing_key": key}
        )
    found = await deployed.broken("binding-stale", Level.WARNING, text="billing of")
    assert f"old.# of {EVENTS}" in found.finding.text


@pytest.mark.parametrize(
    ("check", "level", "definition", "repaired_by"),
    [
        ("queue-lifetime", Level.ERROR, {"expires": 86_400_000}, "clear_policy"),
        ("queue-lifetime", Level.WARNING, {"message_ttl": 60_000}, "clear_policy"),
        ("queue-bounds", Level.WARNING, {"max_length": 1000}, "reject-publish"),
    ],
    ids=["expires", "message-ttl", "max-length"],
)
async def test_a_policy_for_the_service_queue(
    deployed: Deployment, check: str, level: Level, definition: dict[str, Any], repaired_by: str
) -> None:
    await deployed.policy(f"^{QUEUE}$", **definition)
    await deployed.broken(check, level, repaired_by=repaired_by)


async def test_a_policy_for_many_queues_stays_for_the_others(deployed: Deployment) -> None:
    await deployed.policy(".*", message_ttl=60_000, max_length=9, overflow="reject-publish")
    await deployed.broken("queue-lifetime", Level.WARNING, text="matches '.*'")
    policies = {each["name"]: each for each in await deployed.api("GET", "policies/{vhost}")}
    assert policies["of-a-test"]["definition"]["message-ttl"] == 60_000
    own = policies[QUEUE]
    assert (own["pattern"], own["priority"]) == (f"^{QUEUE}$", 1)
    assert own["definition"] == {"max-length": 9, "overflow": "reject-publish"}


async def test_an_operator_policy(deployed: Deployment) -> None:
    body = {"pattern": ".*", "definition": {"message-ttl": 60_000}, "apply-to": "queues"}
    await deployed.api("PUT", "operator-policies/{vhost}/all", body)
    await deployed.broken("queue-lifetime", Level.WARNING, repaired_by="clear_operator_policy")


async def test_refusing_when_full_is_no_fault(deployed: Deployment) -> None:
    await deployed.policy(f"^{QUEUE}$", max_length=1000, overflow="reject-publish")
    await deployed.clean("queue-bounds")


# -- the dead-letter queue ------------------------------------------------------------------


async def test_the_dead_letter_queue_is_missing(deployed: Deployment) -> None:
    await deployed.api("DELETE", f"queues/{{vhost}}/{DL_QUEUE}")
    await deployed.broken("dlq-missing", Level.ERROR, SERVICE, repaired_by="configure orders")


async def test_the_exchange_of_dead_letters_is_missing(deployed: Deployment) -> None:
    await deployed.api("DELETE", f"exchanges/{{vhost}}/{BY_QUEUE}")
    await deployed.broken("dlq-exchange", Level.ERROR, text="does not exist")


async def test_the_exchange_of_dead_letters_gets_none(deployed: Deployment) -> None:
    await deployed.unbind(DEAD, BY_QUEUE, "~", "e")
    await deployed.broken("dlq-exchange", Level.ERROR, text="is not bound")


async def test_bindings_of_dead_letters_are_missing(deployed: Deployment) -> None:
    bound = await deployed.api("GET", f"bindings/{{vhost}}/e/{BY_QUEUE}/q/{DL_QUEUE}")
    await deployed.unbind(BY_QUEUE, DL_QUEUE, bound[0]["properties_key"])
    await deployed.broken("dlq-bindings", Level.ERROR, text="1 of 7 bindings")


async def test_dead_letters_of_all_services(deployed: Deployment) -> None:
    path = f"bindings/{{vhost}}/e/{DEAD}/q/{DL_QUEUE}"
    await deployed.api("POST", path, {"routing_key": DL_QUEUE})
    await deployed.broken("dlq-all-services", Level.WARNING, repaired_by="configure")
    await deployed.api("POST", path, {"routing_key": "by hand"})
    assert (await deployed.sees("dlq-all-services")).finding.fix == ()


async def test_no_bound_for_dead_letters(deployed: Deployment) -> None:
    await deployed.broken("dlq-bounds", Level.NOTE, repaired_by="max-length")


async def test_a_delivery_limit_for_dead_letters(deployment: Deployment) -> None:
    """Whatever their policy sets already stays."""
    target = "tests.cli.deployed:quorum"
    await deployment.make(target)
    await deployment.policy(f"^{DL_QUEUE}$", max_length=7)
    if deployment.node.version.startswith("3."):
        await deployment.clean("dlq-delivery-limit", target)
        return
    await deployment.broken("dlq-delivery-limit", Level.WARNING, target, text="came back 20 times")
    (policy,) = await deployment.api("GET", "policies/{vhost}")
    assert policy["definition"] == {"max-length": 7, "delivery-limit": -1}


@pytest.mark.parametrize(
    ("level", "definition", "repaired_by"),
    [
        (Level.ERROR, {"expires": 86_400_000}, "clear_policy"),
        (Level.WARNING, {"overflow": "reject-publish", "max_length": 5}, "drop-head"),
    ],
    ids=["expires", "reject-publish"],
)
async def test_a_policy_that_loses_dead_letters(
    deployed: Deployment, level: Level, definition: dict[str, Any], repaired_by: str
) -> None:
    await deployed.policy(f"^{DL_QUEUE}$", **definition)
    await deployed.broken("dlq-lifetime", level, repaired_by=repaired_by)


# -- queues beside --------------------------------------------------------------------------


async def test_a_queue_of_retries_is_missing(deployed: Deployment) -> None:
    await deployed.api("DELETE", "queues/{vhost}/nuropb-orders-retry-100")
    await deployed.broken("retry-missing", Level.ERROR, text="nuropb-orders-retry-100")


async def test_a_queue_of_retries_that_nobody_uses(deployed: Deployment) -> None:
    await deployed.declare("nuropb-orders-retry-5000", x_queue_type="classic")
    await deployed.broken("retry-unused", Level.NOTE, repaired_by="delete_queue")


async def test_a_policy_for_retries(deployed: Deployment) -> None:
    await deployed.policy("retry", message_ttl=1)
    await deployed.broken("retry-policy", Level.WARNING, text="message-ttl")


async def test_response_queues_are_left(deployed: Deployment) -> None:
    for number in range(6):
        await deployed.declare(f"nuropb-orders-{number}-rq")
    last = "nuropb-orders-4-rq"  # its messages are counted, which are none
    found = await deployed.sees("answers-left", SERVICE, text="6 response queues", repaired_by=last)
    assert found.finding.level is Level.WARNING
    assert len(found.finding.fix) == 5
    assert "and 1 more" in found.finding.text
    for number in range(5):
        await deployed.api("DELETE", f"queues/{{vhost}}/nuropb-orders-{number}-rq")
    await deployed.broken("answers-left", Level.WARNING, text="1 response queues")


async def test_a_policy_for_response_queues(deployed: Deployment) -> None:
    await deployed.declare("nuropb-shop-1-rq")
    await deployed.policy("^nuropb-", max_length=1)
    await deployed.broken("answers-policy", Level.WARNING, "", text="nuropb-shop-1-rq")
