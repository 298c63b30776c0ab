"""The frame router, writing: what leaves when, and how channels and connections end."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import AMQPConnectionError
from pamqp import commands

from nuropb_rmq import ConnectionLostError
from nuropb_rmq.amqp.channel import ChannelPort
from nuropb_rmq.amqp.frames import Content
from nuropb_rmq.amqp.heartbeat import now
from nuropb_rmq.amqp.outflow import WRITE_SIZE
from nuropb_rmq.amqp.router import HIGH_WATER, FrameRouter
from nuropb_rmq.exceptions import NuropbTransportError

from ...seams import inside
from ...support import LOG
from .harness import HEARTBEAT, Harness, Listener, body_frame, deliver, header, method, tick

UNKNOWN_TAG = "PRECONDITION_FAILED - unknown delivery tag 7"
CLOSE = method(1, commands.Channel.Close(406, UNKNOWN_TAG, 60, 80))
CLOSE_OK = method(1, commands.Channel.CloseOk())
OPEN_OK = method(1, commands.Channel.OpenOk())
PUBLISH = method(1, commands.Basic.Publish())


def writable(harness: Harness, number: int = 1) -> bool:
    """Ask anew whether the channel may be written to."""
    return harness.ports[number].writable


# -- writing ------------------------------------------------------------------------------------


async def test_what_one_tick_brings_leaves_in_one_write_in_order() -> None:
    harness = Harness(1, 2)
    for number, data in ((1, b"a"), (2, b"b"), (1, b"c")):
        harness.ports[number].write(data)
    assert harness.writes == []
    await tick()
    assert harness.writes == [b"abc"]
    harness.ports[1].write(b"d")
    await tick()
    harness.ports[2].write(b"e")
    await tick()
    assert harness.writes == [b"abc", b"d", b"e"]
    await tick(3)
    assert len(harness.writes) == 3


async def test_written_now_is_not_before_what_waits() -> None:
    harness = Harness(1)
    port = harness.ports[1]
    port.write_now(b"first")
    assert harness.writes == [b"first"]
    port.write(b"second")
    port.write_now(b"third")
    assert len(harness.writes) == 1
    await tick()
    assert harness.writes[1:] == [b"secondthird"]
    port.at_flush(partial(port.write, b"ack"))
    port.write_now(b"fourth")
    await tick()
    assert harness.writes[2:] == [b"fourthack"]
    port.write_now(b"fifth")
    assert harness.writes[3:] == [b"fifth"]
    await tick(2)
    assert len(harness.writes) == 4


async def test_nothing_is_written_now_to_a_channel_that_has_ended() -> None:
    harness = Harness(1)
    port = harness.ports[1]
    port.unregister("over")
    with pytest.raises(ConnectionLostError):
        port.write_now(b"late")


async def test_what_is_large_enough_leaves_before_the_tick_ends() -> None:
    harness = Harness(1, 2)
    first, rest = bytes(WRITE_SIZE), b"!"
    harness.ports[1].write(first)
    assert harness.writes == []
    harness.ports[2].write(rest)
    assert harness.writes == [first + rest]
    harness.ports[1].write(b"of the same tick")
    assert len(harness.writes) == 1
    await tick()
    assert harness.writes == [first + rest, b"of the same tick"]
    harness.ports[1].write(first + rest)
    assert harness.writes[2:] == [first + rest]
    await tick(2)
    assert len(harness.writes) == 3


async def test_what_is_called_at_the_flush_may_write_more_than_enough() -> None:
    harness = Harness(1)
    port = harness.ports[1]
    port.at_flush(lambda: port.write(bytes(WRITE_SIZE)))
    port.at_flush(lambda: port.write(b"ack"))
    port.write(b"first")
    await tick()
    assert b"".join(harness.writes) == b"first" + b"ack" + bytes(WRITE_SIZE)
    await tick(2)
    assert len(harness.writes) == 1


async def test_what_waits_for_the_flush_is_called_though_nothing_else_is_written() -> None:
    """An ack may be all that there is to write."""
    harness = Harness(1)
    port = harness.ports[1]
    for data in (b"one", b"two"):
        port.at_flush(partial(port.write, data))
        await tick()
        assert harness.writes.pop() == data


async def test_writable_is_neither_a_channel_that_ended_nor_a_wire_that_is_full() -> None:
    harness = Harness(1)
    port = harness.ports[1]
    seen = [port.writable]
    harness.router.pause_writing()
    seen.append(port.writable)
    harness.router.resume_writing()
    port.unregister("over")
    seen.append(port.writable)
    assert seen == [True, False, False]


async def test_writable_follows_the_transports_buffer() -> None:
    harness = Harness(1)
    assert harness.transport.high_water == HIGH_WATER
    harness.router.pause_writing()
    assert not writable(harness)
    harness.ports[1].write(b"an ack waits for nothing")
    await tick()
    assert harness.writes
    assert not writable(harness)
    harness.router.resume_writing()
    assert writable(harness)
    assert harness.events() == [("writable",)]


async def test_writable_follows_blocked_and_unblocked() -> None:
    harness = Harness(1)
    blocked = method(0, commands.Connection.Blocked("low on memory"))
    unblocked = method(0, commands.Connection.Unblocked())
    harness.feed(blocked)
    assert harness.router.blocked == "low on memory"
    assert not writable(harness)
    harness.feed(unblocked)
    assert writable(harness)
    assert harness.blocked == ["low on memory", None]
    assert harness.events() == [("writable",)]
    assert harness.passed == blocked + unblocked


async def test_writable_waits_for_all_that_holds_it_back() -> None:
    harness = Harness(1)
    harness.feed(method(0, commands.Connection.Blocked("low on disk")))
    harness.router.pause_writing()
    harness.feed(method(0, commands.Connection.Unblocked()))
    assert not writable(harness)
    assert harness.events() == []
    harness.router.resume_writing()
    assert harness.events() == [("writable",)]


# -- the end of a channel -----------------------------------------------------------------------


async def test_what_is_packed_is_written_before_aiormq_sees_channel_close() -> None:
    harness = Harness(1, 2)
    harness.ports[1].write(b"packed")
    harness.ports[2].write(b"of another")
    harness.feed(CLOSE)
    assert harness.log == [("write", b"packedof another"), ("feed", CLOSE)]
    assert harness.events(1) == [("closed",)]
    (reason,) = harness.listeners[1].reasons
    assert (reason.code, reason.text) == (406, UNKNOWN_TAG)
    assert not harness.ports[1].open
    assert not writable(harness)
    with pytest.raises(ConnectionLostError, match="channel 1 has ended"):
        harness.ports[1].write(b"too late")
    with pytest.raises(ConnectionLostError):
        harness.ports[1].cancel("ctag")
    assert harness.ports[2].open
    await tick(2)
    assert len(harness.writes) == 1
    assert harness.lost == []


async def test_a_channel_that_aiormq_closed_ends_with_close_ok() -> None:
    harness = Harness(1)
    harness.ports[1].write(b"packed")
    harness.feed(CLOSE_OK)
    assert harness.log == [("write", b"packed"), ("feed", CLOSE_OK)]
    assert harness.events() == [("closed",)]
    assert harness.listeners[1].reasons[0].code == 0


async def test_after_unregister_content_is_dropped_until_close_ok() -> None:
    harness = Harness(1)
    harness.ports[1].write(b"packed")
    harness.ports[1].unregister("the session ended")
    assert harness.log == [("write", b"packed")]
    assert harness.events() == [("closed",)]
    harness.ports[1].unregister("again")
    assert harness.events() == [("closed",)]
    control = method(1, commands.Basic.QosOk())
    harness.feed(
        *deliver(1, 1, b"late", cuts=(2,)),
        method(1, commands.Basic.Ack(1)),
        method(1, commands.Basic.Nack(2)),
        method(1, commands.Basic.CancelOk("ctag")),
        method(1, commands.Basic.Return(312, "NO_ROUTE", "", "x")),
        header(1, 0),
        control,
        CLOSE_OK,
    )
    assert harness.passed == control + CLOSE_OK
    # Opened again, the number is clean: what comes now belongs to whoever has it.
    content = b"".join(deliver(1, 1, b"a new channel"))
    harness.feed(OPEN_OK, content)
    assert harness.passed == control + CLOSE_OK + OPEN_OK + content
    harness.register(1)
    harness.feed(content)
    assert [each[-1] for each in harness.events()] == [b"a new channel"]
    assert harness.events()[0][0] == "content"


async def test_a_message_that_was_cut_off_by_the_end_leaves_nothing_behind() -> None:
    harness = Harness(1)
    first = deliver(1, 1, b"first half, second half", cuts=(10,))
    harness.feed(*first[:3])
    harness.ports[1].unregister("the session ended")
    harness.feed(first[3], CLOSE_OK)
    harness.register(1)
    harness.feed(*deliver(1, 1, b"whole"))
    assert [each[-1] for each in harness.events()] == [b"whole"]


async def test_channel_close_from_both_sides() -> None:
    harness = Harness(1)
    harness.ports[1].unregister("the session ended")  # aiormq's Channel.Close is on its way
    harness.feed(*deliver(1, 1, b"late"), CLOSE, CLOSE_OK)
    assert harness.passed == CLOSE + CLOSE_OK  # aiormq answers the one, and has its answer
    assert harness.events() == [("closed",)]
    harness.register(1)
    harness.feed(*deliver(1, 1, b"new"))
    assert harness.events()[0][-1] == b"new"


async def test_channel_close_from_the_broker_and_then_from_us() -> None:
    harness = Harness(1)
    harness.feed(CLOSE)
    harness.ports[1].unregister("the session ended")  # too late: there is nothing to end
    assert harness.events() == [("closed",)]
    content = b"".join(deliver(1, 1, b"of the next channel"))
    harness.feed(CLOSE_OK, OPEN_OK, content)
    assert harness.passed == CLOSE + CLOSE_OK + OPEN_OK + content


async def test_content_behind_the_brokers_channel_close_is_dropped() -> None:
    """RabbitMQ's writer may have deliveries in hand when its reader sends Channel.Close."""
    harness = Harness(1)
    first, second = deliver(1, 1, b"cut in two", cuts=(3,)), deliver(1, 2, b"late")
    harness.feed(*first[:3], CLOSE, first[3], *second, method(1, commands.Basic.Ack(1)))
    assert harness.passed == CLOSE
    assert harness.events() == [("closed",)]
    harness.feed(OPEN_OK)
    harness.register(1)
    harness.feed(*deliver(1, 1, b"new"))
    assert [each[-1] for each in harness.events()] == [b"new"]


