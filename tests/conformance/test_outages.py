"""Handlers that fail one after the other: one message is tried at a time until one succeeds."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from nuropb_rmq import (
    Message,
    NuropbAuthenticationError,
    NuropbAuthorizationError,
    NuropbCallAgain,
    NuropbDeprecatedError,
    NuropbValidationError,
    Outage,
    State,
    Transport,
    publish_to_mesh,
)

from ..encrypting import private_key
from ..mesh.support import Meshes
from ..outages import SHORT, Database, until
from ..support import Transports, Watch, command, event, eventually, request, result_of
from .brokers import Place, becomes

AWAY = ConnectionError("the database is away")
LETTERS, QUEUE = "nuropb-orders-dlq", "nuropb-orders-sq"


async def in_outage(
    transports: Transports, database: Database, **settings: Any
) -> tuple[Transport, Transport]:
    """A client, and a service whose first two commands have failed and are dead letters."""
    settings = {"outage": SHORT, "event_bindings": ["orders.#"], **settings}
    database.error = AWAY
    service, client = await transports.service(database, **settings), await transports.client()
    for n in ("first", "second"):
        await client.send(command(n=n))
    await until(service, State.OUTAGE)
    return service, client


async def test_what_fails_in_an_outage_goes_back_and_is_handled_after_it(
    transports: Transports, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "nuropb_rmq")
    database = Database()
    service, client = await in_outage(transports, database)
    watch = Watch(service)
    assert service.state.up
    assert repr(service.error).startswith("NuropbTransportError")
    assert str(service.error) == (
        "2 handlers in a row have failed, the last one with ConnectionError: one message is tried "
        "every 0.05 s"
    )
    for n in range(50):
        await client.send(command(n=n) if n % 2 else event("orders.made", n))
    await eventually(lambda: database.tries.total() > 2 + 4)
    database.error = None
    await eventually(lambda: len(database.done) == 50)
    assert set(database.done) == set(range(50))
    assert service.error is None
    assert watch.states == [State.READY]
    await becomes(lambda: place.depth(LETTERS), 2)
    assert await place.depth(QUEUE) == 0
    said = [each.message for each in caplog.records if "outage" in each.message]
    assert [each.split(",")[0].partition(" after ")[0] for each in said] == [
        "orders: outage: 2 handlers in a row have failed",
        "orders: the outage is over",
    ]


async def test_one_at_a_time(transports: Transports) -> None:
    running, most = 0, 0
    gate = asyncio.Semaphore(0)

    class Slow(Database):
        async def __call__(self, message: Message) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                await gate.acquire()
                return await super().__call__(message)
            finally:
                running -= 1

    gate.release()
    gate.release()
    slow = Slow()
    _, client = await in_outage(transports, slow)
    most = 0
    for n in range(5):
        await client.send(command(n=n))
    await eventually(lambda: running == 1)
    await asyncio.sleep(3 * SHORT.probe_every)
    assert most == 1
    slow.error = None
    for _ in range(5):
        gate.release()
    await eventually(lambda: len(slow.done) == 5)


async def test_a_request_is_answered_and_not_tried_again(
    transports: Transports, place: Place
) -> None:
    database = Database()
    service, client = await in_outage(transports, database)
    answer = await client.request(request(n=1))
    assert answer["error"] == {"error": "ConnectionError", "description": str(AWAY)}
    await until(service, State.OUTAGE)
    database.error = None
    assert result_of(await client.request(request(n=2))) == 2
    await until(service, State.READY)
    assert database.tries[1] == 1
    assert await place.depth(QUEUE) == 0


@pytest.mark.parametrize(
    "error",
    [
        NuropbValidationError("no"),
        NuropbAuthorizationError("no"),
        NuropbAuthenticationError("no"),
        NuropbDeprecatedError("no"),
        NuropbCallAgain("not yet"),
        KeyError("odd"),
        BaseExceptionGroup("two", [ValueError("odd"), TypeError("odd")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_sender_can_cause_does_not_count(
    transports: Transports, place: Place, error: BaseException
) -> None:
    """Nor does it set the count back; in an outage it ends as always."""
    database = Database(error)
    service = await transports.service(database, outage=SHORT)
    client = await transports.client()
    for n in range(6):
        await client.send(command(n=n))
    await becomes(lambda: place.depth(LETTERS), 6)
    await until(service, State.READY)
    tries = database.tries.total()
    database.error = AWAY
    await client.send(command(n="counts"))
    await eventually(lambda: database.tries.total() == tries + 1)
    database.error = error
    await client.send(command(n="between"))
    await becomes(lambda: place.depth(LETTERS), 8)
    await until(service, State.READY)
    database.error = AWAY
    await client.send(command(n="counts, too"))
    await until(service, State.OUTAGE)
    database.error = error
    await client.send(command(n="in the outage"))
    await becomes(lambda: place.depth(LETTERS), 10)
    assert service.state is State.OUTAGE


async def test_a_success_sets_the_count_back(transports: Transports, place: Place) -> None:
    database = Database()
    service, client = await transports.service(database, outage=SHORT), await transports.client()
    for n in range(6):
        database.error = AWAY if n % 2 else None
        await client.send(command(n=n))
        await eventually(lambda: database.tries[n])  # noqa: B023
    await becomes(lambda: place.depth(LETTERS), 3)
    assert service.state is State.READY


async def test_messages_that_always_fail_do_not_keep_the_others_waiting(
    transports: Transports, place: Place
) -> None:
    """They fill the window of prefetch_count; what is behind them has its turn all the same."""

    class Poisoned(Database):
        async def __call__(self, message: Message) -> Any:
            if message.payload["params"]["n"] != "good":
                raise AWAY
            return await super().__call__(message)

    poisoned = Poisoned()
    await transports.service(poisoned, outage=SHORT, prefetch_count=2)
    client = await transports.client()
    for n in range(8):
        await client.send(command(n=n))
    await client.send(command(n="good"))
    await eventually(lambda: poisoned.done == ["good"])
    await client.send(command(n="good"))
    await eventually(lambda: len(poisoned.done) == 2)


async def test_stop_in_an_outage_gives_everything_back(
    transports: Transports, place: Place
) -> None:
    database = Database()
    service, client = await in_outage(
        transports, database, outage=Outage(after=2, probe_every=100), prefetch_count=4
    )
    for n in range(10):
        await client.send(command(n=n))
    await becomes(lambda: place.depth(QUEUE), 6)
    await service.stop(grace=100)
    await becomes(lambda: place.depth(QUEUE), 10)
    other = Database()
    await transports.service(other)
    await eventually(lambda: sorted(other.done) == list(range(10)))
    assert await place.depth(LETTERS) == 2


async def test_what_fails_while_it_stops_in_an_outage_goes_back(
    transports: Transports, place: Place
) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    class Slow(Database):
        async def __call__(self, message: Message) -> Any:
            if message.payload["params"]["n"] == "slow":
                begun.set()
                await gate.wait()
            return await super().__call__(message)

    service, client = await in_outage(transports, Slow())
    await client.send(command(n="slow"))
    await begun.wait()
    stopping = asyncio.create_task(service.stop())
    await eventually(lambda: service.state is State.DRAINING)
    gate.set()
    await stopping
    assert await place.depth(QUEUE) == 1
    assert await place.depth(LETTERS) == 2


async def test_stop_consuming_ends_an_outage(transports: Transports, place: Place) -> None:
    service, client = await in_outage(
        transports, Database(), outage=Outage(after=2, probe_every=100), prefetch_count=4
    )
    await client.send(command(n=1))
    await becomes(lambda: place.depth(QUEUE), 0)
    await service.stop_consuming()
    assert (service.state, service.error) == (State.READY, None)
    await becomes(lambda: place.depth(QUEUE), 1)


async def test_a_call_again_is_one_whatever_went_back_before(
    transports: Transports, place: Place
) -> None:
    database = Database()
    service, client = await in_outage(transports, database)
    await client.send(command(n=1))
    await eventually(lambda: database.tries[1] >= 3)
    database.error = NuropbCallAgain()
    await becomes(lambda: place.depth(LETTERS), 3)
    assert service.state is State.OUTAGE
    *before, last = database.counts
    assert (set(before), last) == ({0}, 1)
    tries = database.tries[1]
    database.error = None
    await client.send(command(n=2))
    await until(service, State.READY)
    assert database.tries[1] == tries
    assert database.done == [2]


async def test_a_request_that_expired_while_it_waited_is_not_begun(
    transports: Transports, place: Place
) -> None:
    database = Database()
    slow = Outage(after=2, probe_every=1)
    service, client = await in_outage(transports, database, outage=slow)
    with pytest.raises(TimeoutError):
        await client.request(request(n=1), timeout=0.1)
    database.error = None
    await client.send(command(n=2))
    await until(service, State.READY)
    assert database.tries[1] == 0


async def test_a_handler_that_fails_at_its_callers_deadline_does_not_count(
    transports: Transports, place: Place
) -> None:
    """A caller in a hurry could else slow the service down for all."""
    client = await transports.client()

    async def never(_: Message) -> None:
        await asyncio.Event().wait()

    async def nested(_: Message) -> Any:
        return await client.request(request(service="slow"), timeout=30)

    await transports.service(never, "slow")
    service = await transports.service(nested, outage=SHORT, dead_letter_requests=True)
    for _ in range(3):
        try:
            answer = await client.request(request(), timeout=1)
        except TimeoutError:
            continue
        # The handler's deadline was earlier, by the time on the way.
        error = answer["error"]
        assert error is not None
        assert error["error"] == "NuropbTimeoutError"
    await becomes(lambda: place.depth(LETTERS), 3)
    assert service.state is State.READY


async def test_a_mesh_and_a_command_that_is_encrypted(meshes: Meshes, place: Place) -> None:
    class Vault:
        _service_name = "orders"
        _private_key = private_key("vault")

        def __init__(self) -> None:
            self.error: Exception | None = AWAY
            self.opened: list[str] = []
            self.tries = 0

        @publish_to_mesh(requires_encryption=True)
        async def open(self, pin: str) -> None:
            self.tries += 1
            if self.error is not None:
                raise ConnectionError("the database is away")
            self.opened.append(pin)

    vault = Vault()
    mesh, client = await meshes.serve(vault, outage=SHORT), await meshes.client()
    for pin in ("first", "second"):
        await client.command("orders", "open", {"pin": pin})
    await until(mesh.transport, State.OUTAGE)
    assert await client.describe_service("orders", refresh=True)
    await client.command("orders", "open", {"pin": "1234"})
    await eventually(lambda: vault.tries > 2 + 3)
    vault.error = None
    await eventually(lambda: vault.opened == ["1234"])
    await becomes(lambda: place.depth(LETTERS), 2)
