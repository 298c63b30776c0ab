"""Output of doctor: nothing that the broker says controls the terminal, no command is cut."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console

from nuropb_rmq.broker.permissions import Permission, Right
from nuropb_rmq.cli.doctor import show
from nuropb_rmq.cli.output import Output
from nuropb_rmq.doctor.checklist import judge
from nuropb_rmq.doctor.facts import Facts

from ..doctor.test_checks import facts_of


def printed(name: str, *, bindings: int = 0) -> str:
    """Print a response queue with this name, and so many stale bindings."""
    facts = facts_of("4.3.6")
    facts.found["queues"].append({"name": name, "type": "classic", "arguments": {}})
    facts.found["bindings"] += [
        {
            "source": "nuropb-events-exchange",
            "destination": "nuropb-orders-sq",
            "destination_type": "queue",
            "routing_key": f"topic.number.{number}",
        }
        for number in range(bindings)
    ]
    out = Output(json=False)
    file = io.StringIO()
    vars(out)["console"] = Console(file=file, width=60)
    show(out, judge(facts))
    return file.getvalue()


def shown(facts: Facts) -> str:
    """Print what is found, in a wide window."""
    out = Output(json=False)
    file = io.StringIO()
    vars(out)["console"] = Console(file=file, width=500)
    show(out, judge(facts))
    return file.getvalue()


def test_a_name_cannot_control_the_terminal() -> None:
    told = printed("nuropb-orders-\x1b[31m\nerror-rq")
    assert "\x1b" not in told
    assert "\\x1b[31m\\nerror" in told


def test_a_long_command_is_whole() -> None:
    told = printed("nuropb-orders-7-rq", bindings=60)
    (command,) = (line for line in told.splitlines() if "--unbind" in line and "$" in line)
    assert command.endswith("topic.number.9")
    assert command.count("--unbind") == 60


def test_what_replaces_permissions_is_not_the_first_command() -> None:
    """Without the text of the finding nobody knows what it does."""
    facts = facts_of("4.3.6")
    denied = (Permission(Right.WRITE, "exchange", "amq.default"),)
    facts.found["login"] = dataclasses.replace(facts.login, denied_service=denied)
    told = shown(facts)
    assert "replaces all permissions that this user has there" in told
    assert "$ rabbitmqctl set_permissions" in told
    assert told.rpartition("First: permissions-service: ")[2].startswith("The command replaces")


def test_nothing_is_promised_of_what_was_not_seen() -> None:
    facts = facts_of("4.3.6")
    del facts.found["feature_flags"]
    facts.unseen["feature_flags"] = "401 \x1b[31mno"
    *_, left_out, last = shown(facts).splitlines()
    reason = "(401 \\x1b[31mno)"
    assert left_out == f"Left out: feature-flags; not seen: feature flags {reason}."
    assert last.startswith("Nothing was found in what could be seen: ")
    assert last.endswith(" checks, 1 check left out.")
    for fact in ("queues", "exchanges", "nodes"):
        del facts.found[fact]
    *_, left_out, last = shown(facts).splitlines()
    assert left_out.startswith("Left out: cluster, alarm-memory, alarm-disk, descriptors, ")
    assert left_out.endswith("not seen: nodes, feature flags, exchanges, queues.")
    assert " more; not" in left_out


def test_queues_that_are_not_seen_are_a_warning() -> None:
    """Whatever the reason is."""
    facts = facts_of("4.3.6")
    del facts.found["queues"]
    facts.unseen["queues"] = "the answer is larger than 7 bytes"
    last = shown(facts).splitlines()[-1]
    assert "1 warning, " in last
    assert last.endswith(
        "First: unseen: The queues cannot be looked at: the answer is larger than 7 bytes."
    )