async def test_a_listener_may_end_its_channel_from_within() -> None:
    class Finicky(Listener):
        port: ChannelPort

        def on_content(self, content: Content) -> None:
            super().on_content(content)
            self.port.write(b"last word")
            self.port.unregister("seen enough")

    harness = Harness()
    finicky = Finicky()
    finicky.port = harness.router.register(1, finicky)
    harness.feed(b"".join((*deliver(1, 1, b"one"), *deliver(1, 2, b"two"), CLOSE_OK)))
    assert [each[0] for each in finicky.events] == ["content", "closed"]
    assert harness.log == [("write", b"last word"), ("feed", CLOSE_OK)]


# -- the end of the connection ------------------------------------------------------------------


async def test_every_end_of_the_connection_releases_everyone_once() -> None:
    ends: dict[str, Callable[[FrameRouter], object]] = {
        "lost": lambda router: router.connection_lost(None),
        "reset": lambda router: router.connection_lost(ConnectionResetError("reset by peer")),
        "eof": lambda router: router.eof_received(),
        "abort": lambda router: router.abort("enough"),
        "close": lambda router: router.data_received(
            method(0, commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0))
        ),
    }
    for name, end in ends.items():
        harness = Harness(1, 2)
        harness.ports[1].write(PUBLISH)
        harness.ports[1].write(method(1, commands.Basic.Ack(1)))
        end(harness.router)
        (lost,) = harness.lost
        assert harness.writes == [], name
        assert not writable(harness)
        with pytest.raises(ConnectionLostError):
            harness.ports[1].write(b"too late")
        with pytest.raises(ConnectionLostError) as raised:
            harness.router.register(3, Listener())
        assert raised.value is lost
        for again in ends.values():
            if again is not ends["lost"]:
                again(harness.router)
        await tick(2)
        assert harness.lost == [lost], name
        for number in (1, 2):
            unsent = [("unsent", 1)] if number == 1 else []
            assert harness.events(number) == [*unsent, ("closed",)], name
            assert harness.listeners[number].reasons == [lost]
        assert harness.writes == [], name


