"""Contexts that are made the current ones, one within another."""

from __future__ import annotations

from opentelemetry.context import Context, get_current

from nuropb_rmq.telemetry.guard import Guard
from nuropb_rmq.telemetry.scopes import Passing
from nuropb_rmq.transport.tracing import current


def test_a_span_may_be_entered_within_itself() -> None:
    """An answer that cannot be sent is noted at once, while its message is being concluded."""
    before, guard = get_current(), Guard()
    span = Passing(Context({"message": 1}), guard)
    with current(span):
        with current(span):
            assert get_current() == {"message": 1}
        assert get_current() == {"message": 1}
    assert get_current() == before
    assert guard.failures == {}


def test_leaving_what_was_not_entered_does_nothing() -> None:
    before, guard = get_current(), Guard()
    Passing(Context({"message": 1}), guard).leave()
    assert get_current() == before
    assert guard.failures == {}
