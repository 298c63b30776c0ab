"""Commands that doctor proposes: they do no harm to what is beside, against recorded answers."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import Any

import pytest

from nuropb_rmq.doctor.checklist import judge
from nuropb_rmq.doctor.facts import Facts
from nuropb_rmq.exceptions import BrokerUnreachableError, ConnectionLostError

from .test_checks import RECORDED, facts_of, queue_is, seen


@pytest.fixture(params=sorted(RECORDED))
def facts(request: pytest.FixtureRequest) -> Facts:
    """All is well on a broker of each version."""
    return facts_of(request.param)


def fixes(facts: Facts, check: str) -> list[list[str]]:
    """The words of all commands of a check."""
    report = judge(facts)
    assert check in report.done
    found = [each.finding for each in report.findings if each.check == check]
    return [shlex.split(fix) for finding in found for fix in finding.fix]


def policy(**values: Any) -> dict[str, Any]:
    """A policy of RabbitMQ for all queues."""
    made = {"name": "all", "pattern": ".*", "priority": 3, "apply-to": "all", "vhost": "/"}
    return {**made, "definition": {"ha-mode": "all"}, **values}


def test_the_bound_of_dead_letters_is_for_their_queue_alone(facts: Facts) -> None:
    """A queue has one policy: what another sets for it stays, and nothing changes for others."""
    facts.found["policies"] = [policy(), policy(name="nuropb-orders-dlq", pattern="^other$")]
    ((*_, name, pattern, settings, priority, rank, apply_to, kind),) = fixes(facts, "dlq-bounds")
    assert (name, pattern) == ("nuropb-orders-dlq-own", "^nuropb-orders-dlq$")
    bounds = {"max-length": 100_000, "message-ttl": 7 * 86_400_000}
    assert json.loads(settings) == {"ha-mode": "all", **bounds}
    assert (priority, rank, apply_to, kind) == ("--priority", "4", "--apply-to", "queues")
    ((_, text),) = seen(judge(facts), "dlq-bounds")
    assert "older than 7 days" in text
    assert "beyond 100,000" in text


def test_a_policy_of_the_queue_alone_is_kept(facts: Facts) -> None:
    own = {"name": "mine", "pattern": "^nuropb-orders-dlq$", "apply-to": "classic_queues"}
    facts.found["policies"] = [policy(**own)]
    ((*_, name, pattern, _, _, rank, _, kind),) = fixes(facts, "dlq-bounds")
    assert (name, pattern, rank, kind) == ("mine", "^nuropb-orders-dlq$", "3", "classic_queues")


@pytest.mark.parametrize(
    ("name", "seen_by"),
    [
        ("nuropb-orders-retry-5000", "retry-unused"),
        ("nuropb-orders-retry-5000-quorum", "retry-unused"),
        ("nuropb-orders-retry-mailer-sq", None),
        ("nuropb-orders-retry-7-dlq", None),
        ("nuropb-orders-2-rq", "answers-left"),
        ("nuropb-orders-11111111-2222-3333-4444-555555555555-rq", "answers-left"),
        ("nuropb-orders-eu-2-rq", None),
        ("nuropb-orders-eu-11111111-2222-3333-4444-555555555555-rq", None),
        ("nuropb-orders-eu-11111111222233334444555555555555-rq", None),
    ],
)
def test_queues_of_other_services(facts: Facts, name: str, seen_by: str | None) -> None:
    """They are never proposed for deletion."""
    queue = {"name": name, "type": "classic", "arguments": {}, "messages": 0}
    facts.found["queues"].append(queue)
    found = [each for each in judge(facts).findings if name in "".join(each.finding.fix)]
    assert [each.check for each in found] == ([] if seen_by is None else [seen_by])


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("messages", [0, 3, None])
def test_only_queues_that_are_empty_are_deleted(
    facts: Facts, kind: str, messages: int | None
) -> None:
    """A queue that was not counted may hold messages."""
    name = "nuropb-orders-retry-5000"
    retry = {"name": name, "type": kind, "arguments": {}}
    facts.found["queues"].append(retry)
    queue_is(type=kind, arguments={})(facts.found)
    for queue in facts.found["queues"]:
        queue.pop("messages", None)
        if messages is not None:
            queue["messages"] = messages
    for check in ("retry-unused", "queue-dead-letters"):
        commands = fixes(facts, check)
        assert any("delete_queue" in words for words in commands) is (messages == 0)
        assert all("--if-empty" in words for words in commands[:1]) is (
            kind == "classic" or not commands
        )
        ((_, text),) = seen(judge(facts), check)
        assert ("stop the senders first" in text) is (kind == "quorum")


@pytest.mark.parametrize(
    ("pattern", "rest", "name"),
    [
        (".*", {"max-length": 5, "overflow": "reject-publish"}, "nuropb-orders-sq"),
        ("^nuropb-orders-sq$", {"max-length": 5, "overflow": "reject-publish"}, "all"),
        (".*", {}, None),
    ],
    ids=["others'", "its own", "nothing else"],
)
@pytest.mark.parametrize("kind", ["policy", "operator_policy"])
def test_one_key_of_a_policy_is_taken_out(
    facts: Facts, kind: str, pattern: str, rest: dict[str, Any], name: str | None
) -> None:
    """Other keys stay; where there is none, the text says for which pattern it was."""
    settings = {**rest, "message-ttl": 60_000}
    found = "policies" if kind == "policy" else "operator_policies"
    facts.found[found] = [policy(pattern=pattern, definition=settings)]
    (words,) = fixes(facts, "queue-lifetime")
    ((_, text),) = seen(judge(facts), "queue-lifetime")
    assert f"Policy 'all' is for all that matches '{pattern}'" in text
    if name is None:
        assert words[1:] == [f"clear_{kind}", "-p", "/", "all"]
        return
    assert words[1:5] == [f"set_{kind}", "-p", "/", name]
    assert words[5] == "^nuropb-orders-sq$"
    assert json.loads(words[6]) == rest


def test_an_alternate_exchange_is_taken_out_of_its_policy(facts: Facts) -> None:
    facts.found["policies"] = [
        policy(definition={"alternate-exchange": "x", "ha-mode": "all"}, pattern="^nuropb")
    ]
    for each in facts.found["exchanges"]:
        if each["name"] == "nuropb-rpc-exchange":
            each["policy"] = "all"
    ((*_, name, pattern, settings, _, rank, _, kind),) = fixes(facts, "exchange-alternate")
    assert (name, pattern, rank, kind) == ("all", "^nuropb", "3", "all")
    assert json.loads(settings) == {"ha-mode": "all"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "connection refused for user 'orders': user connection limit (2) is reached",
            ["clear_user_limits", "orders", "max-connections"],
        ),
        (
            "access to vhost '/' refused for user 'orders': connection limit (5) is reached",
            ["set_vhost_limits", "-p", "/", '{"max-connections": -1, "max-queues": 7}'],
        ),
        ("connection refused: node connection limit (9) is reached", None),
    ],
    ids=["user", "virtual host", "node"],
)
def test_whose_limit_of_connections_is_reached(
    facts: Facts, text: str, words: list[str] | None
) -> None:
    """The others stay; and a node's limit is nothing for a command."""
    lost = ConnectionLostError(text, 530, text)
    facts.login_error = BrokerUnreachableError(text, None, lost)
    limits = {"max-connections": 5, "max-queues": 7}
    facts.found["limits"] = [{"vhost": "/", "value": limits}]
    wanted = [] if words is None else [["rabbitmqctl", *words]]
    assert fixes(facts, "connection-limit") == wanted


def test_a_dead_letter_queue_of_another_name(facts: Facts) -> None:
    config = dataclasses.replace(facts.config, dl_queue="x.y")
    facts.subject = dataclasses.replace(facts.subject, config=config)
    facts.found["queues"].append({"name": "x.y", "type": "classic", "arguments": {}})
    ((*_, name, pattern, _, _, _, _, _),) = fixes(facts, "dlq-bounds")
    assert (name, pattern) == ("x.y", r"^x\.y$")