# -- a loop that stands still -------------------------------------------------------------------


async def test_what_was_packed_before_and_after_a_long_pause_is_not_written() -> None:
    harness = Harness(1)
    harness.router.watch(10.0, 30.0)
    harness.ports[1].write(PUBLISH)
    harness.clock.ahead += 21.0
    harness.ports[1].write(PUBLISH + bytes(WRITE_SIZE))
    await tick(3)
    assert "stood still for 21 s" in str(harness.router.lost)
    assert harness.events() == [("unsent", 2), ("closed",)]
    assert harness.writes == []


@pytest.mark.parametrize("size", [0, WRITE_SIZE])
async def test_after_a_shorter_pause_what_has_arrived_is_read_first(size: int) -> None:
    harness = Harness(1)
    harness.router.watch(10.0, 30.0)
    harness.clock.ahead += 11.0
    harness.ports[1].write(PUBLISH + bytes(size))
    asyncio.get_running_loop().call_soon(harness.router.eof_received)
    await tick(3)
    assert harness.events() == [("unsent", 1), ("closed",)]
    assert harness.writes == []


async def test_after_a_shorter_pause_it_is_written_when_nothing_has_arrived() -> None:
    harness = Harness(1)
    harness.router.watch(10.0, 30.0)
    harness.clock.ahead += 11.0
    harness.ports[1].write(PUBLISH)
    await tick(2)
    assert harness.writes == []
    await tick()
    assert harness.writes == [PUBLISH]
    assert harness.router.lost is None
    inside(harness.router).look()  # the loop turns as ever
    harness.ports[1].write(PUBLISH)
    await tick()
    assert harness.writes == [PUBLISH, PUBLISH]
    harness.router.abort("done")


