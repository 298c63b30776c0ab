"""Messages that come back after a delay: Retry, RetryLater."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from nuropb_rmq import (
    Mesh,
    Message,
    NuropbCallAgain,
    NuropbRemoteError,
    NuropbValidationError,
    Observer,
    Outage,
    Outcome,
    Retry,
    RetryLater,
    Settlement,
    State,
    Transport,
    mesh_event,
    publish_to_mesh,
)
from nuropb_rmq.service.methods import DESCRIBE

from ..encrypting import private_key
from ..mesh.support import Meshes
from ..seams import encryptor_of, in_hand, keys_of
from ..support import eventually
from .brokers import Place, becomes
from .raw import RawChannel, headers_of

DLQ = "nuropb-orders-dlq"
QUICK = Retry(attempts=3, delays=(0.05, 0.1))
TYPES = pytest.mark.parametrize("kind", ["classic", "quorum"])


class Orders:
    """Fails as often as it is told."""

    _service_name = "orders"

    def __init__(self, failures: int = 2) -> None:
        self.failures = failures
        self.calls: list[Any] = []

    def _call(self, what: Any) -> None:
        self.calls.append(what)
        if len(self.calls) <= self.failures:
            raise LookupError(f"not yet: {what}")

    async def ship(self, number: int = 7) -> int:
        self._call(number)
        return number

    @publish_to_mesh(retry=Retry(attempts=2, delays=(0.05,)))
    async def once_more(self) -> None:
        self._call("once more")

    @publish_to_mesh(retry=None)
    async def never(self) -> None:
        self._call("never")

    async def refuse(self) -> None:
        self.calls.append("refuse")
        raise NuropbValidationError("no")

    async def later(self, after: float) -> None:
        self.calls.append(time.monotonic())
        if len(self.calls) <= self.failures:
            raise RetryLater("not yet", after=after) from LookupError("not there yet")

    @mesh_event("orders.*")
    async def on_order(self, topic: str, event: Any) -> None:
        self._call((topic, event))


class Seen(Observer):
    """Notes outcomes and settlements."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.settlements: list[Settlement] = []

    def handled(self, message: Message, outcome: Outcome, seconds: float) -> None:
        """Note it, unless the mesh has only asked itself for its description."""
        if message.payload.get("method") != DESCRIBE:
            self.outcomes.append(outcome)

    def settled(self, message: Message, settlement: Settlement) -> None:
        """Note it, as above."""
        if message.payload.get("method") != DESCRIBE:
            self.settlements.append(settlement)


async def serve(meshes: Meshes, orders: Orders, **options: Any) -> tuple[Mesh, Seen]:
    """A mesh that serves it, and what is seen of it."""
    mesh = await meshes.serve(orders, **{"retry": QUICK, **options})
    seen = Seen()
    mesh.observe(seen)
    return mesh, seen


@TYPES
async def test_a_command_comes_back_until_it_succeeds(
    meshes: Meshes, place: Place, kind: str
) -> None:
    orders = Orders()
    mesh, seen = await serve(meshes, orders, amqp_url=meshes.config(queue_type=kind))
    await mesh.command("orders", "ship", {"number": 7})
    await eventually(lambda: len(seen.settlements) == 3)
    assert orders.calls == [7, 7, 7]
    assert seen.outcomes == [Outcome.RETRY, Outcome.RETRY, Outcome.DONE]
    assert seen.settlements == [Settlement.RETRY, Settlement.RETRY, Settlement.ACK]
    assert await place.depth(DLQ) == 0


async def test_an_exhausted_one_is_a_dead_letter_with_its_history(
    meshes: Meshes, place: Place, channel: RawChannel
) -> None:
    orders = Orders(failures=9)
    mesh, seen = await serve(meshes, orders)
    await mesh.command("orders", "ship")
    await becomes(lambda: place.depth(DLQ), 1)
    assert len(orders.calls) == 3
    await channel.consume(DLQ)
    (content,) = await channel.taken(1)
    letter = headers_of(content)
    assert letter["nuropb_attempts"] == 3
    assert letter["nuropb_error"] == "LookupError"
    assert letter["nuropb_first_failed_at"] <= letter["nuropb_failed_at"]
    assert letter["nuropb_original_exchange"] == "nuropb-rpc-exchange"
    assert seen.settlements[-1] is Settlement.DEAD_LETTER


