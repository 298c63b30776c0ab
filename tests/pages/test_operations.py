"""docs/operations/: permissions are those of SECURITY.md, and enough; each alert has a section."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from nuropb_rmq import Retry, TransportConfig
from nuropb_rmq.broker.permissions import Permission, Right
from nuropb_rmq.doctor.facts import Subject
from nuropb_rmq.doctor.needed import client_permissions, service_permissions
from nuropb_rmq.testing import RabbitMQNode

from .support import DOCS, ROOT, blocks, page

PERMISSIONS = page("operations/permissions.md")
NEEDS_NAMES = "amqp://deploy:secret@localhost/"


def commands(text: str) -> list[list[str]]:
    """Commands in blocks of a page, as a shell splits them."""
    lines = [
        line
        for block in blocks(text)
        if block.language in {"", "sh"}
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.startswith(("rabbitmqctl", "nuropb-rmq"))
    ]
    return [shlex.split(line, comments=True) for line in lines]


GRANTED = {each[4]: each[5:] for each in commands(PERMISSIONS) if each[1] == "set_permissions"}


def may(user: str, asked: Permission) -> bool:
    """Return whether a user has a permission; RabbitMQ searches with these expressions."""
    pattern = GRANTED[user][list(Right).index(asked.right)]
    return re.search(pattern, asked.name) is not None


def test_permissions_are_those_of_the_security_policy() -> None:
    """Those of SECURITY.md are tried on a broker."""
    tried = commands((ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert [each for each in tried if each[1].startswith("set_")]
    for each in tried:
        assert each in commands(PERMISSIONS)


def test_permissions_for_listening_are_those_of_the_command() -> None:
    (ear,) = (each for each in commands(PERMISSIONS) if "ear" in each)
    assert ear in commands(page("operations/command.md"))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_permissions_are_enough_for_a_service(queue_type: str) -> None:
    config = TransportConfig(
        amqp_url=NEEDS_NAMES,
        service_name="orders",
        queue_type=queue_type,
        retry_delays=Retry().delays,
    )
    subject = Subject(config=config, target="orders")
    needed = (*client_permissions(subject), *service_permissions(subject))
    assert len(needed) > 15
    assert [str(each) for each in needed if not may("orders", each)] == []


def test_permissions_are_enough_for_a_client_and_no_more() -> None:
    config = TransportConfig(amqp_url=NEEDS_NAMES, service_name="shop", client_only=True)
    for each in client_permissions(Subject(config=config, target="shop")):
        assert may("shop", each)
    for name in ("nuropb-orders-sq", "nuropb-orders-dlq", "amq.default", "nuropb-dl-exchange"):
        assert not any(may("shop", Permission(right, "queue", name)) for right in Right)


# -- the runbook -------------------------------------------------------------------------------

RUNBOOK = page("operations/runbook.md")
ALERTS = re.findall(r"^ *- alert: (\w+)$", (DOCS / "prometheus/alerts.yml").read_text(), re.M)


def section(heading: str) -> str:
    """Return a section of the runbook."""
    found = re.search(rf"^##+ {heading}\n(.*?)(?=^##+ |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the runbook has no section {heading}"
    return found[1]


def test_there_are_alerts() -> None:
    assert len(ALERTS) > 8


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_its_section(alert: str) -> None:
    """It says what it means, how to look, and what to do."""
    text = section(alert)
    for part in ("**Means**", "**Look**", "**Do**"):
        assert part in text


def test_the_runbook_has_no_other_alerts() -> None:
    headings = re.findall(r"^##+ (Nuropb\w+)$", RUNBOOK, re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)


def test_its_commands_of_the_broker(rabbitmq_node: RabbitMQNode) -> None:
    """Those that look; columns differ between versions."""
    looking = {
        tuple("/" if each == "VHOST" else each for each in command[1:])
        for command in commands(RUNBOOK)
        if command[0] == "rabbitmqctl"
    }
    assert len(looking) > 3
    for arguments in sorted(looking):
        assert arguments[0] in {"list_queues", "cluster_status"}
        rabbitmq_node.rabbitmqctl(*arguments)  # raises unless it succeeds


def test_the_index_names_each_section() -> None:
    index, _, rest = RUNBOOK.partition("\n## ")
    headings = re.findall(r"^## (.+)$", f"\n## {rest}", re.MULTILINE)
    linked = re.findall(r"\]\(#([\w-]+)\)", index)
    assert [each.lower().replace(" ", "-").replace(",", "") for each in headings] == linked


def test_checks_that_it_names_are_checks() -> None:
    rows = page("operations/doctor.md").partition("## What is looked at")[2]
    known = set(re.findall(r"^\| `([\w-]+)` \|", rows, re.MULTILINE))
    texts = RUNBOOK + page("operations/upgrading.md")
    named = re.findall(r"doctor[^`()\n]*`? \(((?:`[\w-]+`(?:, )?)+)\)", texts)
    checks = {each for names in named for each in re.findall(r"`([\w-]+)`", names)}
    assert len(checks) > 5
    assert checks <= known


# -- comparison, upgrading ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FastStream", "aio-pika"])
def test_versions_that_are_compared_are_those_of_the_benchmarks(name: str) -> None:
    lock = Path(ROOT, "requirements-bench.lock").read_text(encoding="utf-8")
    found = re.search(rf"^{name.lower()}==([\d.]+)", lock, re.MULTILINE)
    assert found is not None
    assert f"{name} {found[1]}" in page("comparison.md")
