"""The oracle finds everything that must not be, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from .journal import Journal, Tail
from .ledger import Ledger
from .oracle import Inflicted, Run, Verdict, judge
from .plan import Kind
from .report import Report, table

CLIENT = "client-1-1"
SUBSCRIBERS = ("alpha", "beta")


class Logs:
    """Logs as the programs would write them; each call takes a second."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.run = Run(subscribers=SUBSCRIBERS, mortal=frozenset({"mayfly"}))
        self._numbers = count(1)

    def sent(self, kind: str, to: str, at: float = 10.0, timeout: float = 5.0) -> str:
        identity = f"{CLIENT}-{next(self._numbers)}"
        record = {"at": at, "id": identity, "kind": kind, "to": to, "timeout": timeout}
        self.ledger.feed(CLIENT, "sent", {**record, "digest": 7})
        return identity

    def confirmed(self, identity: str, at: float = 11.0) -> None:
        self.ledger.feed(CLIENT, "confirmed", {"at": at, "id": identity})

    def reply(self, identity: str, outcome: str, at: float = 11.0, answer: Any = None) -> None:
        record = {"at": at, "id": identity, "outcome": outcome, "answer": answer}
        self.ledger.feed(CLIENT, "reply", record)

    def effect(self, identity: str, to: str, digest: int = 7) -> None:
        self.ledger.feed(to, "effect", {"at": 10.5, "id": identity, "to": to, "digest": digest})

    def end(self, **left: float) -> None:
        record = {"at": 90.0, "tasks": 0, "pending": 0, "keys": 0, "pause": 0.1, "stop": 0.2}
        self.ledger.feed(CLIENT, "end", {**record, **left})

    def verdict(self) -> Verdict:
        return judge(self.ledger, self.run)


@pytest.fixture
def logs() -> Iterator[Logs]:
    """Logs of a run in which all went well; each test adds what did not."""
    made = Logs()
    asked = made.sent("request", "alpha")
    made.effect(asked, "alpha")
    made.reply(asked, "answered", answer=[asked, 7])
    commanded = made.sent("command", "alpha")
    made.effect(commanded, "alpha")
    made.confirmed(commanded)
    event = made.sent("event", "")
    for service in SUBSCRIBERS:
        made.effect(event, service)
    made.confirmed(event)
    made.run.recovered(Kind.RESET.value, 1.0)
    made.end()
    assert made.verdict().failures() == []
    yield made
    text = "\n".join(table(made.ledger, made.run, made.verdict()))
    assert "wrong answers" in text


def found(logs: Logs) -> str:
    (failure,) = logs.verdict().failures()
    return failure


def test_a_call_that_never_ends(logs: Logs) -> None:
    logs.sent("request", "alpha")
    assert found(logs) == f"1 calls that never ended: {CLIENT}-4"
    logs.run.killed.add(CLIENT)
    assert logs.verdict().failures() == []


def test_a_call_that_ends_late(logs: Logs) -> None:
    in_time, late = logs.sent("request", "alpha"), logs.sent("command", "beta")
    logs.reply(in_time, "NuropbTimeoutError", at=16.9)
    logs.reply(late, "NuropbNotSentError", at=17.1)
    assert found(logs) == f"1 calls that ended later than timeout + 2 s: {late} (+2.1 s)"


@pytest.mark.parametrize("answer", [None, ["x", 7], [f"{CLIENT}-4", 8]])
def test_a_wrong_answer(logs: Logs, answer: Any) -> None:
    asked = logs.sent("request", "alpha")
    logs.reply(asked, "answered", answer=answer)
    assert found(logs).startswith("1 wrong answers")


def test_an_answer_and_another(logs: Logs) -> None:
    asked = logs.sent("request", "alpha")
    logs.reply(asked, "answered", answer=[asked, 7])
    logs.reply(asked, "NuropbTimeoutError")
    assert found(logs).startswith("1 wrong answers")


def test_content_that_was_damaged(logs: Logs) -> None:
    asked = logs.sent("request", "alpha")
    logs.effect(asked, "alpha", digest=8)
    logs.reply(asked, "NuropbTimeoutError")
    assert found(logs).startswith("1 wrong answers, and content that was damaged")