async def test_an_event(meshes: Meshes) -> None:
    orders = Orders()
    mesh, seen = await serve(meshes, orders)
    await mesh.publish_event("orders.placed", {"id": 1})
    await eventually(lambda: len(seen.settlements) == 3)
    assert orders.calls == [("orders.placed", {"id": 1})] * 3


async def test_requests_only_when_told(meshes: Meshes) -> None:
    orders = Orders()
    mesh, _ = await serve(meshes, orders)
    with pytest.raises(NuropbRemoteError, match="not yet"):
        await mesh.request("orders", "ship")
    assert orders.calls == [7]
    await mesh.stop()
    orders = Orders()
    retry = Retry(attempts=3, delays=(0.05, 0.1), requests=True)
    mesh, _ = await serve(meshes, orders, retry=retry)
    assert await mesh.request("orders", "ship", {"number": 8}, timeout=10) == 8
    assert orders.calls == [8, 8, 8]


async def test_a_request_does_not_come_back_after_its_time(meshes: Meshes) -> None:
    orders = Orders()
    retry = Retry(attempts=3, delays=(0.05, 5), requests=True)
    mesh, _ = await serve(meshes, orders, retry=retry)
    with pytest.raises(NuropbRemoteError, match="not yet"):
        await mesh.request("orders", "ship", timeout=2)
    assert len(orders.calls) == 2


async def test_a_command_does_not_come_back_after_its_expiration(
    meshes: Meshes, place: Place
) -> None:
    orders = Orders()
    mesh, _ = await serve(meshes, orders, retry=Retry(attempts=3, delays=(0.05, 5)))
    await mesh.command("orders", "ship", ttl=2)
    await becomes(lambda: place.depth(DLQ), 1)
    assert len(orders.calls) == 2


async def test_of_a_method_and_none(meshes: Meshes, place: Place) -> None:
    orders = Orders(failures=9)
    mesh, _ = await serve(meshes, orders)
    for count, (method, calls) in enumerate((("once_more", 2), ("never", 1), ("refuse", 1)), 1):
        orders.calls.clear()
        await mesh.command("orders", method)
        await becomes(partial(place.depth, DLQ), count)
        assert len(orders.calls) == calls


async def test_what_callers_cause_is_not_retried(meshes: Meshes, place: Place) -> None:
    orders = Orders()
    mesh, seen = await serve(meshes, orders)
    await mesh.command("orders", "nope")
    await mesh.command("orders", "ship", {"number": "seven"})
    await becomes(lambda: place.depth(DLQ), 2)
    assert orders.calls == []
    assert Settlement.RETRY not in seen.settlements


async def test_at_once_and_in_this_process(meshes: Meshes) -> None:
    orders = Orders()
    mesh, seen = await serve(meshes, orders, retry=Retry(attempts=1, immediate=2, delays=()))
    await mesh.command("orders", "ship")
    await eventually(lambda: seen.settlements == [Settlement.ACK])
    assert orders.calls == [7, 7, 7]


async def test_retry_later(meshes: Meshes, place: Place) -> None:
    """By the queue of the next longer delay."""
    orders = Orders(failures=1)
    mesh, seen = await serve(meshes, orders, retry=Retry(attempts=2, delays=(0.05, 0.4)))
    await mesh.command("orders", "later", {"after": 0.2})
    await eventually(lambda: len(seen.settlements) == 2)
    first, second = orders.calls
    assert second - first >= 0.4
    orders.calls.clear()
    orders.failures = 9
    await mesh.command("orders", "later", {"after": 0.01})
    await becomes(lambda: place.depth(DLQ), 1)
    assert len(orders.calls) == 2


class Later:
    _service_name = "orders"

    async def later(self) -> None:
        raise RetryLater("not yet", after=1) from LookupError("not there yet")


