"""The life of a virtual host: who keeps it, in which process and event loop."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nuropb_rmq import Mesh, NuropbTransportError, State, TransportConfig, configure
from nuropb_rmq.memory.errors import ChannelError
from nuropb_rmq.memory.host import VirtualHost, held, virtual_host

from ...seams import memory_names
from .support import Taker, bodies, message


class Member:
    """A connection that counts the calls of forsake()."""

    def __init__(self) -> None:
        self.forsaken = 0

    def forsake(self) -> None:
        """Note it."""
        self.forsaken += 1


@pytest.fixture
def host() -> Iterator[VirtualHost]:
    with held("unit") as made:
        yield made
    assert "unit" not in memory_names()


def queue(host: VirtualHost, name: str = "q", *, owner: object = None, **options: Any) -> None:
    """Declare a queue; one with an owner is exclusive."""
    arguments = {key.replace("_", "-"): value for key, value in options.items() if key[:2] == "x_"}
    host.declare_queue(
        name,
        durable=options.get("durable", True),
        auto_delete=options.get("auto_delete", False),
        arguments=arguments,
        exclusive=owner is not None,
        owner=owner,
    )


# -- its life ---------------------------------------------------------------------------------


async def test_it_ends_with_its_last_connection() -> None:
    host, first, second = virtual_host("brief"), Member(), Member()
    host.join(first)
    host.join(second)
    assert virtual_host("brief") is host
    host.leave(first)
    assert virtual_host("brief") is host
    host.leave(second)
    assert "brief" not in memory_names()


async def test_it_is_held() -> None:
    with held("brief") as host:
        with held("brief") as again:
            assert again is host
        member = Member()
        host.join(member)
        host.leave(member)
        assert virtual_host("brief") is host
        host.join(member)
    assert virtual_host("brief") is host
    host.leave(member)
    assert "brief" not in memory_names()


async def test_it_ends_with_its_last_mesh() -> None:
    async with Mesh("memory://brief"):
        async with Mesh("memory://brief"):
            pass
        assert "brief" in memory_names()
    assert "brief" not in memory_names()


async def test_what_was_configured_waits_for_the_first_mesh() -> None:
    await configure(TransportConfig(amqp_url="memory://brief", service_name="orders"))
    assert "nuropb-orders-dlq" in virtual_host("brief").queues
    async with Mesh("memory://brief", configure=False) as mesh:
        assert mesh.state is State.READY
    assert "brief" not in memory_names()


def test_held_from_loop_to_loop() -> None:
    """Messages stay in their queue, and their time goes on."""

    async def send() -> None:
        async with Mesh("memory://unit") as mesh:
            config = TransportConfig(amqp_url="memory://unit", service_name="orders")
            assert mesh.state is State.READY
            await configure(config)
            await mesh.publish_event("t", 1, ttl=0.001)
            await mesh.publish_event("t", 2)

    async def look() -> int:
        async with Mesh("memory://unit"):
            return len(virtual_host("unit").queues["q"])

    with held("unit") as host:
        host.declare_exchange("nuropb-events-exchange", "topic", durable=True)
        queue(host)
        host.bind("q", "nuropb-events-exchange", "#", None)
        asyncio.run(send())
        assert host.loop is None
        time.sleep(0.002)  # its ttl, and as much again
        assert asyncio.run(look()) == 1


def test_the_connections_of_a_closed_loop_are_gone(host: VirtualHost) -> None:
    member, keeper = Member(), object()

    async def joined() -> None:
        host.join(member)
        queue(host, "own", owner=member, durable=False)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(joined())
    host.keepers[keeper] = None
    assert virtual_host("unit") is host
    assert member.forsaken == 0
    loop.close()
    assert virtual_host("unit") is host
    assert (member.forsaken, host.loop, "own" in host.queues) == (1, None, False)
    host.release(keeper)


async def test_another_loop_is_refused(host: VirtualHost) -> None:
    async def start() -> None:
        await Mesh("memory://unit").start()

    async with Mesh("memory://unit") as mesh:
        with pytest.raises(NuropbTransportError, match="in use in another event loop"):
            await asyncio.to_thread(asyncio.run, start())
        assert mesh.state is State.READY


async def test_declaring_is_for_any_loop(host: VirtualHost) -> None:
    config = TransportConfig(amqp_url="memory://unit", service_name="orders")
    async with Mesh("memory://unit"):
        await asyncio.to_thread(asyncio.run, configure(config))
    assert "nuropb-orders-dlq" in host.queues


def _start_in_child(pipe: Any) -> None:
    async def start() -> None:
        try:
            await Mesh("memory://unit").start()
        except NuropbTransportError as e:
            pipe.send(str(e))

    asyncio.run(start())


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_another_process_is_refused(host: VirtualHost) -> None:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_start_in_child, args=(theirs,))
    child.start()
    assert ours.poll(20)
    text = ours.recv()
    child.join()
    assert f"memory://unit is of process {os.getpid()}, and this is process {child.pid}" in text
    assert "use a RabbitMQ to reach others" in text


# -- declaring and routing --------------------------------------------------------------------


def test_exclusive_queues_go_with_their_connection(host: VirtualHost) -> None:
    one, two = Member(), Member()
    queue(host, "q", owner=one, durable=False)
    queue(host, "shared")
    host.bind("q", "amq.direct", "k", one)
    for refused in (
        lambda: queue(host, "q", owner=two, durable=False),
        lambda: queue(host, "q", durable=False),
        lambda: queue(host, "shared", owner=one),
        lambda: host.queue("q", two),
        lambda: host.bind("q", "amq.direct", "k", two),
    ):
        with pytest.raises(ChannelError, match="cannot obtain exclusive access") as raised:
            refused()
        assert raised.value.code == 405
    host.leave(two)
    assert host.queue("q", one).name == "q"
    host.leave(one)
    assert host.queues.keys() == {"shared"}
    assert host.route("amq.direct", message(key="k")) == []


def test_missing_and_reserved_names(host: VirtualHost) -> None:
    queue(host)
    cases: list[tuple[int, str, Any]] = [
        (404, "no queue 'x' in vhost 'unit'", lambda: host.queue("x", None)),
        (404, "no exchange 'x' in vhost 'unit'", lambda: host.exchange("x")),
        (404, "no exchange 'x' in vhost 'unit'", lambda: host.delete_exchange("x")),
        (404, "no exchange 'x'", lambda: host.route("x", message())),
        (403, "operation not permitted on the default", lambda: host.bind("q", "", "k", None)),
        (403, "queue name 'amq.x' contains reserved", lambda: queue(host, "amq.x")),
        (
            403, "exchange name 'amq.x' contains reserved",
            lambda: host.declare_exchange("amq.x", "direct", durable=True),
        ),
        (
            406, "unknown exchange type 'odd'",
            lambda: host.declare_exchange("e", "odd", durable=True),
        ),
    ]  # fmt: skip
    for code, text, request in cases:
        with pytest.raises(ChannelError, match=text) as raised:
            request()
        assert raised.value.code == code


def test_an_exchange_is_deleted(host: VirtualHost) -> None:
    host.declare_exchange("e", "fanout", durable=True)
    queue(host)
    host.bind("q", "e", "", None)
    host.delete_exchange("e")
    host.declare_exchange("e", "direct", durable=False)
    assert host.route("e", message()) == []


def test_a_headers_exchange_reads_the_message(host: VirtualHost) -> None:
    queue(host)
    host.bind("q", "amq.headers", "", None, {"kind": "a"})
    for kind, count in (("a", 1), ("b", 0)):
        headers = b"\x04kindS\x00\x00\x00\x01" + kind.encode()
        assert len(host.route("amq.headers", message(headers=headers))) == count


def test_a_queue_is_deleted_with_its_bindings(host: VirtualHost) -> None:
    queue(host)
    for exchange in ("amq.direct", "amq.topic", "amq.fanout"):
        host.bind("q", exchange, "k", None)
    host.delete_queue(host.queue("q", None))
    assert all(
        host.route(f"amq.{k}", message(key="k")) == [] for k in ("direct", "topic", "fanout")
    )


# -- dead letters -----------------------------------------------------------------------------


def test_dead_letters_go_to_each_queue_of_their_exchange(host: VirtualHost) -> None:
    for name in ("one", "two"):
        queue(host, name)
        host.bind(name, "amq.fanout", "", None)
    queue(host, "full", x_max_length=0, x_overflow="reject-publish")
    host.bind("full", "amq.fanout", "", None)
    queue(host, x_dead_letter_exchange="amq.fanout")
    host.queues["q"].reject(message("a"))
    (one,), (two,) = host.queues["one"], host.queues["two"]
    assert one is not two
    assert (one.body, two.body, len(host.queues["full"])) == (b"a", b"a", 0)


@pytest.mark.parametrize("exchange", ["nowhere", "", "amq.direct"])
def test_dead_letters_that_go_nowhere(host: VirtualHost, exchange: str) -> None:
    queue(host, x_dead_letter_exchange=exchange, x_dead_letter_routing_key="nobody")
    host.queues["q"].reject(message("a"))
    assert len(host.queues["q"]) == 0


@pytest.mark.parametrize("rejects", [True, False])
def test_a_circle(host: VirtualHost, rejects: bool) -> None:
    queue(host, x_dead_letter_exchange="", x_dead_letter_routing_key="q")
    circle = host.queues["q"]
    if rejects:
        circle.reject(message("a"))
    else:
        circle.put(message("a", expiration="0"))
        circle.subscribe(Taker(0))
        circle.deliver()
    assert bodies(circle) == ("a" if rejects else "")
