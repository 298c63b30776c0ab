"""nuropb 0.1.8 and we on one virtual host: queues, instances of one service, names."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pika
import pytest

from nuropb_rmq import (
    InstanceInUseError,
    Message,
    Outage,
    RMQTransport,
    State,
    Transport,
    TransportConfig,
    configure,
)
from nuropb_rmq.broker.topology import dead_letter_bindings

from ..encrypting import DL_QUEUE, HEADERS, Tap
from ..support import eventually
from .conftest import OURS, PREFETCH, Peers, start_caller, start_server
from .process import PeerError
from .sides import SERVICE, Answer, called

OLD_DL_QUEUE = "nuropb-orders-dl"  # what nuropb's RMQTransport calls it by default


@pytest.fixture
async def started() -> AsyncIterator[contextlib.AsyncExitStack]:
    """Ends what is started in a test."""
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def tap(old_peers: Peers) -> contextlib.closing[Tap]:
    """A plain AMQP client; not open yet."""
    return contextlib.closing(Tap(old_peers.url))


async def unused(*_: object) -> None:
    """A handler, or a callback, that is never called."""
    raise AssertionError("called")


def exists(url: str, queue: str) -> bool:
    """Return whether there is such a queue."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as e:
            if e.reply_code != 404:
                raise
            return False
        return True


# -- dead letters ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OURS)
async def test_we_never_declare_the_old_dead_letter_queue(
    old_peers: Peers, started: contextlib.AsyncExitStack, kind: str
) -> None:
    """Theirs is transient: whoever declares it otherwise is in the way of the other."""
    await start_server(kind, old_peers, started)
    assert exists(old_peers.url, DL_QUEUE)
    assert not exists(old_peers.url, OLD_DL_QUEUE)
    await old_peers.configure(OLD_DL_QUEUE)
    await old_peers.server()
    assert exists(old_peers.url, OLD_DL_QUEUE)


@pytest.mark.parametrize("kind", OURS)
async def test_old_first_and_then_we(
    old_peers: Peers, started: contextlib.AsyncExitStack, tap: contextlib.closing[Tap], kind: str
) -> None:
    await old_peers.configure(OLD_DL_QUEUE)
    await old_peers.configure()  # and a program that uses configure_mesh as it is
    await old_peers.server()
    await configure(TransportConfig(amqp_url=old_peers.url, service_name=SERVICE))
    await start_server(kind, old_peers, started)
    caller = await start_caller(kind, old_peers, started)
    with tap as look:
        await caller.command("fail", text="for all of them")
        queues = (DL_QUEUE, OLD_DL_QUEUE, "nuropb-dl-queue")
        await eventually(lambda: [look.depth(queue) for queue in queues] == [1, 1, 1])


async def test_what_an_old_instance_refuses_after_a_retry_is_still_of_its_service(
    old_peers: Peers, tap: contextlib.closing[Tap]
) -> None:
    """It died first in the queue where it waited; an old peer's queue has it as ever."""
    await old_peers.configure(OLD_DL_QUEUE)
    await old_peers.server()
    config = TransportConfig(amqp_url=old_peers.url, service_name=SERVICE)
    other = TransportConfig(amqp_url=old_peers.url, service_name="billing")
    for service in (config, other):
        await configure(service)
    rung = "nuropb-orders-retry-50"
    said = {**HEADERS, "nuropb_type": "command", "encrypted": ""}
    payload = {
        "tag": "command", "service": SERVICE, "method": "fail", "params": {"text": "again"},
        "correlation_id": "c", "context": {}, "trace_id": "t",
    }  # fmt: skip
    with tap as look:
        to_service = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "nuropb-orders-sq"}
        look.channel.queue_declare(
            rung, durable=True, arguments={"x-message-ttl": 50, **to_service}
        )
        for each in dead_letter_bindings(config, [rung]):
            look.channel.queue_bind(
                each.queue, each.exchange, each.routing_key, dict(each.arguments)
            )
        properties = pika.BasicProperties(correlation_id="c", headers=said)
        look.channel.basic_publish("", rung, json.dumps(payload).encode(), properties)
        queues = (DL_QUEUE, OLD_DL_QUEUE, "nuropb-billing-dlq")
        await eventually(lambda: [look.depth(queue) for queue in queues] == [1, 1, 0])
        ((letter, _),) = look.take(DL_QUEUE)
    deaths = [(each["queue"], each["reason"]) for each in letter.headers["x-death"]]
    assert deaths == [("nuropb-orders-sq", "rejected"), (rung, "expired")]


async def test_the_old_queue_can_be_ours_by_name_where_it_is(old_peers: Peers) -> None:
    """Taken as it is found, and not declared: with our properties that would be refused."""
    await old_peers.configure(OLD_DL_QUEUE)
    config = TransportConfig(amqp_url=old_peers.url, service_name=SERVICE, dl_queue=OLD_DL_QUEUE)
    await configure(config)
    await old_peers.configure(OLD_DL_QUEUE)


async def test_the_old_name_declared_by_us_is_in_the_way_of_old_peers(old_peers: Peers) -> None:
    """Why the default is another name."""
    config = TransportConfig(amqp_url=old_peers.url, service_name=SERVICE, dl_queue=OLD_DL_QUEUE)
    await configure(config)
    with pytest.raises(PeerError, match=r"406.*inequivalent arg 'durable'"):
        await old_peers.configure(OLD_DL_QUEUE)


