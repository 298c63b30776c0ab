"""Expirations and priorities as they are read, and x-death as it is counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pamqp import encode

from nuropb_rmq.amqp import frames
from nuropb_rmq.memory.errors import ChannelError
from nuropb_rmq.memory.message import LONGEST_LIFE, Death, Stored, died

from .support import message

OTHERS: list[dict[str, Any]] = [
    {},
    {"content_type": "application/json"},
    {"content_encoding": "utf-8", "headers": encode.field_table({"a": "b"})[4:]},
    {"content_type": "", "delivery_mode": 2, "correlation_id": "c" * 255, "reply_to": "r"},
    {"headers": b"", "message_id": "m", "timestamp": 1, "type": "t", "app_id": "a"},
]


@pytest.mark.parametrize("others", OTHERS, ids=len)
@pytest.mark.parametrize("priority", [None, 0, 255])
@pytest.mark.parametrize("expiration", [None, "0", "60000", "+7"])
def test_expiration_and_priority(
    others: dict[str, Any], priority: int | None, expiration: str | None
) -> None:
    read = message(priority=priority, expiration=expiration, **others)
    assert read.priority == priority
    assert read.life == (None if expiration is None else int(expiration))


@pytest.mark.parametrize(
    ("expiration", "problem"),
    [
        ("", "no_integer"), ("abc", "no_integer"), (" 1", "no_integer"), ("²", "no_integer"),
        ("-1", "{value_negative,-1}"), ("1.5", '{leftover_string,".5"}'),
        ("1 ", '{leftover_string," "}'), (f"{LONGEST_LIFE + 1}", "{value_too_large,315360000001}"),
        (f"+{LONGEST_LIFE + 1}", "{value_too_large,315360000001}"),
    ],
)  # fmt: skip
def test_an_expiration_that_is_none(expiration: str, problem: str) -> None:
    with pytest.raises(ChannelError) as raised:
        message(expiration=expiration)
    assert raised.value.code == 406
    assert raised.value.text == (
        f"PRECONDITION_FAILED - invalid expiration '{expiration}': {problem}"
    )


def test_the_longest_life() -> None:
    assert message(expiration=f"{LONGEST_LIFE}").life == LONGEST_LIFE


def headers_of(letter: Stored) -> dict[str, Any]:
    """The headers of a dead letter."""
    return frames.decode_table(frames.decode_properties(letter.properties).headers or b"")


def through(*deaths: tuple[str, Death]) -> Stored:
    """A message that queues gave up, one after the other."""
    letter = message("a", key="k", exchange="e")
    for queue, why in deaths:
        letter = died(letter, queue, why, "dlx", None)
    return letter


def test_a_death() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    letter = died(
        message("a", key="k", exchange="e", expiration="9", priority=3, correlation_id="c"),
        "q", Death.EXPIRED, "dlx", "dead",
    )  # fmt: skip
    headers = headers_of(letter)
    (death,) = headers.pop("x-death")
    assert before <= death.pop("time") <= before + timedelta(seconds=5)
    assert death == {
        "count": 1, "reason": "expired", "queue": "q", "exchange": "e", "routing-keys": ["k"],
        "original-expiration": "9",
    }  # fmt: skip
    assert headers == {
        f"x-{which}-death-{name}": value
        for which in ("first", "last")
        for name, value in (("queue", "q"), ("reason", "expired"), ("exchange", "e"))
    }
    properties = frames.decode_properties(letter.properties)
    assert (properties.expiration, properties.priority, properties.correlation_id) == (None, 3, "c")
    assert letter.route == b"\x03dlx\x04dead"
    assert (letter.routing_key, letter.life, letter.priority) == ("dead", None, 3)


def test_deaths_are_counted_by_queue_and_reason() -> None:
    letter = through(
        ("work", Death.REJECTED), ("wait", Death.EXPIRED), ("work", Death.REJECTED),
        ("wait", Death.EXPIRED), ("work", Death.EXPIRED),
    )  # fmt: skip
    headers = headers_of(letter)
    assert [(each["queue"], each["reason"], each["count"]) for each in headers["x-death"]] == [
        ("work", "expired", 1), ("wait", "expired", 2), ("work", "rejected", 2),
    ]  # fmt: skip
    assert (headers["x-first-death-reason"], headers["x-last-death-reason"]) == (
        "rejected", "expired",
    )  # fmt: skip


def test_what_a_client_says_of_deaths_counts_for_nothing() -> None:
    own: dict[str, Any] = {"x-death": [{"queue": "q", "reason": "rejected", "count": 7}], "own": 1}
    sent = message("a", headers=encode.field_table(own)[4:])
    headers = headers_of(died(sent, "q", Death.REJECTED, "dlx", None))
    assert ([each["count"] for each in headers["x-death"]], headers["own"]) == ([1], 1)


def test_what_has_died_before_is_not_changed() -> None:
    first = through(("q", Death.REJECTED))
    before = headers_of(first)
    died(first, "q", Death.REJECTED, "dlx", None)
    assert headers_of(first) == before
    assert first.deaths[0]["count"] == 1


R, E, M = Death.REJECTED, Death.EXPIRED, Death.MAXLEN


@pytest.mark.parametrize(
    ("deaths", "queue", "cycles"),
    [
        ([("a", E)], "a", True), ([("a", E)], "b", False), ([("a", R)], "a", False),
        ([("a", E), ("b", E)], "a", True), ([("a", E), ("b", M)], "b", True),
        ([("a", R), ("b", E)], "a", False), ([("a", E), ("b", R)], "a", False),
        ([("a", R), ("b", E)], "b", True), ([("c", R), ("a", E), ("b", E)], "a", True),
    ],
)  # fmt: skip
def test_cycles(deaths: list[tuple[str, Death]], queue: str, cycles: bool) -> None:
    assert through(*deaths).would_cycle(queue) is cycles
