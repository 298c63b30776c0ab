"""Expiration at the head of a queue, of messages that wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .support import Host, Taker, bodies, message

DLX: dict[str, Any] = {"x_dead_letter_exchange": "dlx"}
QUORUM: dict[str, Any] = {"x_queue_type": "quorum"}


async def test_only_the_head_expires() -> None:
    host = Host()
    queue = host.queue(**DLX)
    for body, expiration in (("a", "1"), ("b", None), ("c", "1")):
        queue.put(message(body, expiration=expiration))
    await asyncio.sleep(0.02)
    assert (host.letters, bodies(queue)) == ("a:expired", "b c")
    queue.subscribe(Taker(1))
    queue.deliver()
    queue.deliver()
    assert (host.letters, bodies(queue)) == ("a:expired c:expired", "")


@pytest.mark.parametrize(
    ("arguments", "letters"), [({"x_max_priority": 5}, ""), (QUORUM, "a:expired")]
)
async def test_behind_a_higher_priority(arguments: dict[str, Any], letters: str) -> None:
    """A classic queue looks at its very head, a quorum queue at each priority's."""
    host = Host()
    queue = host.queue(**DLX, **arguments)
    queue.put(message("a", priority=1, expiration="1"))
    queue.put(message("b", priority=5))
    await asyncio.sleep(0.02)
    assert host.letters == letters
    queue.rest()


async def test_a_head_that_was_not_the_head_expires() -> None:
    """A limit makes it the head, or a consumer that has no room for it."""
    host = Host()
    limited, taken = host.queue(x_max_length=2, **DLX), host.queue(**DLX)
    limited.put(message("a"))
    limited.put(message("b", expiration="5"))
    limited.put(message("c"))
    taken.put(message("d"))
    taken.put(message("e", expiration="5"))
    taken.subscribe(Taker(1))
    taken.deliver()
    await asyncio.sleep(0.03)
    assert host.letters == "a:maxlen b:expired e:expired"


async def test_a_shorter_life_in_front_is_noticed() -> None:
    host = Host()
    queue = host.queue(x_max_priority=5, **DLX)
    queue.put(message("a", priority=1, expiration="60000"))
    queue.put(message("b", priority=5, expiration="5"))
    await asyncio.sleep(0.03)
    assert host.letters == "b:expired"
    queue.put(message("c", priority=5))
    queue.rest()


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=str)
async def test_zero(arguments: dict[str, Any]) -> None:
    host, taker = Host(), Taker(1)
    queue = host.queue(x_message_ttl=0, **DLX, **arguments)
    queue.put(message("nobody"))
    await asyncio.sleep(0.01)
    queue.subscribe(taker)
    queue.put(message("one"))
    queue.put(message("two"))
    await asyncio.sleep(0.01)
    assert (bodies(taker.taken), host.letters) == ("one", "nobody:expired two:expired")


@pytest.mark.parametrize(
    ("ttl", "expiration", "lives"),
    [(5, "60000", False), (60_000, "5", False), (60_000, None, True)],
)
async def test_the_shorter_life_counts(ttl: int, expiration: str | None, lives: bool) -> None:
    queue = Host().queue(x_message_ttl=ttl)
    queue.put(message("a", expiration=expiration))
    await asyncio.sleep(0.03)
    assert len(queue) == lives
    queue.rest()


async def test_time_goes_on_in_the_hand_of_a_consumer() -> None:
    host, taker = Host(), Taker()
    queue = host.queue(**DLX)
    queue.subscribe(taker)
    queue.put(message("a", expiration="5"))
    await asyncio.sleep(0.01)
    taker.give(queue)
    queue.deliver()
    assert (taker.taken, host.letters) == ([], "a:expired")


def test_without_a_loop_it_expires_at_the_next_delivery() -> None:
    host, taker = Host(), Taker()
    queue = host.queue(x_message_ttl=0, **DLX)
    queue.put(message("a"))
    queue.subscribe(taker)
    queue.deliver()
    assert (taker.taken, host.letters) == ([], "a:expired")