# -- instances of one service ---------------------------------------------------------------


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("first", ["old", "ours"])
async def test_an_old_and_a_new_instance_share_the_work(
    old_peers: Peers, started: contextlib.AsyncExitStack, kind: str, first: str
) -> None:
    kinds = ["old", kind] if first == "old" else [kind, "old"]
    servers = [await start_server(each, old_peers, started) for each in kinds]
    params = [{"text": "n", "number": number} for number in range(200)]
    for calling in kinds:
        caller = await start_caller(calling, old_peers, started)
        assert await caller.requests("echo_later", params) == params
    counts = [len(await server.calls()) for server in servers]
    assert sum(counts) == 400
    assert min(counts) > 0, counts


@pytest.mark.parametrize("kind", OURS)
async def test_calls_again_in_a_mixed_service_come_to_an_end(
    old_peers: Peers, started: contextlib.AsyncExitStack, kind: str
) -> None:
    """Old instances count by `redelivered`, ours by a header: at most two more than one's own."""
    servers = [await start_server(each, old_peers, started) for each in ("old", kind)]
    caller = await start_caller(kind, old_peers, started)
    keys = [str(number) for number in range(20)]
    for times in (1, 99):
        answers = await asyncio.gather(
            *(caller.request("again", key=f"{times}-{key}", times=times) for key in keys)
        )
        refused = [each for each in answers if each.error == "NuropbCallAgainReject"]
        done = [each for each in answers if each.error is None]
        assert len(refused) + len(done) == len(keys), answers
        assert not (done and times == 99)
    calls = [each["key"] for server in servers for each in await server.calls()]
    assert max(calls.count(key) for key in calls) <= 4


@pytest.mark.parametrize("kind", OURS)
async def test_what_one_leaves_behind_the_other_does(
    old_peers: Peers, started: contextlib.AsyncExitStack, kind: str
) -> None:
    """An old instance is killed with work in hand, and with work in the queue."""
    old = await old_peers.server()
    caller = await start_caller(kind, old_peers, started)
    held = [asyncio.create_task(caller.request("hold", text=str(n))) for n in range(20)]
    await called(old, PREFETCH)
    server = await start_server(kind, old_peers, started)
    await server.release()
    await old.peer.kill()
    assert await asyncio.gather(*held) == [Answer(str(number)) for number in range(20)]


# -- one response queue ---------------------------------------------------------------------


async def test_an_instance_that_an_old_one_is_already(old_peers: Peers) -> None:
    await old_peers.server(instance="one")
    config = TransportConfig(
        amqp_url=old_peers.url, service_name=SERVICE, instance_id="one", instance_retry=0
    )
    transport = Transport(config, unused)
    with pytest.raises(InstanceInUseError, match="one"):
        await transport.start()


async def test_an_old_instance_that_we_are_already(
    old_peers: Peers, started: contextlib.AsyncExitStack
) -> None:
    """Its connect() returns as if all were well; its `connected` is False."""
    ours = RMQTransport(SERVICE, "one", old_peers.url, unused)
    await ours.start()
    started.push_async_callback(ours.stop)
    with pytest.raises(PeerError, match="not connected"):
        await old_peers.server(instance="one")
    assert ours.connected


@pytest.mark.parametrize("kind", OURS)
async def test_a_requester_that_is_gone_disturbs_nobody(
    old_peers: Peers, started: contextlib.AsyncExitStack, kind: str
) -> None:
    """Its response queue went with it: the answer finds no queue."""
    server = await start_server(kind, old_peers, started)
    gone = await old_peers.caller()
    call = asyncio.create_task(gone.request("hold", text="?"))
    await called(server, 1)
    await gone.peer.kill()
    with pytest.raises(AssertionError, match="has ended with status -9"):
        await call
    await server.release()
    caller = await start_caller("old", old_peers, started)
    assert await caller.request("echo", text="!") == Answer({"text": "!", "number": 0})


# -- outages --------------------------------------------------------------------------------


async def test_what_we_put_back_in_an_outage_is_handled_by_an_old_instance(
    old_peers: Peers, started: contextlib.AsyncExitStack
) -> None:
    """Commands and events: it takes the copy for the message."""
    tries = 0

    async def broken(_: Message) -> None:
        nonlocal tries
        tries += 1
        raise ConnectionError("the database is away")

    config = TransportConfig(
        amqp_url=old_peers.url,
        service_name=SERVICE,
        event_bindings=["orders.#"],
        prefetch_count=8,
        outage=Outage(after=1, probe_every=0.05),
    )
    ours = await started.enter_async_context(Transport(config, broken))
    caller = await old_peers.caller()
    await caller.command("echo", text="begins it")
    await eventually(lambda: ours.state is State.OUTAGE)
    for number in range(4):
        await caller.command("echo", text="put back", number=number)
        await caller.event("orders.created", {"id": number}, {})
    await eventually(lambda: tries > 1 + 8)
    server = await old_peers.server()
    calls = await called(server, 8)
    assert {each["number"] for each in calls if each["method"] == "echo"} == set(range(4))
    assert {each["event"]["id"] for each in calls if each["method"] == "event"} == set(range(4))
