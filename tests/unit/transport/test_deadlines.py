"""Deadlines: what expires does so once, in order, and what was removed does not."""

from __future__ import annotations

import asyncio

from nuropb_rmq.transport.deadlines import Deadlines

from ...seams import lengths
from ...support import eventually


async def test_what_is_due_expires_once_and_in_order() -> None:
    expired: list[str] = []
    deadlines = Deadlines[str](expired.append)
    deadlines.add("second", 0.05)
    deadlines.add("removed", 0.02)
    deadlines.add("first", 0.02)
    deadlines.add("third", 0.05)
    deadlines.remove("removed", 0.02)
    deadlines.remove("never added", 9.0)
    await eventually(lambda: len(expired) == 3)
    assert expired == ["first", "second", "third"]
    assert lengths(deadlines) == (0, 0)


async def test_what_expires_may_add_and_remove() -> None:
    expired: list[str] = []

    def expire(thing: str) -> None:
        expired.append(thing)
        deadlines.remove(thing, 0.01)
        if thing == "a":
            deadlines.add("b", 0.01)

    deadlines = Deadlines[str](expire)
    deadlines.add("a", 0.01)
    await eventually(lambda: expired == ["a", "b"])


async def test_lengths_that_nobody_waits_for_are_forgotten() -> None:
    expired: list[str] = []
    deadlines = Deadlines[str](expired.append)
    deadlines.add("stays", 0.2)
    for number in range(10_000):  # computed timeouts are all different
        deadlines.add("passes", 100 + number)
        deadlines.remove("passes", 100 + number)
    queues, timers = lengths(deadlines)
    assert queues <= 64
    assert queues == timers
    await eventually(lambda: expired == ["stays"])
    deadlines.clear()


async def test_many_lengths_in_use_are_kept() -> None:
    expired: list[float] = []
    deadlines = Deadlines[float](expired.append)
    lengths = [0.05 + number / 10_000 for number in range(500)]
    for length in lengths:
        deadlines.add(length, length)
    await eventually(lambda: len(expired) == 500)
    # Each length has its own timer: two that are due within a loop's turn may change places.
    assert sorted(expired) == lengths


async def test_what_expires_may_clear_all() -> None:
    expired: list[str] = []

    def expire(thing: str) -> None:
        expired.append(thing)
        deadlines.clear()
        deadlines.add("after", 0.01)

    deadlines = Deadlines[str](expire)
    deadlines.add("a", 0.01)
    deadlines.add("b", 0.01)
    await eventually(lambda: len(expired) >= 2)
    assert expired[:2] == ["a", "after"]
    deadlines.clear()


async def test_what_expires_may_make_its_own_length_forgotten() -> None:
    expired: list[float] = []

    def expire(thing: float) -> None:
        expired.append(thing)
        if thing == 0.01:
            for number in range(200):
                deadlines.add(number, 100.0 + number)
                deadlines.remove(number, 100.0 + number)
            deadlines.add(0.0, 0.01)

    deadlines = Deadlines[float](expire)
    deadlines.add(0.01, 0.01)
    await eventually(lambda: expired == [0.01, 0.0])
    deadlines.clear()


async def test_what_fails_to_expire_holds_up_nothing_else() -> None:
    expired: list[str] = []
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))

    def expire(thing: str) -> None:
        expired.append(thing)
        if thing == "first":
            raise LookupError

    deadlines = Deadlines[str](expire)
    for thing in ("first", "second", "third"):
        deadlines.add(thing, 0.01)
    await eventually(lambda: expired == ["first", "second", "third"])
    assert len(complaints) == 1
    complaints.clear()
    assert lengths(deadlines) == (0, 0)


async def test_what_expires_may_take_out_what_is_due_as_well() -> None:
    expired: list[str] = []

    def expire(thing: str) -> None:
        expired.append(thing)
        deadlines.remove("second", 0.01)

    deadlines = Deadlines[str](expire)
    for thing in ("first", "second", "third"):
        deadlines.add(thing, 0.01)
    await eventually(lambda: lengths(deadlines) == (0, 0))
    assert expired == ["first", "third"]