async def test_the_pause_is_noticed_by_an_idle_connection_too() -> None:
    harness = Harness(1)
    harness.router.watch(10.0, 30.0)
    harness.feed(HEARTBEAT)
    harness.clock.ahead += 21.0
    inside(harness.router).look()
    assert "stood still" in str(harness.router.lost)


def test_a_machine_that_sleeps_is_a_pause() -> None:
    """CLOCK_MONOTONIC, and with it asyncio's clock, stands still meanwhile on Linux."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= now() <= time.clock_gettime(time.CLOCK_BOOTTIME)


async def test_the_error_of_a_lost_connection_is_not_logged_as_one_that_nobody_took() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    harness = Harness(1)
    harness.router.connection_lost(ConnectionResetError("reset by peer"))
    assert vars(harness.router).pop("_closed").done()  # garbage collection may take it first
    gc.collect()
    assert not complaints
    assert isinstance(harness.reader.exception(), ConnectionResetError)


async def test_a_connection_is_lost_whose_close_nobody_waits_for_any_more() -> None:
    harness = Harness(1)
    vars(harness.router)["_closed"].cancel()  # as a cancelled StreamWriter.wait_closed() does
    harness.router.connection_lost(None)
    assert [str(each) for each in harness.lost] == ["connection lost: closed"]


async def test_connection_close_of_the_broker_is_kept_and_passed_on() -> None:
    harness = Harness(1)
    close = method(0, commands.Connection.Close(320, "CONNECTION_FORCED - shutdown", 0, 0))
    content = b"".join(deliver(1, 1, b"behind the end"))
    harness.feed(close + content)
    assert harness.passed == close  # aiormq answers it; nothing counts behind it
    (lost,) = harness.lost
    assert isinstance(lost, NuropbTransportError)
    assert (lost.code, lost.text) == (320, "CONNECTION_FORCED - shutdown")
    assert harness.events() == [("closed",)]
    harness.feed(content)
    assert harness.passed == close


async def test_an_abort_reaches_the_socket_and_the_reader() -> None:
    harness = Harness(1)
    reading = asyncio.ensure_future(FrameReceiver(harness.reader).get_frame())
    await tick()
    harness.router.abort("closed")
    harness.router.abort("closed")
    assert harness.transport.is_closing()
    with pytest.raises(AMQPConnectionError):
        await asyncio.wait_for(reading, 1)
    assert harness.lost[0].description == "closed"


async def test_on_a_real_socket() -> None:
    """Writes reach the peer, content reaches the listener, nonsense closes the socket."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    reader, lost = asyncio.StreamReader(), loop.create_future()
    router = FrameRouter(reader, loop, LOG, on_blocked=lambda _: None, on_lost=lost.set_result)
    await loop.create_connection(lambda: router, sock=ours)
    writer_closed = router._get_close_waiter(None)  # type: ignore[attr-defined]
    listener = Listener()
    port = router.register(1, listener)
    port.write(b"to the broker")
    assert await asyncio.wait_for(loop.sock_recv(theirs, 100), 5) == b"to the broker"
    reading = asyncio.ensure_future(FrameReceiver(reader).get_frame())
    await loop.sock_sendall(theirs, b"".join(deliver(1, 1, b"hello")) + body_frame(1, b"nonsense"))
    reason = await asyncio.wait_for(lost, 5)
    assert [each[0] for each in listener.events] == ["content", "closed"]
    assert listener.reasons == [reason]
    with pytest.raises(AMQPConnectionError):
        await asyncio.wait_for(reading, 5)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(_until_closed(loop, theirs), 5)
    theirs.close()
    await writer_closed