async def test_retry_later_without_delays_fails(
    meshes: Meshes, place: Place, channel: RawChannel
) -> None:
    mesh = await meshes.serve(Later())
    await mesh.command("orders", "later")
    await becomes(lambda: place.depth(DLQ), 1)
    await channel.consume(DLQ)
    (content,) = await channel.taken(1)
    assert headers_of(content)["nuropb_error_text"] == "not there yet"


async def test_of_a_plain_transport(configured: None, meshes: Meshes) -> None:
    attempts: list[int] = []

    async def handle(message: Message) -> None:
        attempts.append(message.attempts)
        if len(attempts) < 3:
            raise RetryLater

    async with Transport(meshes.config(retry_delays=(0.05,)), handle) as transport:
        payload = {"tag": "command", "service": "orders", "method": "m", "params": {}}
        await transport.send({**payload, "context": {}})
        await eventually(lambda: len(attempts) == 3)
    assert attempts == [1, 2, 3]


async def test_another_instance_may_get_it(meshes: Meshes) -> None:
    first, second = Orders(failures=9), Orders(failures=9)
    retry = Retry(attempts=40, delays=(0.01,))
    mesh, _ = await serve(meshes, first, retry=retry)
    await serve(meshes, second, retry=retry)
    await mesh.command("orders", "ship")
    await eventually(lambda: len(first.calls) + len(second.calls) >= 10)
    assert first.calls
    assert second.calls


