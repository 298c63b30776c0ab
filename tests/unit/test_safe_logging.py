"""Errors are logged by where they come from: whatever they say stays out of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuropb_rmq.safe_logging import LONGEST_FIELD, PREFIX, ServiceLog, origin, report

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


# -- fields of records ----------------------------------------------------------------------


class Asked:
    """Something that a record is about; counts how often its fields are asked for."""

    def __init__(self, **fields: object) -> None:
        self._fields = fields
        self.asked = 0

    def log_fields(self) -> dict[str, object]:
        """Return its fields."""
        self.asked += 1
        return self._fields


LOG = ServiceLog(logging.getLogger("nuropb_rmq.test"), "orders", "", connection="client")


def test_fields_of_a_record(caplog: pytest.LogCaptureFixture) -> None:
    LOG.warning("%s went", "it", about=Asked(correlation_id="c", trace_id=None), seconds=2.5)
    (record,) = caplog.records
    assert record.getMessage() == "it went"
    assert record.funcName == "test_fields_of_a_record"
    found = {name: value for name, value in vars(record).items() if name.startswith(PREFIX)}
    assert found == {
        "nuropb_service": "orders",
        "nuropb_connection": "client",
        "nuropb_correlation_id": "c",
        "nuropb_seconds": 2.5,
    }


def test_no_field_is_made_while_the_level_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nuropb_rmq")
    message = Asked(correlation_id="c")
    LOG.debug("nothing", about=message)
    report(LOG, logging.DEBUG, caught(), "nothing", about=message)
    assert (message.asked, caplog.records) == (0, [])


def test_a_report_has_fields(caplog: pytest.LogCaptureFixture) -> None:
    report(LOG, logging.ERROR, caught(), "it failed", about=Asked(correlation_id="c"))
    (record,) = caplog.records
    assert record.funcName == "test_a_report_has_fields"
    assert vars(record)["nuropb_correlation_id"] == "c"
    assert SECRET not in str(vars(record))


def test_no_name_can_be_one_of_a_record_itself(caplog: pytest.LogCaptureFixture) -> None:
    """`extra` raises KeyError for those."""
    names = ("name", "msg", "args", "module", "message", "asctime", "levelname", "thread")
    LOG.warning("x", about=Asked(**dict.fromkeys(names, "their own")))
    assert all(vars(caplog.records[0])[PREFIX + name] == "their own" for name in names)


@settings(max_examples=200)
@given(st.text(st.characters(), max_size=600))
def test_texts_are_short_and_printable(text: str) -> None:
    _, arguments = LOG.process("x", {"about": Asked(topic=text)})
    told = arguments["extra"].get("nuropb_topic", "")
    assert told.isprintable()
    assert len(told) <= 10 * LONGEST_FIELD + 1
    if text.isprintable() and len(text) <= LONGEST_FIELD:
        assert told == text


def test_another_logger_with_the_same_fields(caplog: pytest.LogCaptureFixture) -> None:
    LOG.onto(logging.getLogger("nuropb_rmq.other")).warning("x")
    (record,) = caplog.records
    assert (record.name, vars(record)["nuropb_service"]) == ("nuropb_rmq.other", "orders")