async def _until_closed(loop: asyncio.AbstractEventLoop, peer: socket.socket) -> None:
    """A closed Unix socket reads as the end; a reset is the same to us."""
    if await loop.sock_recv(peer, 100) == b"":
        raise ConnectionResetError


# -- another secret -----------------------------------------------------------------------------


async def test_another_secret_is_written_by_us_and_its_ok_is_kept() -> None:
    harness = Harness(1)
    for secret in ("token", "tökén" * 1000):
        updating = asyncio.create_task(harness.router.update_secret(secret))
        await tick(2)
        assert harness.writes[-1] == method(
            0, commands.Connection.UpdateSecret(secret, "renewed before its expiry")
        )
        assert not updating.done()
        harness.feed(method(0, commands.Connection.UpdateSecretOk()))
        await updating
    assert harness.passed == b""


async def test_who_waits_for_the_ok_is_released_by_the_end_of_the_connection() -> None:
    harness = Harness(1)
    updating = asyncio.create_task(harness.router.update_secret("token"))
    await tick(2)
    harness.feed(method(0, commands.Connection.Close(530, "NOT_ALLOWED - refused", 10, 70)))
    with pytest.raises(ConnectionLostError, match="530 NOT_ALLOWED"):
        await updating
    with pytest.raises(ConnectionLostError, match="530 NOT_ALLOWED"):
        await harness.router.update_secret("token")
