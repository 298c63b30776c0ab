"""The recorder: whatever names peers invent, it keeps a bounded number."""

from __future__ import annotations

from itertools import count
from time import monotonic
from typing import Any

import pytest

from nuropb_rmq import Mesh, NuropbTimeoutError, Outcome
from nuropb_rmq.protocol.constants import MessageType
from nuropb_rmq.telemetry.names import MOST, OTHER
from nuropb_rmq.telemetry.recorder import MOST_ERRORS, Handled, Recorder, recording_of

HOSTILE = ("\ud800", "x" * 10_000, "a\nb", "\x00", "", OTHER, '"} 1\nfake 1')
REQUEST, COMMAND, EVENT = MessageType.REQUEST, MessageType.COMMAND, MessageType.EVENT


def call(method: str = "get", service: str = "orders") -> dict[str, Any]:
    """The payload of a request."""
    return {"service": service, "method": method}


def ago(seconds: float) -> float:
    """So many seconds ago."""
    return monotonic() - seconds


def handled(recorder: Recorder) -> dict[tuple[MessageType, str], Handled]:
    """All that was handled, by type and name."""
    return {
        (kind, name): found
        for kind, by_name in recorder.handled_by.items()
        for name, found in by_name.items()
    }


def test_published_methods_are_known_from_the_start() -> None:
    recorder = Recorder(["get", "put"])
    for method in ("get", "drop", "get"):
        recorder.handled(REQUEST, {"method": method}, Outcome.FAILED, ago(0.2))
    recorder.handled(COMMAND, {"method": "get"}, Outcome.DONE, ago(0.1))
    got = {key: found.outcomes[Outcome.FAILED] for key, found in handled(recorder).items()}
    assert got == {(REQUEST, "get"): 2, (REQUEST, OTHER): 1, (COMMAND, "get"): 0}
    assert recorder.handled_by[REQUEST]["get"].read().total == pytest.approx(0.4, abs=0.1)


def test_other_methods_are_admitted_by_a_success() -> None:
    recorder = Recorder()
    for outcome in (Outcome.FAILED, Outcome.RETRY, Outcome.DONE, Outcome.FAILED):
        recorder.handled(REQUEST, {"method": "get"}, outcome, ago(0.0))
    assert {key[1]: sum(found.outcomes.values()) for key, found in handled(recorder).items()} == {
        OTHER: 2,
        "get": 2,
    }


def test_events_are_told_apart_by_their_bindings() -> None:
    recorder = Recorder(bindings=["orders.*", "#.paid"])
    for topic in ("orders.1", "orders.2", "a.b.paid", "orders.paid", "elsewhere", "\ud800"):
        recorder.handled(EVENT, {"topic": topic}, Outcome.DONE, ago(0.0))
    counts = {name: found.outcomes[Outcome.DONE] for (_, name), found in handled(recorder).items()}
    assert counts == {"orders.*": 3, "#.paid": 1, OTHER: 2}


def test_requests_by_service_method_and_error() -> None:
    recorder = Recorder()
    for error in ("LookupError", None, "LookupError", None):
        recorder.request_ended(call(), error, ago(0.3))
    other, known = recorder.requests[OTHER], recorder.requests["orders/get"]
    assert (other.service, other.method, other.errors) == (OTHER, OTHER, {"LookupError": 1})
    assert (known.service, known.method, known.errors) == (
        *("orders", "get"),
        {"LookupError": 1},
    )
    assert (known.results, other.results, known.read().count) == (2, 0, 3)


def test_publishes() -> None:
    recorder = Recorder()
    recorder.published[REQUEST].confirmed(monotonic(), None)
    recorder.published[REQUEST].confirmed(monotonic(), NuropbTimeoutError("late"))
    published = recorder.published[REQUEST]
    assert published.read().count == 1
    assert published.errors == {"NuropbTimeoutError": 1}


def test_hostile_names_have_a_bound() -> None:
    numbers = count()
    recorder = Recorder(["get"], ["orders.*"])
    for name in (*HOSTILE, *(f"m{next(numbers)}" for _ in range(MOST * 3))):
        for outcome in Outcome:
            recorder.handled(REQUEST, {"method": name}, outcome, ago(0.0))
            recorder.handled(COMMAND, {"method": name}, outcome, ago(0.0))
            recorder.handled(EVENT, {"topic": name}, outcome, ago(0.0))
        for error in (None, name, f"E{next(numbers)}"):
            recorder.request_ended(call(name, f"service{name}"), error, ago(0.0))
    for number in range(MOST_ERRORS * 3):
        recorder.request_ended(call("m1", "servicem1"), f"E{number}", ago(0.0))
    kinds = [kind for kind, _ in handled(recorder)]
    assert kinds.count(REQUEST) <= MOST + 1
    assert kinds.count(COMMAND) <= MOST + 1
    assert kinds.count(EVENT) == 1
    assert len(recorder.requests) == MOST + 1
    assert max(len(each.errors) for each in recorder.requests.values()) == MOST_ERRORS + 1
    names = {name for _, name in handled(recorder)} | set(recorder.requests)
    names |= {error for each in recorder.requests.values() for error in each.errors}
    assert not any(len(name) > 300 for name in names)
    "".join(names).encode()  # or one name would keep all metrics from being read
    assert all(name.isprintable() for name in names)


def test_who_ends_its_use_twice_ends_that_of_nobody_else() -> None:
    transport = Mesh("memory://recorder").transport
    recorder, end = recording_of(transport)
    shared, other_end = recording_of(transport)
    assert shared is recorder
    end()
    end()
    again, _ = recording_of(transport)
    assert again is recorder, "it still records for the second one"
    other_end()
    other_end()
    assert recording_of(transport)[0] is recorder, "and for the third one"
