"""Deadlines: what expires does so once, in order, and what was removed does not."""

from __future__ import annotations

import asyncio

from nuropb_rmq.deadlines import Deadlines

from .support import eventually


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
    assert not deadlines._queues
    assert not deadlines._timers


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
    assert len(deadlines._queues) <= 64
    assert len(deadlines._queues) == len(deadlines._timers)
    await eventually(lambda: expired == ["stays"])
    deadlines.clear()


async def test_many_lengths_in_use_are_kept() -> None:
    expired: list[float] = []
    deadlines = Deadlines[float](expired.append)
    lengths = [0.05 + number / 10_000 for number in range(500)]
    for length in lengths:
        deadlines.add(length, length)
    await eventually(lambda: len(expired) == 500)
    assert expired == lengths


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


async def test_what_is_near_its_deadline_is_warned_of_once() -> None:
    told: list[tuple[str, str]] = []
    deadlines = Deadlines[str](
        lambda thing: told.append(("expired", thing)),
        warn=lambda thing: told.append(("warned", thing)),
    )
    for thing in ("removed", "first", "second"):
        deadlines.add(thing, 0.1)
    deadlines.remove("removed", 0.1)
    await eventually(lambda: len(told) == 2)
    assert told == [("warned", "first"), ("warned", "second")]
    deadlines.add("third", 0.1)  # while the others are near theirs
    await eventually(lambda: len(told) == 6)
    assert told[2:] == [
        ("expired", "first"),
        ("expired", "second"),
        ("warned", "third"),
        ("expired", "third"),
    ]
    assert not deadlines._queues
    assert not deadlines._warned


async def test_each_of_many_is_warned_of_in_its_time() -> None:
    loop = asyncio.get_running_loop()
    added: dict[int, float] = {}
    waited: dict[int, float] = {}

    def warn(thing: int) -> None:
        waited[thing] = loop.time() - added[thing]

    deadlines = Deadlines[int](lambda _: None, warn=warn)
    for thing in range(20):
        added[thing] = loop.time()
        deadlines.add(thing, 0.5)
        await asyncio.sleep(0.01)
    await eventually(lambda: len(waited) == 20)
    assert list(waited) == list(range(20))
    assert all(0.4 <= each < 0.5 for each in waited.values()), waited
    deadlines.clear()
