"""Reading a dead letter, whoever wrote it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pamqp import encode

from nuropb_rmq import DeadLetter, DeadLetterFilter, NuropbConfigurationError, NuropbValidationError
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Content, Properties
from nuropb_rmq.dead_letters.groups import MOST, Grouping
from nuropb_rmq.dead_letters.letter import read_letter

from ..amqp.strategies import PROPERTIES, TABLES

QUEUE = "nuropb-orders-sq"
DLX = frames.shortstr("nuropb-dl-exchange") + frames.shortstr("orders")
COPY: dict[str, Any] = {"nuropb_dead_letter_of": QUEUE}


def letter(headers: dict[str, Any], body: bytes = b"{}", **properties: Any) -> DeadLetter:
    """A letter with these headers."""
    table = encode.field_table(headers)[4:]
    raw = frames.encode_properties(Properties(headers=table, **properties))
    return read_letter(Content(1, False, DLX, 0, "", raw, len(body), body), QUEUE)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(TABLES, PROPERTIES)
def test_it_never_raises(table: tuple[bytes, dict[str, Any]], properties: dict[str, Any]) -> None:
    raw = frames.encode_properties(Properties(**{**properties, "headers": table[0]}))
    for damaged in (raw, raw[:-1], raw + b"\x00", b"\x20\x00\x00\x00\x00\x09x", b""):
        read = read_letter(Content(1, False, DLX, 0, "", damaged, 0, b""), QUEUE)
        assert (read.method, read.topic) == (None, None)
        assert read.problem is None or not read.own


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-02T03:04:05+00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T05:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None), ("yesterday", None), (7, None), (None, None),
    ],
)  # fmt: skip
def test_the_time_of_a_failure(value: object, expected: datetime | None) -> None:
    assert letter({**COPY, "nuropb_failed_at": value}).failed_at == expected
    assert letter({**COPY, "nuropb_first_failed_at": value}).first_failed_at == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3), (0, 0), (-1, None), (True, None), ("3", None), (None, None)]
)
def test_the_number_of_attempts(value: object, expected: int | None) -> None:
    assert letter({**COPY, "nuropb_attempts": value}).attempts == expected


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("order 17 is not known", "order # is not known"),
        ("no user 0fca-17b2: timeout after 3.5 s", "no user #: timeout after #.# s"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_the_shape_of_a_text(text: str, shape: str) -> None:
    assert letter({**COPY, "nuropb_error_text": text}).shape == shape


def test_the_shape_of_a_long_text_is_short() -> None:
    shape = letter({**COPY, "nuropb_error_text": "x" * 5000}).shape
    assert shape is not None
    assert len(shape) <= 201


def test_where_a_letter_first_came_from() -> None:
    death = {"queue": QUEUE, "reason": "rejected", "exchange": "e", "routing-keys": ["k"]}
    first = {"x-first-death-queue": QUEUE}
    assert letter({"x-death": [death], **first}).exchange == "e"
    put_back = {**death, "exchange": "", "routing-keys": [QUEUE]}
    again = {"nuropb_ca_exchange": "e2", "nuropb_ca_routing_key": "k2"}
    read = letter({"x-death": [put_back], **first, **again})
    assert (read.exchange, read.routing_key) == ("e2", "k2")
    read = letter({"x-death": [put_back], **first})
    assert (read.exchange, read.routing_key) == ("", "")
    told = {"nuropb_original_exchange": "e3", "nuropb_original_routing_key": "k3"}
    read = letter({**COPY, **told})
    assert (read.exchange, read.routing_key) == ("e3", "k3")
    read = letter({"x-death": [put_back], **first, **COPY, **told})
    # It came back by the default exchange: a retry has written them.
    assert (read.exchange, read.routing_key) == ("e3", "k3")


def test_groups_have_a_bound() -> None:
    grouping = Grouping()
    for number in range(MOST + 50):
        grouping.add(letter({**COPY, "nuropb_error": f"Error{number}"}))
    groups = grouping.largest_first()
    assert len(groups) == MOST + 1
    assert (groups[0].count, groups[0].error, groups[0].own) == (50, None, False)


def test_wrong_filters() -> None:
    for wrong in ({"error": 1}, {"own": "yes"}, {"type": "dance"}, {"type": 1}, {"topic": b"x"}):
        ((field, value),) = wrong.items()
        with pytest.raises(NuropbConfigurationError, match=f"^{field}: must be"):
            DeadLetterFilter(**{field: value})  # type: ignore[arg-type]
    for name in ("older_than", "younger_than"):
        DeadLetterFilter(**{name: 10 * 366 * 86_400})  # type: ignore[arg-type]
        for wrong_age in (0, -1, True, "1", float("nan"), float("inf"), 10**400):
            with pytest.raises(NuropbValidationError, match=f"^{name}: expected"):
                DeadLetterFilter(**{name: wrong_age})  # type: ignore[arg-type]
