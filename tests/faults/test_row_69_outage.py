"""Row 69: handlers fail one after the other, because what they need is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import Outage, PublishNackedError, State, Transport
from nuropb_rmq.amqp import publisher
from nuropb_rmq.amqp.settlement import Settlement
from nuropb_rmq.testing import RabbitMQNode

from ..outages import SHORT, Database, until
from ..support import Transports, Watch, command, event, eventually
from .common import QUORUM
from .console import alarm, metadata_is_written, policy, until_depths
from .processes import ServiceProcess
from .test_row_05_channel_closed import ports_of, spoil

AWAY = ConnectionError("the database is away")
LETTERS, QUEUE = "nuropb-orders-dlq", "nuropb-orders-sq"
KINDS = pytest.mark.parametrize("kind", [{}, QUORUM], ids=["classic", "quorum"])
WAITING = 1000


@pytest.fixture
def vhost(request: pytest.FixtureRequest, mesh: Transports, kind: dict[str, Any]) -> Transports:
    """A virtual host with a dead-letter queue of the same type."""
    if kind:
        request.getfixturevalue("quorum")
    return mesh


async def begins(
    transports: Transports, database: Database, **settings: Any
) -> tuple[Transport, Transport]:
    """A client, and a service whose first two commands have failed and are dead letters."""
    database.error = AWAY
    service = await transports.service(database, **{"outage": SHORT, **settings})
    client = await transports.client()
    for n in ("first", "second"):
        await client.send(command(n=n))
    await until(service, State.OUTAGE)
    # Sooner, a channel that ends would bring them back, though their letters are written.
    await eventually(lambda: service.stats().settled[Settlement.DEAD_LETTER] == 2)
    return service, client


@KINDS
async def test_row_69_a_thousand_that_wait_are_handled_after_it(
    vhost: Transports, rabbitmq_node: RabbitMQNode, kind: dict[str, Any]
) -> None:
    database = Database()
    service, client = await begins(vhost, database, event_bindings=["orders.#"], **kind)
    sends = [client.send(command(n=n)) for n in range(WAITING // 2)]
    sends += [client.send(event("orders.made", n)) for n in range(WAITING // 2, WAITING)]
    await asyncio.gather(*sends)
    tries = database.tries.total()
    await eventually(lambda: database.tries.total() > tries + 20)
    assert service.state is State.OUTAGE
    assert database.tries.total() < WAITING // 2
    database.error = None
    await eventually(lambda: len(database.done) == WAITING)
    assert set(database.done) == set(range(WAITING))
    await until_depths(rabbitmq_node, vhost.url, {QUEUE: 0, LETTERS: 2})


async def test_row_69_the_broker_is_killed_in_an_outage(
    mortal_node: RabbitMQNode, mortal_mesh: Transports
) -> None:
    """It goes on when the connection is back. What was in flight may be handled twice."""
    database = Database()
    service, client = await begins(mortal_mesh, database)
    await asyncio.gather(*(client.send(command(n=n)) for n in range(200)))
    await asyncio.to_thread(metadata_is_written, mortal_node)
    watch = Watch(service)
    for _ in range(2):
        tries = database.tries.total()
        await eventually(lambda: database.tries.total() > tries + 5)  # noqa: B023
        await asyncio.to_thread(mortal_node.kill)
        await asyncio.to_thread(mortal_node.start)
        await until(service, State.OUTAGE, within=20)
    assert watch.states == 2 * [State.RECOVERING, State.OUTAGE]
    database.error = None
    await eventually(lambda: set(database.done) >= set(range(200)), within=30)
    assert service.state is State.READY
    await until_depths(mortal_node, mortal_mesh.url, {QUEUE: 0, LETTERS: 2})


@KINDS
async def test_row_69_channels_end_in_an_outage(
    vhost: Transports, rabbitmq_node: RabbitMQNode, kind: dict[str, Any]
) -> None:
    database = Database()
    service, client = await begins(vhost, database, prefetch_count=5, **kind)
    await asyncio.gather(*(client.send(command(n=n)) for n in range(20)))
    watch = Watch(service)
    for _ in range(3):
        spoil(ports_of(service)[-1])
        await eventually(lambda: watch.states[-2:] == [State.RECOVERING, State.OUTAGE])
        watch.states.clear()
    database.error = None
    await eventually(
        lambda: set(database.done) == set(range(20)),
        describe=lambda: f"done {sorted(database.done)}, {service.state}: {service.stats()}",
    )
    await until_depths(rabbitmq_node, vhost.url, {QUEUE: 0, LETTERS: 2})


async def test_row_69_the_delivery_limit_is_not_reached(
    quorum: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """Returned by Basic.Nack it would be a dead letter at the fourth try, before RabbitMQ 4.3."""
    database = Database()
    settings = {**QUORUM, "delivery_limit": 3}
    service, client = await begins(quorum, database, **settings)
    await client.send(command(n=1))
    await eventually(lambda: database.tries[1] > 10)
    assert service.state is State.OUTAGE
    database.error = None
    await eventually(lambda: database.done == [1])
    await until_depths(rabbitmq_node, quorum.url, {QUEUE: 0, LETTERS: 2})


async def test_row_69_suspects_have_their_turns(
    quorum: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """Messages of a process that was killed are tried in an outage as all others."""
    settings = {**QUORUM, "delivery_limit": 7}  # a message that came back once is a suspect
    client = await quorum.client()
    async with ServiceProcess(quorum.url, **settings) as doomed:
        for n in range(6):
            await client.send(command(n=n))
        await doomed.began(6)
        await doomed.kill()
    database = Database(AWAY)
    service = await quorum.service(database, outage=SHORT, **settings)
    await until(service, State.OUTAGE)
    for n in (10, 11):
        await client.send(command(n=n))
    await eventually(lambda: database.tries[10] and database.tries[11], within=30)
    database.error = None
    await eventually(lambda: len(database.done) == 6, within=30)
    assert {10, 11} < set(database.done) < {*range(6), 10, 11}
    await until_depths(rabbitmq_node, quorum.url, {QUEUE: 0, LETTERS: 2})


@KINDS
async def test_row_69_another_instance_handles_what_one_cannot(
    vhost: Transports, rabbitmq_node: RabbitMQNode, kind: dict[str, Any]
) -> None:
    broken, sound = Database(), Database()
    service, client = await begins(vhost, broken, prefetch_count=4, **kind)
    other = await vhost.service(sound, outage=SHORT, **kind)
    await asyncio.gather(*(client.send(command(n=n)) for n in range(100)))
    await eventually(lambda: len(sound.done) == 100)
    assert (service.state, other.state) == (State.OUTAGE, State.READY)
    await until_depths(rabbitmq_node, vhost.url, {QUEUE: 0, LETTERS: 2})


@KINDS
async def test_row_69_the_single_active_consumer_stays_the_one(
    vhost: Transports, rabbitmq_node: RabbitMQNode, kind: dict[str, Any]
) -> None:
    """Another takes over when it is stopped."""
    broken, sound = Database(), Database()
    settings = {"single_active_consumer": True, **kind}
    service, client = await begins(vhost, broken, **settings)
    await vhost.service(sound, outage=SHORT, **settings)
    await asyncio.gather(*(client.send(command(n=n)) for n in range(10)))
    tries = broken.tries.total()
    await eventually(lambda: broken.tries.total() > tries + 10)
    assert not sound.done
    await service.stop()
    await eventually(lambda: set(sound.done) == set(range(10)))
    await until_depths(rabbitmq_node, vhost.url, {QUEUE: 0, LETTERS: 2})


async def test_row_69_what_the_queue_refuses_stays_in_it(
    mesh: Transports, rabbitmq_node: RabbitMQNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is full of what others send, and takes nothing back."""
    monkeypatch.setattr(publisher, "REFUSED_PAUSES", (0.1,))
    database = Database()
    service, client = await begins(mesh, database, prefetch_count=2)
    with policy(rabbitmq_node, mesh.url, QUEUE, max_length=4, overflow="reject-publish"):
        await asyncio.gather(*(sent(client, command(n=n)) for n in range(6)))  # two are in hand
        tries = database.tries.total()
        await eventually(lambda: database.tries.total() > tries + 10)
        assert service.state is State.OUTAGE
        database.error = None
        await eventually(lambda: set(database.done) == set(range(6)))
    await until_depths(rabbitmq_node, mesh.url, {QUEUE: 0, LETTERS: 2})


async def sent(client: Transport, payload: dict[str, Any]) -> None:
    """Send a message, again and again while the queue is full."""
    while True:
        try:
            await client.send(payload)
        except PublishNackedError:
            continue
        break


async def test_row_69_an_alarm_in_an_outage(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    """Nothing can be put back; it is, once the alarm is over."""
    database = Database()
    service, client = await begins(mesh, database, outage=Outage(after=2, probe_every=0.2))
    await asyncio.gather(*(client.send(command(n=n)) for n in range(6)))
    watch = Watch(service)
    async with alarm(rabbitmq_node):
        await until(service, State.BLOCKED)
        tries = database.tries.total()
        await eventually(lambda: database.tries.total() > tries)
    await until(service, State.OUTAGE)
    assert watch.states == [State.BLOCKED, State.OUTAGE]
    database.error = None
    await eventually(lambda: set(database.done) == set(range(6)))
    assert len(database.done) == 6
    await until_depths(rabbitmq_node, mesh.url, {QUEUE: 0, LETTERS: 2})
