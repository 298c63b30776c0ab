"""Checks of what cannot be broken on a node of the tests, against recorded answers of brokers.

tests/data/management-*.json is what the management API answered beside a service that ran, without
rates and paths.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq import Mesh, TransportConfig
from nuropb_rmq.doctor.checklist import CHECKS, Report, judge
from nuropb_rmq.doctor.facts import Facts, Host, Login, Subject, Tls
from nuropb_rmq.doctor.finding import Level

from ...cli.deployed import Orders

ROOT = Path(__file__).parents[3]
RECORDED = {
    path.stem.removeprefix("management-"): json.loads(path.read_text(encoding="utf-8"))
    for path in (ROOT / "tests" / "data").glob("management-*.json")
}
Change = Callable[[dict[str, Any]], object]


def facts_of(version: str, url: str = "amqp://orders:s3cret@127.0.0.1/") -> Facts:
    """Facts of a broker on which all is well."""
    found = copy.deepcopy(RECORDED[version])
    found["login"] = Login(
        version=found["login"],
        frame_max=131_072,
        channel_max=2047,
        denied_client=(),
        denied_service=(),
        consumers=1,
    )
    found["letters"] = ()
    mesh = Mesh(url, service=Orders())
    subject = Subject(config=mesh.transport.config, target="orders:Orders", declared=True)
    host = Host(name="127.0.0.1", port=5672)
    return Facts(subject=subject, hosts=(host,), clock_ahead=0.0, found=found)


def seen(report: Report, check: str) -> list[tuple[Level, str]]:
    """The findings of a check."""
    assert check in report.done
    return [
        (each.finding.level, each.finding.text) for each in report.findings if each.check == check
    ]


@pytest.fixture(params=sorted(RECORDED))
def facts(request: pytest.FixtureRequest) -> Facts:
    """All is well on a broker of each version."""
    return facts_of(request.param)


def test_brokers_of_both_lines_were_recorded() -> None:
    assert sorted(each.partition(".")[0] for each in RECORDED) == ["3", "4"]


def test_all_is_well(facts: Facts) -> None:
    report = judge(facts)
    assert report.first is None, report.findings
    assert not report.left_out
    assert {each.finding.level for each in report.findings} == {Level.NOTE}


def node_is(**values: Any) -> Change:
    def change(found: dict[str, Any]) -> None:
        found["nodes"][0].update(values)

    return change


def queue_is(**values: Any) -> Change:
    def change(found: dict[str, Any]) -> None:
        for queue in found["queues"]:
            if queue["name"] == "nuropb-orders-sq":
                queue.update(values)

    return change


def flag_is(state: str) -> Change:
    def change(found: dict[str, Any]) -> None:
        found["feature_flags"].append({"name": "new", "stability": "stable", "state": state})

    return change


def deprecated(found: dict[str, Any]) -> None:
    found["deprecated"] = [
        {"name": "classic_queue_mirroring", "deprecation_phase": "removed", "state": "permitted"}
    ]


@pytest.mark.parametrize(
    ("check", "level", "text", "change"),
    [
        ("erlang", Level.NOTE, "Erlang 24.3", lambda found: found["overview"].update(
            erlang_version="24.3.4.1")),
        ("cluster", Level.ERROR, "rabbit@localhost is down", node_is(running=False)),
        ("cluster", Level.ERROR, "cut off from rabbit@two", node_is(partitions=["rabbit@two"])),
        ("descriptors", Level.WARNING, "900 of 1,000 file desc", node_is(
            fd_used=900, fd_total=1000)),
        ("descriptors", Level.WARNING, "80 of 100 sockets", node_is(
            sockets_used=80, sockets_total=100)),
        ("descriptors", Level.WARNING, "processes", node_is(proc_used=999_999, proc_total=10**6)),
        ("feature-flags", Level.WARNING, "new for one", flag_is("disabled")),
        ("deprecated", Level.NOTE, "classic_queue_mirroring is in use", deprecated),
        ("queue-state", Level.ERROR, "is down; it was last on rabbit@", queue_is(state="down")),
        ("queue-state", Level.WARNING, "1 of 3 members online; away: b, c", queue_is(
            members=["a", "b", "c"], online=["a"])),
    ],
)  # fmt: skip
def test_what_a_node_of_the_tests_does_not_do(
    facts: Facts, check: str, level: Level, text: str, change: Change
) -> None:
    change(facts.found)
    ((found, _),) = [each for each in seen(judge(facts), check) if text in each[1]]
    assert found is level


def test_the_feature_flag_is_enabled_by_the_command(facts: Facts) -> None:
    flag_is("disabled")(facts.found)
    (fix,) = [each.finding.fix for each in judge(facts).findings if each.check == "feature-flags"]
    assert fix == ("rabbitmqctl enable_feature_flag all",)
    facts.found["feature_flags"].pop()
    flag_is("enabled")(facts.found)
    assert seen(judge(facts), "feature-flags") == []


@pytest.mark.parametrize(
    ("version", "level", "text"),
    [
        ("3.9.29", Level.ERROR, "too old"),
        ("3.10.8", Level.NOTE, "no more patches"),
        ("3.13.7", Level.NOTE, "no more patches"),
        ("4.2.6", Level.WARNING, "Update to 4.2.7"),
        ("4.3.0", Level.WARNING, "Update to 4.3.1"),
        ("4.2.7", None, ""),
        ("4.3.1+2", None, ""),
        ("4.10.0", None, ""),
        ("", None, ""),
        ("a version", None, ""),
    ],
)
def test_versions(version: str, level: Level | None, text: str) -> None:
    facts = facts_of("4.3.6")
    facts.found["login"] = Login(
        version=version, frame_max=0, channel_max=0, denied_client=(), denied_service=()
    )
    found = seen(judge(facts), "version")
    assert [each for each, _ in found] == ([] if level is None else [level])
    assert all(text in told for _, told in found)


@pytest.mark.parametrize(
    ("ahead", "text"),
    [(61.0, "61 s ahead of"), (-3600.2, "3,600 s behind"), (4.0, None), (None, None)],
)
def test_clocks(ahead: float | None, text: str | None) -> None:
    facts = facts_of("4.3.6")
    facts.clock_ahead = ahead
    found = seen(judge(facts), "clock")
    assert bool(found) == (text is not None)
    assert all(str(text) in told for _, told in found)


@pytest.mark.parametrize(
    ("url", "checks"),
    [
        ("amqp://orders:s@rabbit.example/", {"plain-text"}),
        ("amqp://rabbit.example/", {"plain-text", "guest"}),
        ("amqp://guest:s@10.0.0.7/", {"plain-text", "guest"}),
        ("amqps://orders:s@rabbit.example/", set()),
        ("amqps://orders:s@rabbit.example/?verify=false", {"tls-verify"}),
        ("amqp://guest:guest@localhost/", set()),
        ("amqp://guest:guest@[::1]/", set()),
        ("amqp://guest:guest@127.3.2.1/", set()),
    ],
)
def test_addresses(url: str, checks: set[str]) -> None:
    report = judge(Facts(subject=facts_of("4.3.6", url).subject))
    assert {each.check for each in report.findings} == checks


@pytest.mark.parametrize("days", [29, 31])
def test_days_of_a_certificate(days: int) -> None:
    facts = facts_of("4.3.6")
    (host,) = facts.hosts
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    host.tls = Tls(version="TLSv1.3", subject="CN=a", names=("a",), ends=ends)
    assert bool(seen(judge(facts), "tls-expiry")) == (days < 30)


def test_what_is_not_as_it_should_be_breaks_nothing(facts: Facts) -> None:
    """A broker, or a proxy before it, may answer anything that is JSON of the right kind."""
    for name, found in facts.found.items():
        if isinstance(found, list):
            facts.found[name] = [
                {},
                {"name": None},
                {"name": 1, "value": 7, "definition": [], "queue": 1},
            ]
        elif isinstance(found, dict):
            facts.found[name] = {}
    report = judge(facts)
    assert report.first is not None


def test_a_client_has_no_queues(facts: Facts) -> None:
    config = TransportConfig(amqp_url="amqp://localhost/", service_name="c", client_only=True)
    facts.subject = Subject(config=config)
    facts.found["queues"] = []
    report = judge(facts)
    assert report.first is None
    assert not [name for name in report.done if name.startswith(("binding", "dlq", "queue"))]


def test_what_was_not_seen_is_left_out(facts: Facts) -> None:
    del facts.found["nodes"]
    report = judge(facts)
    assert set(report.left_out) == {"cluster", "alarm-memory", "alarm-disk", "descriptors"}
    assert "queue-type" in report.done


def test_the_first_thing_to_do_is_the_first_of_the_worst(facts: Facts) -> None:
    queue_is(state="down")(facts.found)
    node_is(fd_used=99, fd_total=100)(facts.found)
    facts.found["exchanges"] = []
    report = judge(facts)
    assert report.first is not None
    assert report.first.check == "exchange-missing"
    assert report.first.finding.fix == ("nuropb-rmq configure orders:Orders",)


def test_every_check_has_a_test() -> None:
    """Its name is in a test of doctor."""
    tests = [*(ROOT / "tests" / "cli").glob("test_doctor*.py"), Path(__file__)]
    text = "\n".join(path.read_text(encoding="utf-8") for path in tests)
    names = [check.name for checks in CHECKS.values() for check in checks]
    assert len(set(names)) == len(names) >= 30
    assert [name for name in names if f'"{name}"' not in text] == []


def test_the_manual_has_every_check() -> None:
    page = (ROOT / "docs" / "operations" / "doctor.md").read_text(encoding="utf-8")
    _, _, listed = page.partition("## What is looked at")
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", listed, re.MULTILINE)
    told = [(check.name, check.about) for checks in CHECKS.values() for check in checks]
    assert rows == told
