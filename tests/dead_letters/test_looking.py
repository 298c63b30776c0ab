"""list(), groups() and show(): what they tell, and that they change nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nuropb_rmq import (
    DeadLetter,
    DeadLetterFilter,
    DeadLetterProgress,
    DeadLetters,
    EncryptionError,
    MalformedMessageError,
    Mesh,
    MessageType,
    ServiceNotConfigured,
    TransportClosedError,
    mesh_event,
)

from ..support import eventually
from .support import RPC, SERVICE_QUEUE, Yard, command, copied, died


class Orders:
    _service_name = "orders"

    def place(self, n: int) -> None:
        raise ValueError(f"order {n} is not known")

    @mesh_event("shop.*")
    def on_shop(self, event: Any) -> None:
        raise LookupError("no shop")


async def listed(yard: Yard, letters: DeadLetterFilter | None = None) -> list[DeadLetter]:
    async with yard.dead_letters() as dead:
        return [each async for each in dead.list(letters or DeadLetterFilter())]


async def test_what_a_service_gave_up(yard: Yard) -> None:
    """With no header of ours: what the broker and the body tell."""
    before = datetime.now(UTC)
    async with Mesh(yard.config, service=Orders(), configure=False) as mesh:
        await mesh.command("orders", "place", {"n": 1})
        await mesh.publish_event("shop.opened", "e")
        await yard.holds(2)
    letters = await listed(yard)
    called, event = sorted(letters, key=lambda each: str(each.type))
    assert (called.own, called.reason, called.queue) == (True, "rejected", SERVICE_QUEUE)
    assert (called.type, called.method, called.topic) == (MessageType.COMMAND, "place", None)
    assert (event.type, event.method, event.topic) == (MessageType.EVENT, None, "shop.opened")
    assert (called.exchange, called.routing_key) == (RPC, "orders")
    assert called.payload()["params"] == {"n": 1}
    assert called.failed_at is not None
    assert before - timedelta(seconds=2) <= called.failed_at <= datetime.now(UTC)


async def test_a_copy_tells_more(yard: Yard) -> None:
    await yard.fill(1)
    (letter,) = await listed(yard)
    assert letter.own
    assert (letter.error, letter.error_text) == ("ValueError", "order 0 is not known")
    assert (letter.traceback, letter.instance, letter.attempts) == ("Traceback: …", "one", 3)
    assert (letter.failure_id, letter.reason, letter.queue) == (
        "failure-0", "rejected", SERVICE_QUEUE,
    )  # fmt: skip
    assert letter.failed_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (letter.exchange, letter.routing_key, letter.correlation_id) == (RPC, "orders", "c")
    assert letter.message_id == "message-0"
    assert "order 0" not in repr(letter)


FOREIGN: dict[str, dict[str, Any]] = {
    "another service's": died("nuropb-billing-sq"),
    "a copy of another service's": copied(0, "nuropb-billing-sq"),
    "forged, given up by another": {**copied(0), **died("nuropb-billing-sq")},
    "forged, without a first death": {
        **copied(0), "x-death": died("nuropb-billing-sq")["x-death"],
    },
    "of nobody knows whom": {},
    "nonsense": {"x-death": "text", "nuropb_dead_letter_of": 7},
}  # fmt: skip


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
async def test_letters_of_others(yard: Yard, headers: dict[str, Any]) -> None:
    await yard.put(headers)
    (letter,) = await listed(yard)
    assert not letter.own
    assert (letter.error, letter.failure_id) == (None, None)


async def test_what_a_peer_wrote_of_a_failure_is_not_believed(yard: Yard) -> None:
    """The service rejected the message itself, as it does when it cannot publish a copy."""
    await yard.put({**copied(0), **died()})
    (letter,) = await listed(yard)
    assert letter.own
    assert (letter.error, letter.error_text, letter.traceback) == (None, None, None)
    assert (letter.failure_id, letter.instance, letter.attempts) == (None, None, None)


async def test_what_cannot_be_read(yard: Yard) -> None:
    """None of it disturbs the others."""
    await yard.put(died(), b"\xff no JSON")
    await yard.put({**died(), "encrypted": "yes"}, b"secret.text")
    await yard.put(died(), b"[1]")
    await yard.put(died(), b"{}", kind="dance")
    await yard.put({**died(), "nuropb_failed_at": "x"}, command(1))
    letters = await listed(yard)
    assert [each.encrypted for each in letters] == [False, True, False, False, False]
    assert [each.method for each in letters] == [None, None, None, None, "place"]
    assert letters[3].type is None
    for letter, kind in zip(
        letters, (MalformedMessageError, EncryptionError, MalformedMessageError), strict=False
    ):
        with pytest.raises(kind):
            letter.payload()


async def test_headers_that_cannot_be_decoded(yard: Yard) -> None:
    """As deep as only a hostile peer makes them; the broker passes them on."""
    deep: Any = "end"
    for _ in range(40):
        deep = {"d": deep}
    await yard.put({"deep": deep})
    await yard.fill(1)
    bad, good = await listed(yard)
    assert bad.problem is not None
    assert "nested deeper" in bad.problem
    assert (bad.own, bad.type, bad.headers, good.problem) == (False, None, {}, None)
    async with yard.dead_letters() as dead:
        result = await dead.replay(foreign=True, dry_run=True)
        assert (result.done, result.left) == (1, {"headers that cannot be read": 1})


async def test_a_body_that_is_too_large_is_not_kept(yard: Yard) -> None:
    await yard.put(died(), b"x" * 3000)
    config = dataclasses.replace(yard.config, max_body_bytes=2000)
    await yard.declare()
    async with DeadLetters(config, api_url=yard.api_url) as dead:
        (letter,) = [each async for each in dead.list()]
        assert (letter.body, letter.body_size, letter.is_whole) == (b"", 3000, False)
        with pytest.raises(MalformedMessageError, match="3000 bytes is larger than max_body_bytes"):
            letter.payload()
        result = await dead.replay()
        assert (result.done, result.left) == (0, {"larger than max_body_bytes": 1})


FILTERS: dict[str, tuple[DeadLetterFilter, list[int]]] = {
    "all": (DeadLetterFilter(), [0, 1, 2, 3, 4, 5]),
    "own": (DeadLetterFilter(own=True), [0, 1, 2, 3, 4]),
    "foreign": (DeadLetterFilter(own=False), [5]),
    "reason": (DeadLetterFilter(reason="expired"), [2]),
    "type": (DeadLetterFilter(type="event"), [3]),
    "method": (DeadLetterFilter(method="place"), [0, 1, 2, 4, 5]),
    "topic": (DeadLetterFilter(topic="shop.#"), [3]),
    "other topic": (DeadLetterFilter(topic="*"), []),
    "error": (DeadLetterFilter(error="KeyError"), [1]),
    "correlation id": (DeadLetterFilter(correlation_id="of 4"), [4]),
    "failure id": (DeadLetterFilter(failure_id="failure-0"), [0]),
    "older": (DeadLetterFilter(older_than=3600), [1, 2, 3, 4]),
    "younger": (DeadLetterFilter(younger_than=3600), [0]),
    "two": (DeadLetterFilter(own=True, method="place", younger_than=3600), [0]),
}


@pytest.mark.parametrize(("letters", "expected"), FILTERS.values(), ids=FILTERS)
async def test_filters(yard: Yard, letters: DeadLetterFilter, expected: list[int]) -> None:
    now = datetime.now(UTC).isoformat()
    old = datetime(2026, 1, 2, tzinfo=UTC)
    event = b'{"tag": "event", "topic": "shop.opened"}'
    puts: list[tuple[dict[str, Any], bytes, str, str]] = [
        (copied(0, nuropb_failed_at=now), command(0), "command", "of 0"),
        (copied(1, nuropb_error="KeyError"), command(1), "command", "of 1"),
        (died(reason="expired", time=old), command(2), "command", "of 2"),
        (died(time=old), event, "event", "of 3"),
        (died(time=old), command(4), "command", "of 4"),
        (died("nuropb-billing-sq"), command(5), "command", "of 5"),
    ]
    for headers, body, kind, correlation_id in puts:
        await yard.put(headers, body, kind, correlation_id=correlation_id)
    found = [int(each.correlation_id[3:]) for each in await listed(yard, letters)]
    assert found == expected


async def test_two_letters_of_one_failure_are_one(yard: Yard) -> None:
    for _ in range(2):
        await yard.put(copied(7), command(7))
    await yard.put(copied(8), command(8))
    async with yard.dead_letters() as dead:
        assert [each.failure_id async for each in dead.list()] == ["failure-7", "failure-8"]
        (group,) = await dead.groups()
        assert group.count == 2
        assert len(await dead.show("failure-7")) == 1
        assert dead.progress == DeadLetterProgress(looked_at=3, waiting=3)


async def test_groups(yard: Yard) -> None:
    await yard.fill(5, 2)
    await yard.put(copied(9, nuropb_error_text="no stock"), command(9))
    async with yard.dead_letters() as dead:
        groups = await dead.groups()
        shapes = [(each.own, each.error, each.method, each.shape, each.count) for each in groups]
        assert shapes[:2] == [
            (True, "ValueError", "place", "order # is not known", 5),
            (False, None, "place", None, 2),
        ]
        assert groups[0].first == groups[0].last == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert groups[0].example == "failure-0"
        (only,) = await dead.groups(DeadLetterFilter(own=False))
        assert only.count == 2


async def fails(dead: DeadLetters) -> None:
    """An iteration whose body raises."""
    async for _ in dead.list():
        raise ZeroDivisionError


async def test_looking_changes_nothing(yard: Yard) -> None:
    """However it ends; nor does a look at some of them."""
    await yard.fill(40, 20)
    async with yard.dead_letters() as dead:

        async def bodies(limit: int | None = None) -> list[bytes]:
            return [each.body async for each in dead.list(limit=limit)]

        everything = await bodies()
        assert len(everything) == 60
        for _ in range(3):
            assert await bodies(limit=7) == everything[:7]
            async for each in dead.list():
                assert each.body == everything[0]
                break
            with pytest.raises(ZeroDivisionError):
                await fails(dead)
            assert await dead.groups() == await dead.groups()
            assert (await dead.replay(dry_run=True)).done == 40
            assert (await dead.purge(dry_run=True)).done == 40
            assert await bodies() == everything
        async for _letter in dead.list():
            break
    async with yard.dead_letters() as dead:
        assert await bodies() == everything
    assert len(await yard.left()) == 60


async def test_looking_ends_when_another_pass_begins(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    """A replay within an iteration finds the letters that the iteration holds."""
    await yard.fill(20)
    await yard.declare()
    async with yard.dead_letters() as dead:
        seen = 0
        async with aclosing(dead.list()) as letters:
            async for letter in letters:
                seen += 1
                replayed = await dead.replay(DeadLetterFilter(failure_id=letter.failure_id))
                assert (replayed.looked_at, replayed.waiting, replayed.done) == (20, 20, 1)
        assert seen == 1
        assert "a replay has begun" in caplog.text
    assert await yard.replayed() == [0]


async def test_looking_is_over_in_its_time(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    await yard.fill(30)
    async with yard.dead_letters(pass_seconds=0.2) as dead:
        seen = 0
        async for _ in dead.list():
            seen += 1
            await asyncio.sleep(0.15)
        assert 1 <= seen < 30
        stopped = dead.progress.stopped
        assert stopped is not None
        assert "pass_seconds" in stopped
        assert f"looked at {seen} of 30 dead letters" in caplog.text
    async with yard.dead_letters() as dead:
        assert len([each async for each in dead.list()]) == 30


async def test_whoever_falls_asleep_over_it_gives_all_back(yard: Yard) -> None:
    await yard.fill(30)
    config = dataclasses.replace(yard.config, publish_timeout=0.1)
    async with DeadLetters(config, api_url=yard.api_url, pass_seconds=0.1) as asleep:
        letters = asleep.list()
        await anext(letters)
        await eventually(lambda: asleep.progress.stopped)
        async with yard.dead_letters() as dead:
            assert len([each async for each in dead.list()]) == 30
        await letters.aclose()


@pytest.mark.parametrize("after", range(0, 40, 5))
async def test_cancelled_at_any_moment_it_gives_all_back(yard: Yard, after: int) -> None:
    await yard.fill(30)
    async with yard.dead_letters() as dead:
        task = asyncio.create_task(dead.groups())
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
        assert len([each async for each in dead.list()]) == 30


async def test_an_empty_queue(yard: Yard) -> None:
    async with yard.dead_letters() as dead:
        assert [each async for each in dead.list()] == []
        assert await dead.groups() == ()
        assert await dead.show("c") == ()
        assert dead.progress == DeadLetterProgress()
        result = await dead.purge()
        assert (result.looked_at, result.waiting, result.done, result.left) == (0, 0, 0, {})


async def test_no_such_queue(yard: Yard) -> None:
    config = dataclasses.replace(yard.config, service_name="nobody")
    with pytest.raises(ServiceNotConfigured, match="queue 'nuropb-nobody-dlq' does not exist"):
        async with DeadLetters(config, api_url=yard.api_url):
            pass


async def test_it_is_used_within_its_context(yard: Yard) -> None:
    dead = yard.dead_letters()
    with pytest.raises(TransportClosedError, match="async with"):
        await dead.groups()
    async with dead:
        pass
    with pytest.raises(TransportClosedError, match="async with"):
        await dead.replay()
    async with dead:
        assert await dead.groups() == ()


async def test_two_at_once_see_each_letter_once(yard: Yard) -> None:
    await yard.fill(30)
    async with yard.dead_letters() as one, yard.dead_letters() as two:
        async with aclosing(one.list()) as held:
            first = await anext(held)
            others = [each.failure_id async for each in two.list()]
            assert first.failure_id not in others
        assert len([each async for each in two.list()]) == 30