def test_an_effect_of_nothing(logs: Logs) -> None:
    logs.effect("nobody's", "alpha")
    assert found(logs).startswith("1 wrong answers, and content that was damaged")


def test_a_confirmed_command_that_is_lost(logs: Logs) -> None:
    logs.confirmed(logs.sent("command", "beta"))
    assert found(logs) == f"1 confirmed commands that were lost: {CLIENT}-4 at beta"


def test_a_confirmed_event_that_is_lost_to_one_subscriber(logs: Logs) -> None:
    event = logs.sent("event", "")
    logs.effect(event, "alpha")
    logs.confirmed(event)
    assert found(logs) == f"1 confirmed events that were lost: {CLIENT}-4 at beta"


def test_what_has_no_confirm_may_be_lost(logs: Logs) -> None:
    for outcome in ("NuropbOutcomeUnknownError", "NuropbNotSentError"):
        logs.reply(logs.sent("command", "beta"), outcome)
    assert logs.verdict().failures() == []


@pytest.mark.parametrize("outcome", ["NuropbNotSentError", "OutboxFullError"])
@pytest.mark.parametrize("kind", ["request", "command"])
def test_what_was_never_sent_is_handled(logs: Logs, kind: str, outcome: str) -> None:
    call = logs.sent(kind, "beta")
    logs.effect(call, "beta")
    logs.reply(call, outcome)
    assert "reported as never sent" in found(logs)


def test_a_request_may_be_handled_after_its_timeout(logs: Logs) -> None:
    asked = logs.sent("request", "beta")
    logs.effect(asked, "beta")
    logs.reply(asked, "NuropbTimeoutError")
    assert logs.verdict().failures() == []


@pytest.mark.parametrize("outcome", ["TransportClosedError", "KeyError", "error: KeyError"])
def test_an_unexpected_outcome(logs: Logs, outcome: str) -> None:
    logs.reply(logs.sent("request", "beta"), outcome)
    assert found(logs) == f"1 unexpected outcomes: {CLIENT}-4 ({outcome})"


def test_not_delivered_is_for_the_service_whose_queue_is_deleted(logs: Logs) -> None:
    logs.reply(logs.sent("request", "mayfly"), "NuropbNotDeliveredError")
    assert logs.verdict().failures() == []
    logs.reply(logs.sent("request", "alpha"), "NuropbNotDeliveredError")
    assert "unexpected outcomes" in found(logs)


def test_duplicates_are_counted_and_allowed(logs: Logs) -> None:
    logs.effect(f"{CLIENT}-2", "alpha")
    assert logs.verdict().failures() == []
    assert logs.verdict().duplicates == 1


def test_a_recovery_over_its_bound(logs: Logs) -> None:
    logs.run.recovered(Kind.RESET.value, 5.1)
    assert found(logs) == "1 recoveries over their bound: TCP reset: 5.1 s, at most 5 s"


def test_a_median_over_its_bound(logs: Logs) -> None:
    for _ in range(3):
        logs.run.recovered(Kind.RESET.value, 2.1)
    assert "TCP reset: 2.1 s in the median, at most 2 s" in found(logs)


def test_what_is_left_behind_or_broken(logs: Logs) -> None:
    logs.end(keys=3)
    assert found(logs) == f"1 left behind by a client: {CLIENT}: 3 keys"
    logs.end()
    logs.run.stuck.append("TCP reset")
    assert found(logs) == "1 broken: not all worked again: TCP reset"


def test_a_stop_that_takes_too_long(logs: Logs) -> None:
    logs.end(stop=15.1)
    assert found(logs) == f"1 stops that took longer than 15 s: {CLIENT}: 15.1 s"


def test_the_table_says_which_bound_was_missed(logs: Logs) -> None:
    logs.run.recovered(Kind.FIN.value, 5.1)
    logs.run.holed.add(CLIENT)
    lines = [*table(logs.ledger, logs.run, logs.verdict())]
    (kept,) = [each for each in lines if each.startswith("TCP reset")]
    (missed,) = [each for each in lines if each.startswith("TCP FIN")]
    (holed,) = [each for each in lines if each.startswith("in a black hole")]
    assert kept.endswith("2 / 5    kept")
    assert missed.endswith("2 / 5    MISSED")
    assert holed.endswith("15       kept")
    (calls,) = [each.split() for each in lines if each.startswith("calls  ") and "20,000" in each]
    assert calls == ["calls", "3", "20,000", "not"]


