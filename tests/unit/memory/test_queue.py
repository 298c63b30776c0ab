"""The order of a queue, what it refuses and gives up, and whom it delivers to."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq.amqp import frames
from nuropb_rmq.memory.message import Stored
from nuropb_rmq.memory.queue import StoredQueue

from .support import Host, Taker, bodies, message

DLX: dict[str, Any] = {"x_dead_letter_exchange": "dlx"}
QUORUM: dict[str, Any] = {"x_queue_type": "quorum"}


def filled(queue: StoredQueue, *entries: tuple[str, int | None]) -> StoredQueue:
    """Put messages of these bodies and priorities."""
    for body, priority in entries:
        queue.put(message(body, priority=priority))
    return queue


def plain(queue: StoredQueue, texts: str) -> StoredQueue:
    """Put messages of these bodies."""
    return filled(queue, *((text, None) for text in texts.split()))


# -- order ------------------------------------------------------------------------------------

ORDER = (("a", None), ("b", 1), ("c", 4), ("d", 9), ("e", 5), ("f", 0), ("g", 40))


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ({}, "a b c d e f g"),
        ({"x_max_priority": 0}, "a b c d e f g"),
        ({"x_max_priority": 1}, "b c d e g a f"),
        ({"x_max_priority": 5}, "d e g c b a f"),
        (QUORUM, "g d e a c b f"),
    ],
    ids=str,
)
def test_priorities(arguments: dict[str, Any], order: str) -> None:
    queue = filled(Host().queue(**arguments), *ORDER)
    assert bodies(queue) == order
    taker = Taker()
    queue.subscribe(taker)
    queue.deliver()
    assert bodies(taker.taken) == order
    assert len(queue) == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_comes_back_stands_where_it_stood(count: int) -> None:
    queue, taker = plain(Host().queue(), "a b c d e"), Taker(3)
    queue.subscribe(taker)
    queue.deliver()
    taker.give(queue, count)
    assert bodies(queue) == " ".join("abc"[:count]) + " d e"
    assert [each.redelivered for each in queue] == [True] * count + [False] * 2


def test_what_comes_back_in_another_order() -> None:
    queue, taker = plain(Host().queue(), "a b c d"), Taker(3)
    queue.subscribe(taker)
    queue.deliver()
    for each in reversed(taker.taken):
        queue.give_back([each], counts=False)
    assert bodies(queue) == "a b c d"


def test_what_comes_back_keeps_its_priority() -> None:
    queue = filled(Host().queue(x_max_priority=5), ("a", 1), ("b", 4), ("c", 4))
    taker = Taker(2)
    queue.subscribe(taker)
    queue.deliver()
    taker.give(queue, 2)
    filled(queue, ("d", 2), ("e", 5))
    assert bodies(queue) == "e b c d a"


def test_what_comes_back_to_a_quorum_queue_is_first_in_the_order_of_its_return() -> None:
    queue, taker = filled(Host().queue(**QUORUM), ("a", 0), ("b", 0), ("c", 0)), Taker(2)
    queue.subscribe(taker)
    queue.deliver()
    filled(queue, ("d", 9))
    for each in reversed(taker.taken):
        queue.give_back([each], counts=False)
    assert bodies(queue) == "b a d c"


# -- limits -----------------------------------------------------------------------------------


def admitted(queue: StoredQueue, texts: str) -> str:
    """Publish as a channel does; y and n for taken and refused."""
    said = ""
    for text in texts.split():
        each = message(text)
        said += "y" if queue.admits(each) else "n"
        if said[-1] == "y":
            queue.put(each)
    return said


@pytest.mark.parametrize(
    ("arguments", "texts", "said", "left", "letters"),
    [
        ({"x_max_length": 2}, "a b c", "yyy", "b c", "a:maxlen"),
        ({"x_max_length": 0}, "a b", "yy", "", "a:maxlen b:maxlen"),
        ({"x_max_length_bytes": 4}, "aa bb cc", "yyy", "bb cc", "aa:maxlen"),
        ({"x_max_length_bytes": 1}, "aa", "y", "", "aa:maxlen"),
        ({"x_max_length": 2, "x_max_length_bytes": 3}, "aa b c", "yyy", "b c", "aa:maxlen"),
        ({"x_max_length": 2, "x_overflow": "reject-publish"}, "a b c", "yyn", "a b", ""),
        ({"x_max_length_bytes": 3, "x_overflow": "reject-publish"}, "aa bb c", "yny", "aa c", ""),
        (
            {"x_max_length": 1, "x_overflow": "reject-publish-dlx"}, "a b c", "ynn", "a",
            "b:maxlen c:maxlen",
        ),
        ({"x_max_length": 2, **QUORUM}, "a b c", "yyy", "b c", "a:maxlen"),
        ({"x_max_length": 1, "x_overflow": "reject-publish", **QUORUM}, "a b c", "yyn", "a b", ""),
        ({"x_overflow": "reject-publish"}, "a b c", "yyy", "a b c", ""),
    ],
    ids=str,
)  # fmt: skip
def test_limits(arguments: dict[str, Any], texts: str, said: str, left: str, letters: str) -> None:
    host = Host()
    queue = host.queue(**DLX, **arguments)
    assert admitted(queue, texts) == said
    assert bodies(queue) == left
    assert host.letters == letters


def test_a_limit_drops_the_highest_priority_first() -> None:
    host = Host()
    queue = filled(
        host.queue(x_max_priority=5, x_max_length=2, **DLX), ("a", 4), ("b", 1), ("c", 2)
    )
    assert (bodies(queue), host.letters) == ("c b", "a:maxlen")


def test_a_limit_counts_what_waits() -> None:
    host = Host()
    queue, taker = host.queue(x_max_length=2, **DLX), Taker(2)
    queue.subscribe(taker)
    plain(queue, "a b c d")
    assert (bodies(taker.taken), bodies(queue), host.letters) == ("a b", "c d", "")
    taker.give(queue, 1)
    assert (bodies(queue), host.letters) == ("c d", "a:maxlen")


@pytest.mark.parametrize(
    ("limit", "returns", "letters"),
    [(None, 20, ""), (None, 21, "a:delivery_limit"), (0, 1, "a:delivery_limit"), (2, 2, ""),
     (2, 3, "a:delivery_limit"), (-1, 50, "")],
)  # fmt: skip
def test_the_delivery_limit(limit: int | None, returns: int, letters: str) -> None:
    host, taker = Host(), Taker()
    known: dict[str, Any] = {} if limit is None else {"x_delivery_limit": limit}
    queue = plain(host.queue(**QUORUM, **DLX, **known), "a")
    queue.subscribe(taker)
    for _ in range(returns):
        queue.deliver()
        taker.give(queue)
    assert (host.letters, len(queue)) == (letters, 0 if letters else 1)


def test_what_counts_against_it() -> None:
    queue, taker = plain(Host().queue(**QUORUM), "a"), Taker()
    queue.subscribe(taker)
    for counts in (False, True, False):
        queue.deliver()
        taker.give(queue, counts=counts)
    (back,) = queue
    properties = frames.decode_properties(queue.content(back, 1).raw_properties)
    headers = frames.decode_table(properties.headers or b"")
    assert headers == {"x-acquired-count": 3, "x-delivery-count": 1}


def test_a_classic_queue_counts_nothing() -> None:
    queue, taker = plain(Host().queue(), "a"), Taker()
    queue.subscribe(taker)
    for _ in range(30):
        queue.deliver()
        taker.give(queue)
    (back,) = queue
    content = queue.content(back, 1)
    assert (content.redelivered, content.raw_properties) == (True, message("a").properties)


# -- consumers --------------------------------------------------------------------------------


def test_they_take_turns() -> None:
    queue, takers = Host().queue(), [Taker(), Taker(), Taker()]
    for taker in takers:
        queue.subscribe(taker)
    plain(queue, "0 1 2 3 4 5 6")
    assert [bodies(each.taken) for each in takers] == ["0 3 6", "1 4", "2 5"]


def test_one_without_room_is_passed_over() -> None:
    queue, narrow, wide = Host().queue(), Taker(1), Taker()
    queue.subscribe(narrow)
    queue.subscribe(wide)
    plain(queue, "0 1 2 3")
    assert (bodies(narrow.taken), bodies(wide.taken)) == ("0", "1 2 3")
    narrow.taken.clear()
    queue.has_room(narrow)
    plain(queue, "4 5 6")
    assert (bodies(narrow.taken), bodies(wide.taken)) == ("5", "1 2 3 4 6")


def test_nobody_has_room() -> None:
    queue, taker = Host().queue(), Taker(1)
    queue.subscribe(taker)
    plain(queue, "0 1 2")
    assert (bodies(taker.taken), bodies(queue)) == ("0", "1 2")
    taker.taken.clear()
    queue.deliver()
    assert (bodies(taker.taken), bodies(queue)) == ("1", "2")


def test_one_is_active() -> None:
    queue, takers = Host().queue(x_single_active_consumer=True), [Taker(2), Taker(), Taker()]
    for taker in takers:
        queue.subscribe(taker)
    plain(queue, "0 1 2")
    assert [bodies(each.taken) for each in takers] == ["0 1", "", ""]
    queue.has_room(takers[0])
    queue.unsubscribe(takers[0])
    queue.deliver()
    assert [bodies(each.taken) for each in takers] == ["0 1", "2", ""]
    assert queue.consumers == 2


@pytest.mark.parametrize("auto_delete", [True, False])
def test_its_last_consumer_goes(auto_delete: bool) -> None:
    host = Host()
    queue, takers = host.queue(auto_delete=auto_delete), [Taker(), Taker()]
    for taker in takers:
        queue.subscribe(taker)
    queue.unsubscribe(takers[0])
    assert host.deleted == []
    queue.unsubscribe(takers[1])
    assert host.deleted == (["q"] if auto_delete else [])


async def test_its_end() -> None:
    host, taker = Host(), Taker(1)
    queue = host.queue(x_message_ttl=60_000, **DLX, **QUORUM, x_delivery_limit=0)
    queue.subscribe(taker)
    plain(queue, "a b")
    queue.end()
    assert taker.gone
    taker.give(queue)
    queue.reject(message("c"))
    queue.deliver()
    assert (len(queue), queue.consumers, host.buried) == (0, 0, [])


def test_purge() -> None:
    queue = filled(Host().queue(x_max_priority=2), ("a", 0), ("b", 2))
    assert (queue.purge(), queue.purge(), bodies(queue)) == (2, 0, "")


# -- dead letters -----------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "expected"), [(None, "q"), ("dead", "dead"), ("", "")])
def test_the_routing_key_of_a_dead_letter(key: str | None, expected: str) -> None:
    host = Host()
    known: dict[str, Any] = {} if key is None else {"x_dead_letter_routing_key": key}
    host.queue(**DLX, **known).reject(message("a"))
    ((exchange, letter, _),) = host.buried
    assert (exchange, letter.routing_key) == ("dlx", expected)


def test_without_an_exchange_there_are_no_dead_letters() -> None:
    host = Host()
    host.queue().reject(message("a"))
    assert host.buried == []


@pytest.mark.parametrize("waits", [True, False])
def test_the_mark_of_a_letter_that_was_delivered_again(waits: bool) -> None:
    """RabbitMQ 4.3 keeps it on a dead letter that waits, and drops it where nothing waits."""
    host, taker = Host(), Taker()
    queue = plain(host.queue(), "a")
    (again,) = queue
    again.redelivered = True
    if not waits:
        queue.purge()
        queue.subscribe(taker)
        queue.put(again)
    else:
        queue.subscribe(taker)
        queue.deliver()
    assert [each.redelivered for each in taker.taken] == [waits]


def test_copies_are_apart() -> None:
    first = message("a", priority=3, expiration="9")
    copy = first.copy()
    first.redelivered, first.number = True, 7
    assert isinstance(copy, Stored)
    assert (copy.body, copy.priority, copy.life, copy.redelivered, copy.number) == (
        b"a", 3, 9, False, 0,
    )  # fmt: skip
