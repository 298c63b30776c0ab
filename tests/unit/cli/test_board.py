"""The figures of `top`: reports and queues, whoever sent them."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq.cli.board import Board, Row
from nuropb_rmq.cli.who import Known


def reported(
    service: str = "orders", instance: str = "one", received: int = 0, **more: Any
) -> dict[str, Any]:
    """A report."""
    return {
        "service": service,
        "instance": instance,
        "state": "READY",
        "every": 5.0,
        "seconds": 5.0,
        "received": received,
        "handled": {"failed": received // 2},
        "handlers_active": 3,
        "handler_seconds": {"count": received, "p50": 0.01, "p99": 0.2},
        **more,
    }


def known(name: str, waiting: int = 0, dead_letters: int | None = 0) -> Known:
    """A queue."""
    return Known(
        name=name, instances=2, waiting=waiting, in_hand=1, dead_letters=dead_letters,
        type="classic",
    )  # fmt: skip


def test_rates_are_between_two_reports() -> None:
    board = Board()
    board.take_report(reported(received=100), 0)
    (row,) = board.rows(1)
    assert (row.received, row.failed, row.running) == (None, None, 3)
    board.take_report(reported(received=150), 5)
    (row,) = board.rows(6)
    assert (row.received, row.failed) == (10, 5)
    assert (row.p50, row.p99, row.state) == (0.01, 0.2, "READY")


def test_an_instance_that_began_anew_has_no_rate_yet() -> None:
    board = Board()
    board.take_report(reported(received=100), 0)
    board.take_report(reported(received=5), 5)
    (row,) = board.rows(6)
    assert row.received is None


def test_a_service_is_the_sum_of_its_instances_and_as_bad_as_the_worst() -> None:
    board = Board()
    for at, received in ((0, 0), (5, 50)):
        board.take_report(reported(received=received), at)
        board.take_report(reported(instance="two", received=2 * received, state="OUTAGE"), at)
    (row,) = board.rows(6)
    assert (row.instances, row.received, row.running, row.state) == (2, 30, 6, "OUTAGE")
    rows = board.rows(6, each=True)
    assert [(one.instance, one.received) for one in rows] == [("", 30), ("one", 10), ("two", 20)]


def test_queues_say_what_waits_also_of_services_that_do_not_report() -> None:
    board = Board()
    board.take_queues([known("billing", 7, None), known("orders", 3, 44)])
    board.take_report(reported(), 0)
    assert [(row.service, row.waiting, row.dead_letters, row.state) for row in board.rows(1)] == [
        ("billing", 7, None, "-"),
        ("orders", 3, 44, "READY"),
    ]


def test_who_does_not_report_any_more_is_silent_and_then_forgotten() -> None:
    board = Board()
    board.take_report(reported(), 0)
    assert [row.state for row in board.rows(14)] == ["READY"]
    assert [row.state for row in board.rows(16)] == ["SILENT"]
    assert board.rows(61) == []


HOSTILE: dict[str, Any] = {
    "no object": [1],
    "no names": {"service": "orders"},
    "a number for a name": {"service": 1, "instance": "x"},
    "nothing at all": None,
}


@pytest.mark.parametrize("report", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_report_is_not_taken(report: object) -> None:
    board = Board()
    assert not board.take_report(report, 0)
    assert board.rows(0) == []


def test_hostile_values_count_as_none() -> None:
    board = Board()
    for at in (0, 5):
        taken = board.take_report(
            reported()
            | {"every": "soon", "seconds": -1, "received": {"a": 1}, "handled": []}
            | {"handlers_active": True, "state": "\x1b[2J"}
            | {"handler_seconds": {"count": 1e400, "p50": "x", "p99": float("nan")}},
            at,
        )
        assert taken
    (row,) = board.rows(5)
    assert row == Row(service="orders", instances=1, state="?", running=0, in_hand=0, outbox=0)


def test_names_and_their_number_are_bounded() -> None:
    board = Board()
    board.take_report(reported(service="x" * 1000), 0)
    assert board.rows(0)[0].service == "x" * 100
    for number in range(12_000):
        board.take_report(reported(instance=str(number)), 0)
    assert len(board.instances) == 10_000