# -- when a fault is over -------------------------------------------------------------------


def states(logs: Logs, program: str, *changes: tuple[float, str]) -> None:
    for at, state in changes:
        logs.ledger.feed(program, "state", {"at": at, "state": state})


def test_a_fault_is_over_when_all_who_were_hit_have_noticed_and_recovered(logs: Logs) -> None:
    programs, clients = ["alpha-1", CLIENT], [CLIENT]
    fault = Inflicted("x", since=20.0, ref=21.0, hit=frozenset({"alpha-1"}))
    states(logs, "alpha-1", (1.0, "READY"))
    states(logs, CLIENT, (1.0, "READY"))
    asked = logs.sent("request", "alpha", at=20.5)
    logs.reply(asked, "answered", at=21.5, answer=[asked, 7])
    assert fault.over(logs.ledger, programs, clients) is None  # that one was begun before
    asked = logs.sent("request", "alpha", at=21.5)
    logs.reply(asked, "answered", at=22.0, answer=[asked, 7])
    assert fault.over(logs.ledger, programs, clients) is None  # nobody has noticed
    assert fault.missing(logs.ledger, programs, clients) == [
        "alpha-1 is [(1.0, 'READY')], or has not noticed"
    ]
    states(logs, "alpha-1", (23.0, "RECOVERING"))
    assert fault.over(logs.ledger, programs, clients) is None
    states(logs, "alpha-1", (24.0, "READY"))
    assert fault.over(logs.ledger, programs, clients) == 24.0
    states(logs, CLIENT, (25.0, "RECOVERING"))
    assert fault.over(logs.ledger, programs, clients) is None


def test_a_fault_of_one_service_is_over_when_that_one_answers(logs: Logs) -> None:
    fault = Inflicted("x", since=20.0, ref=20.0, asks="mayfly")
    states(logs, CLIENT, (1.0, "READY"))
    for to, at in (("alpha", 21.0), ("mayfly", 23.0), ("mayfly", 24.0)):
        asked = logs.sent("request", to, at=at - 0.5)
        logs.reply(asked, "answered", at=at, answer=[asked, 7])
    assert fault.over(logs.ledger, [CLIENT], [CLIENT]) == 23.0


def test_two_at_once_are_over_when_both_are() -> None:
    first = Inflicted("x", 1.0, 9.0, frozenset({"a"}))
    both = first.with_another(Inflicted("y", 3.0, 4.0, frozenset({"b"}), asks="mayfly"))
    assert both == Inflicted("two at once", 1.0, 9.0, frozenset({"a", "b"}), "mayfly")


# -- logs and report ------------------------------------------------------------------------


def test_logs_are_read_as_they_grow_and_what_was_sent_comes_first(tmp_path: Path) -> None:
    journal, tail = Journal(tmp_path, CLIENT), Tail(tmp_path)
    journal.write("sent", id="1", kind="command")
    journal.write("confirmed", id="1")
    read = [(name, kind, record["id"]) for name, kind, record in tail.records()]
    assert read == [(CLIENT, "sent", "1"), (CLIENT, "confirmed", "1")]
    with (tmp_path / f"{CLIENT}.effect.log").open("ab") as file:
        file.write(b'{"at":1,"id":"half')
        file.flush()
        assert [*tail.records()] == []
        file.write(b' a line"}\n')
    assert [record["id"] for _, _, record in tail.records()] == ["half a line"]
    journal.close()


def test_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    out = io.StringIO()
    report = Report(out)
    report.progress(logs.ledger)
    assert out.getvalue() == ""
    monkeypatch.setattr(report, "told", report.told - 60)
    report.progress(logs.ledger)
    report.progress(logs.ledger)
    assert out.getvalue().endswith("3 calls: 2 confirmed, 1 answered\n")
    assert out.getvalue().count("\n") == 1