async def test_a_queue_that_is_gone(
    meshes: Meshes, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    mesh, seen = await serve(meshes, Orders())
    await place.delete_queue("nuropb-orders-retry-50")
    await mesh.command("orders", "ship")
    await becomes(lambda: place.depth(DLQ), 1)
    await eventually(lambda: seen.settlements == [Settlement.DEAD_LETTER])
    assert "cannot come back later: no queue takes it" in caplog.text


async def test_what_a_sender_forges_does_not_count(
    meshes: Meshes, channel: RawChannel, place: Place
) -> None:
    orders = Orders(failures=9)
    await serve(meshes, orders)
    headers = {"nuropb_type": "command", "nuropb_protocol": "0.1.1", "nuropb_attempts": 99}
    headers |= {"nuropb_time_left": 1, "x-death": [{"queue": "nuropb-orders-retry-50"}]}
    headers |= {"nuropb_message_id": "forged"}
    body = b'{"tag":"command","service":"orders","method":"ship","params":{},"context":{}}'
    await channel.publish(
        "orders",
        body,
        exchange="nuropb-rpc-exchange",
        headers=headers,
        correlation_id="1",
        message_id="m-7",
    )
    await becomes(lambda: place.depth(DLQ), 1)
    assert len(orders.calls) == 3
    await channel.consume(DLQ)
    (letter,) = await channel.taken(1)
    assert headers_of(letter)["nuropb_message_id"] == "m-7"


async def test_no_message_waits_behind_a_longer_delay(meshes: Meshes, place: Place) -> None:
    orders = Orders(failures=99)
    mesh, _ = await serve(meshes, orders, retry=Retry(attempts=2, delays=(0.1, 3600)))
    for _ in range(20):
        await mesh.command("orders", "later", {"after": 3600})
    await becomes(lambda: place.depth("nuropb-orders-retry-3600000"), 20)
    await mesh.command("orders", "later", {"after": 0.1})
    await eventually(lambda: len(orders.calls) == 22)


async def test_stop_while_it_waits(meshes: Meshes) -> None:
    orders = Orders(failures=1)
    mesh, seen = await serve(meshes, orders, retry=Retry(attempts=2, delays=(0.3,)))
    await mesh.command("orders", "ship")
    await eventually(lambda: seen.settlements == [Settlement.RETRY])
    await mesh.stop()
    again = Orders(failures=0)
    await serve(meshes, again, retry=Retry(attempts=2, delays=(0.3,)))
    await eventually(lambda: again.calls == [7])


class Vault:
    _service_name = "orders"
    _private_key = private_key("orders")

    @publish_to_mesh(requires_encryption=True)
    async def open(self, pin: str) -> None:
        raise LookupError("no such safe")


async def test_an_encrypted_request_whose_queue_is_gone_is_answered(
    meshes: Meshes, place: Place
) -> None:
    retry = Retry(attempts=3, delays=(0.05,), requests=True)
    mesh = await meshes.serve(Vault(), retry=retry)
    client = await meshes.client()
    await place.delete_queue("nuropb-orders-retry-50")
    with pytest.raises(NuropbRemoteError, match="no such safe"):
        await client.request("orders", "open", {"pin": "1234"}, timeout=10)
    await eventually(lambda: not in_hand(mesh.transport))
    assert not keys_of(encryptor_of(mesh)).owed


async def test_what_the_broker_delivers_again_does_not_come_back_too(
    meshes: Meshes, place: Place
) -> None:
    """The service queue is deleted and made again: the channel of the delivery is gone."""
    release, begun = asyncio.Event(), asyncio.Event()

    class Slow(Orders):
        async def wait(self) -> None:
            begun.set()
            await release.wait()
            self._call("wait")

    orders = Slow(failures=9)
    mesh, seen = await serve(meshes, orders)
    await mesh.command("orders", "wait")
    await begun.wait()
    await place.delete_queue("nuropb-orders-sq")
    await eventually(lambda: next(iter(in_hand(mesh.transport))).stale)
    release.set()
    await eventually(lambda: not in_hand(mesh.transport))
    assert orders.calls == ["wait"]
    assert await place.depth("nuropb-orders-retry-50") == 0
    assert seen.settlements == []


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Odd:
    _service_name = "orders"

    def __init__(self) -> None:
        self.calls = 0

    async def fail(self) -> None:
        self.calls += 1
        raise UnprintableError


async def test_an_error_without_a_text(meshes: Meshes, place: Place) -> None:
    odd = Odd()
    mesh = await meshes.serve(odd, retry=QUICK)
    await mesh.command("orders", "fail")
    await becomes(lambda: place.depth(DLQ), 1)
    assert odd.calls == 3


async def test_in_an_outage_it_goes_back_where_its_queue_is_gone(
    meshes: Meshes, place: Place
) -> None:
    class Away(Orders):
        async def ship(self, number: int = 7) -> int:
            self.calls.append(number)
            if len(self.calls) < 6:
                raise ConnectionError
            return number

    orders = Away()
    outage = Outage(after=1, probe_every=0.05)
    mesh, seen = await serve(meshes, orders, outage=outage)
    await mesh.command("orders", "ship")
    await mesh.wait_for(State.OUTAGE, timeout=5)
    await eventually(lambda: seen.settlements == [Settlement.RETRY])
    for ms in (50, 100):
        await place.delete_queue(f"nuropb-orders-retry-{ms}")
    await mesh.command("orders", "ship", {"number": 8})
    await eventually(lambda: mesh.state is State.READY)
    await eventually(lambda: 8 in orders.calls[5:])
    assert await place.depth(DLQ) == 0


async def test_forged_headers_do_not_count_after_a_call_again(
    configured: None, meshes: Meshes, channel: RawChannel
) -> None:
    seen: list[tuple[int, int]] = []

    async def handle(message: Message) -> None:
        seen.append((message.attempts, message.call_again_count))
        if len(seen) == 1:
            raise NuropbCallAgain
        if len(seen) == 2:
            raise RetryLater

    async with Transport(meshes.config(retry_delays=(0.05,)), handle):
        headers: dict[str, Any] = {"nuropb_type": "command", "nuropb_protocol": "0.1.1"}
        headers |= {"nuropb_attempts": 99, "nuropb_ca_count": 7, "nuropb_time_left": 1}
        body = b'{"tag":"command","service":"orders","method":"m","params":{},"context":{}}'
        await channel.publish(
            "orders", body, exchange="nuropb-rpc-exchange", headers=headers, correlation_id="1"
        )
        await eventually(lambda: len(seen) == 3)
    assert seen == [(1, 0), (1, 1), (2, 1)]
