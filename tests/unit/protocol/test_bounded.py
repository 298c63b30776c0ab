"""Remember up to a number of things."""

from __future__ import annotations

from nuropb_rmq.protocol.bounded import Bounded


def test_the_one_that_was_used_longest_ago_is_forgotten() -> None:
    made: Bounded[str, int] = Bounded(2)
    made.put("a", 1)
    made.put("b", 2)
    assert list(made) == ["a", "b"]
    assert made.use("a") == 1
    made.put("c", 3)
    assert dict(made) == {"a": 1, "c": 3}
    made.put("a", 4)
    made.put("d", 5)
    assert dict(made) == {"a": 4, "d": 5}


def test_what_is_not_there_is_none_and_changes_nothing() -> None:
    made: Bounded[str, int] = Bounded(1)
    made.put("a", 1)
    assert made.use("b") is None
    assert dict(made) == {"a": 1}
