"""replay() and purge(): what goes where, what stays, and what it says of that."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from pamqp import encode

from nuropb_rmq import (
    DeadLetterFilter,
    DeadLetterResult,
    DeadLetters,
    Mesh,
    NuropbConfigurationError,
    NuropbRemoteError,
    NuropbValidationError,
    mesh_event,
)
from nuropb_rmq.amqp import frames
from nuropb_rmq.dead_letters.putting import WINDOW

from ..conformance.raw import headers_of, properties_of
from ..support import eventually
from .support import DL_QUEUE, RPC, SERVICE_QUEUE, Yard, command, copied, died


class Orders:
    _service_name = "orders"

    def __init__(self) -> None:
        self.fails = True
        self.seen: list[Any] = []

    def place(self, n: int) -> int:
        if self.fails:
            raise ValueError(f"order {n} is not known")
        self.seen.append(n)
        return n

    @mesh_event("shop.*")
    def on_shop(self, event: Any) -> None:
        self.place(event)


class Audit:
    _service_name = "audit"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @mesh_event("shop.*")
    def on_shop(self, event: Any) -> None:
        self.seen.append(event)


async def replay(yard: Yard, *args: Any, **options: Any) -> DeadLetterResult:
    async with yard.dead_letters() as dead:
        return await dead.replay(*args, **options)


async def test_a_service_handles_what_is_replayed_and_nobody_else_does(yard: Yard) -> None:
    """Commands and events, through the check of how a message came; requests only when told."""
    orders, audit = Orders(), Audit()
    async with (
        Mesh(yard.config, service=orders, configure=False, dead_letter_requests=True) as mesh,
        Mesh(yard.config.amqp_url, service=audit) as other,
    ):
        await mesh.command("orders", "place", {"n": 1})
        await mesh.publish_event("shop.opened", 2)
        with pytest.raises(NuropbRemoteError, match="order 3"):
            await other.request("orders", "place", {"n": 3})
        await yard.holds(3)
        await eventually(lambda: audit.seen == [2])
        orders.fails = False
        result = await replay(yard)
        assert (result.looked_at, result.waiting, result.done) == (3, 3, 2)
        assert result.left == {"a request, whose caller is gone": 1}
        await eventually(lambda: sorted(orders.seen) == [1, 2])
        result = await replay(yard, requests=True)
        assert (result.done, result.left, result.stopped) == (1, {}, None)
        await eventually(lambda: sorted(orders.seen) == [1, 2, 3])
    assert audit.seen == [2]
    assert await yard.left() == []


async def test_they_go_back_in_their_order_and_the_others_stay(yard: Yard) -> None:
    await yard.fill(200, 100)
    await yard.declare()
    result = await replay(yard)
    assert (result.looked_at, result.waiting, result.done) == (300, 300, 200)
    assert result.left == {"of another service": 100}
    assert result.replay_id is not None
    assert await yard.replayed() == list(range(200))
    assert sorted(await yard.left()) == list(range(100))


async def test_as_many_as_are_wanted(yard: Yard) -> None:
    await yard.fill(10)
    await yard.declare()
    assert (await replay(yard, limit=3)).done == 3
    assert (await replay(yard, limit=3, dry_run=True)).done == 3
    assert (await replay(yard, limit=4)).done == 4
    assert await yard.replayed() == list(range(7))
    assert await yard.left() == [7, 8, 9]


async def test_what_goes_with_it(yard: Yard) -> None:
    """Body and unknown headers byte for byte; nothing that told of the failure, or leads astray."""
    unknown = b"\x05other" + b"l" + (7).to_bytes(8, "big") + frames.table_entry("text", "ä")
    said = encode.field_table(
        {
            "nuropb_protocol": "0.1.1", "nuropb_type": "command", **copied(1), "CC": ["nobody"],
            "x-last-death-reason": "rejected", "nuropb_ca_count": 1, "nuropb_replay_count": 2,
            "nuropb_replay_id": "old", "nuropb_ca_exchange": "forged",
        }
    )[4:]  # fmt: skip
    properties = frames.Properties(
        content_type="application/json", headers=said + unknown, delivery_mode=1, priority=3,
        correlation_id="c-1", reply_to="nuropb-shop-1-rq", message_id="m-1", timestamp=5, type="t",
        app_id="a",
    )  # fmt: skip
    body = b'{"params": {"n": 1},  "as": "it is"}'
    yard.hand.put_packed(DL_QUEUE, body, frames.encode_properties(properties))
    await yard.hand.settled()
    await yard.declare()
    result = await replay(yard)
    (message,) = await yard.hand.take_all(SERVICE_QUEUE)
    assert (message.body, message.exchange, message.routing_key) == (body, "", SERVICE_QUEUE)
    back = properties_of(message)
    headers = back.headers or b""
    assert unknown in headers
    assert dataclasses.replace(back, headers=None, delivery_mode=None) == dataclasses.replace(
        properties, headers=None, delivery_mode=None, message_id="message-1"
    )
    assert back.delivery_mode == 2
    said_now = headers_of(message)
    said_now.pop("x-delivery-count", None)  # of this delivery: RabbitMQ 3.10 counts from 0
    assert said_now == {
        "nuropb_protocol": "0.1.1", "nuropb_type": "command", "other": 7, "text": "ä",
        "nuropb_ca_exchange": RPC, "nuropb_ca_routing_key": "orders",
        "nuropb_replay_count": 3, "nuropb_replay_id": f"{result.replay_id}-1",
    }  # fmt: skip


async def test_an_expiration_only_when_told(yard: Yard) -> None:
    await yard.fill(2)
    await yard.declare()
    await replay(yard, limit=1)
    await replay(yard, expiration=60)
    taken = await yard.hand.take_all(SERVICE_QUEUE)
    assert [properties_of(each).expiration for each in taken] == [None, "60000"]


async def test_letters_of_others_only_when_told(yard: Yard) -> None:
    await yard.put(died("nuropb-billing-sq"), command(1))
    await yard.put({}, command(2))
    await yard.declare()
    result = await replay(yard)
    assert (result.done, result.left) == (0, {"of another service": 2})
    result = await replay(yard, DeadLetterFilter(own=False), foreign=True)
    assert (result.done, result.left) == (2, {})
    assert await yard.replayed() == [1, 2]


async def test_letters_of_one_failure_go_back_once(yard: Yard) -> None:
    for number in (1, 1, 2, 1):
        await yard.put(copied(number), command(number))
    await yard.declare()
    assert (await replay(yard, dry_run=True)).done == 2
    result = await replay(yard)
    assert (result.looked_at, result.done, result.left) == (4, 2, {})
    assert await yard.replayed() == [1, 2]
    assert await yard.left() == []


async def test_the_service_queue_does_not_exist(yard: Yard) -> None:
    """It stops: the others would come back, too."""
    await yard.fill(100)
    result = await replay(yard)
    assert result.done == 0
    assert result.stopped == "the service queue does not exist"
    assert set(result.left) == {"the service queue does not exist"}
    assert await yard.left() == list(range(100))


async def test_the_service_queue_is_full(yard: Yard) -> None:
    await yard.fill(300)
    await yard.declare(x_max_length=50, x_overflow="reject-publish")
    result = await replay(yard)
    assert result.stopped == "the service queue refused it: is it full?"
    # A quorum queue notices that it is over its limit when messages are on their way already.
    assert 50 <= result.done < 50 + WINDOW
    replayed = await yard.replayed()
    assert replayed == list(range(len(replayed)))
    assert len(replayed) == result.done
    assert sorted(await yard.left()) == list(range(result.done, 300))


async def test_what_comes_meanwhile_stays(yard: Yard) -> None:
    """A replayed message that fails again does not go round and round."""
    orders = Orders()
    await yard.fill(50)
    async with Mesh(yard.config, service=orders, configure=False):
        result = await replay(yard)
        assert (result.looked_at, result.waiting, result.done) == (50, 50, 50)
        await yard.holds(50)
    async with yard.dead_letters() as dead:
        counts = {each.replay_count async for each in dead.list()}
        assert counts == {1}
        assert {each.own async for each in dead.list()} == {True}


@pytest.mark.parametrize("after", range(0, 120, 12))
async def test_cancelled_at_any_moment(yard: Yard, after: int) -> None:
    """Nothing is lost; what was published and not confirmed may come twice."""
    await yard.fill(100)
    await yard.declare()
    async with yard.dead_letters() as dead:
        task = asyncio.create_task(dead.replay())
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
    replayed, left = await yard.replayed(), await yard.left()
    assert set(replayed) | set(left) == set(range(100))
    assert len(replayed) == len(set(replayed))
    assert len(replayed) + len(left) <= 100 + 64


async def test_purging(yard: Yard) -> None:
    await yard.fill(5, 3)
    await yard.put(copied(9, nuropb_error="KeyError"), command(9))
    async with yard.dead_letters() as dead:
        key_errors = DeadLetterFilter(error="KeyError")
        assert (await dead.purge(key_errors, dry_run=True)).done == 1
        assert (await dead.purge(key_errors)).done == 1
        assert (await dead.purge(key_errors)).done == 0
        result = await dead.purge()
        assert (result.looked_at, result.waiting, result.done) == (8, 8, 5)
        assert result.left == {"of another service": 3}
        assert (result.dry_run, result.replay_id, result.stopped) == (False, None, None)
        assert (await dead.purge(foreign=True)).done == 3
        assert [each async for each in dead.list()] == []


async def test_wrong_arguments(yard: Yard) -> None:
    async with yard.dead_letters() as dead:
        for wrong in ({"dry_run": 1}, {"requests": "no"}, {"foreign": None}):
            with pytest.raises(NuropbConfigurationError, match="must be True or False"):
                await dead.replay(**wrong)
        with pytest.raises(NuropbValidationError, match="expiration"):
            await dead.replay(expiration=0)
        wrong_limits: tuple[Any, ...] = (0, -1, True, 1.0)
        for limit in wrong_limits:
            with pytest.raises(NuropbConfigurationError, match="limit: must be a number from 1"):
                await dead.replay(limit=limit)
            with pytest.raises(NuropbConfigurationError, match="limit: must be a number from 1"):
                await anext(dead.list(limit=limit))
    with pytest.raises(NuropbConfigurationError, match="service_name: is missing"):
        DeadLetters("memory://x")
    with pytest.raises(NuropbConfigurationError, match="service_name: is 'shop', and 'orders'"):
        DeadLetters(yard.config, "shop")
    assert DeadLetters("memory://x", "shop").queue == "nuropb-shop-dlq"
