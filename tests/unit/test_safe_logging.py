"""Errors are logged by where they come from: whatever they say stays out of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from nuropb_rmq.safe_logging import origin, report

SECRET = "attack at dawn"


class OddError(Exception):
    """Of a program's own."""


def fails(text: str) -> None:
    raise OddError(text)


def fails_in_turn() -> None:
    try:
        fails(SECRET)
    except OddError as error:
        raise LookupError(SECRET) from error


def caught(function: Callable[[], None] = fails_in_turn) -> Exception:
    try:
        function()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("nothing was raised")


def test_classes_and_stacks_in_the_order_of_what_happened() -> None:
    text = origin(caught())
    assert SECRET not in text
    assert text.endswith("\nLookupError")
    assert f"\n{__name__}.OddError\n\n" in text
    for place in ("in fails\n", "in fails_in_turn\n", "test_safe_logging.py"):
        assert place in text
    assert text.index("in fails\n") < text.index("OddError\n\n") < text.rindex("in fails_in_turn\n")


def test_a_cause_that_is_suppressed_is_left_out() -> None:
    def hides() -> None:
        try:
            fails(SECRET)
        except OddError:
            raise LookupError(SECRET) from None

    assert "OddError" not in origin(caught(hides)).replace("except OddError", "")


def test_a_circle_ends() -> None:
    first, second = OddError("a"), OddError("b")
    first.__cause__, second.__cause__ = second, first
    assert origin(first).count("OddError") == 2


def test_members_of_a_group() -> None:
    group = ExceptionGroup(SECRET, [caught(), OSError(SECRET)])
    text = origin(group)
    assert SECRET not in text
    assert text.startswith("ExceptionGroup, of:\n")
    assert "\n    LookupError, of:\n    OSError" in text


def test_a_deep_stack_is_short() -> None:
    def deeper() -> None:
        deeper()

    error = caught(deeper)
    assert isinstance(error, RecursionError)
    assert len(origin(error).splitlines()) < 40


def test_a_text_that_cannot_be_had_is_not_asked_for() -> None:
    class Unspeakable(Exception):  # noqa: N818 - what it is
        def __str__(self) -> str:
            raise AssertionError("it was asked")

        __repr__ = __str__

    assert origin(Unspeakable()).endswith("Unspeakable")


def test_a_record_holds_text_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests.origins")
    with caplog.at_level(logging.INFO, "tests.origins"):
        report(logger, logging.DEBUG, caught(), "not told")
        report(logger, logging.WARNING, caught(), "of %s", "it")
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage().startswith("of it\n")
    assert record.funcName == "test_a_record_holds_text_and_nothing_else"
    assert isinstance(record.args, tuple)
    assert all(isinstance(each, str) for each in record.args)
