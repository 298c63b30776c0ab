"""Tests of garbage in place of a broker's answers: start() fails in time, a session comes back."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto

import pytest
from pamqp import commands

from nuropb_rmq import NuropbException, NuropbTransportError, State, Transport, TransportConfig

from ..fake_broker import Answer, FakeBroker, polite, saying, silent_on
from ..faults.proxy import Proxy
from ..support import Recorder, Transports, eventually, request, result_of
from ..unit.amqp.harness import HEARTBEAT, deliver, method
from ..unit.amqp.strategies import MIXED

CONNECT_TIMEOUT = 1.0
LATE = 4.0
"""Seconds more than that: aiormq gives its reader, which may be stuck, 2 s to end. Else it is 0."""


AT_ONCE = 25
"""Brokers; more would keep each other from answering in time."""


def frame(kind: int, number: int, payload: bytes) -> bytes:
    """A frame that is whole, whatever it holds."""
    return struct.pack(">BHI", kind, number, len(payload)) + payload + b"\xce"


START = b"\x00\x0a\x00\x0a\x00\x09"
NAMES = b"\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US"
GARBAGE = {
    "zeros": bytes(5000),
    "ones": b"\xff" * 500,
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "another AMQP": b"AMQP\x00\x01\x00\x00" * 1000,
    "half a frame": b"\x01\x00\x00\x00\x00\xff\x00",
    "a frame without measure": b"\x01\x00\x00\x7f\xff\xff\xff",
    "a frame without a method": frame(1, 0, b""),
    "a method that nobody knows": frame(1, 0, b"\x00\x63\x00\x63"),
    "a frame of a type that nobody knows": frame(77, 0, b"x"),
    "a table that ends too early": frame(1, 0, START + b"\x00\x00"),
    "a table with a type that nobody knows": frame(1, 0, START + b"\0\0\0\4\1aZz" + NAMES),
    "a time beyond all years": frame(1, 0, START + b"\0\0\0\x0b\1aT" + b"\xff" * 8 + NAMES),
    "no way to log in": method(0, commands.Connection.Start(0, 9, {}, "RIDDLE", "en_US")),
    "frames of one byte": method(0, commands.Connection.Tune(1, 1, 1)),
    "heartbeats": HEARTBEAT * 500,
    "CloseOk": method(0, commands.Connection.CloseOk()),
    "a channel's CloseOk": method(1, commands.Channel.CloseOk()),
    "answers to nothing": method(1, commands.Queue.DeclareOk("q", 0, 0)) * 100,
    "a little of everything": b"".join(MIXED) * 20,
    "silence": b"",
}
STAGES = (
    "Connection.StartOk", "Connection.Open", "Channel.Open", "Exchange.Declare", "Queue.Declare",
    "Basic.Consume", "Confirm.Select",
)  # fmt: skip


class Then(Enum):
    """The behaviour of a server after it has sent its data."""

    WAIT = auto()
    CLOSE = auto()
    FLOOD = auto()
    """It says it again and again, as fast as it goes."""
    DRIP = auto()
    """One byte after the other."""


@asynccontextmanager
async def saying_at_once(data: bytes, then: Then) -> AsyncIterator[str]:
    """A server that says this to whoever connects; its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while data and then is Then.FLOOD and not writer.is_closing():
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0)
            for at in range(len(data) if then is Then.DRIP else 0):
                if writer.is_closing():
                    return
                writer.write(data[at : at + 1])
                await asyncio.sleep(0.01)
            writer.write(data)
            if then is not Then.CLOSE:
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    if tasks:
        await asyncio.wait(tasks)


async def start_fails(url: str, case: str, *, late: float = LATE) -> None:
    """It does, with an error of ours, and in time."""
    config = TransportConfig(
        amqp_url=url, service_name="c", client_only=True, connect_timeout=CONNECT_TIMEOUT
    )
    transport = Transport(config)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(NuropbTransportError) as caught:
        async with asyncio.timeout(10):
            await transport.start()
    took = loop.time() - began
    assert took < CONNECT_TIMEOUT + late, f"{case}: {took:.1f} s"
    assert "internal error" not in str(caught.value), f"{case}: {caught.value!r}"
    assert transport.state is State.STOPPED, case


async def test_start_fails_when_what_answers_is_no_broker() -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def fails(case: str, data: bytes, then: Then) -> None:
        async with room, saying_at_once(data, then) as url:
            await start_fails(url, f"{case}, {then}")

    every = itertools.product(GARBAGE.items(), Then)
    await asyncio.gather(*(fails(*garbage, then) for garbage, then in every))


async def test_start_fails_when_the_broker_goes_mad() -> None:
    """At each of its answers, from the login to the last channel."""
    room = asyncio.Semaphore(AT_ONCE)

    async def fails(case: str, answer: Answer) -> None:
        async with room, FakeBroker(answer) as broker:
            await start_fails(broker.url, case)

    every = itertools.product(STAGES, GARBAGE.items())
    cases = {f"{stage}, {case}": saying(stage, data) for stage, (case, data) in every}
    del cases["Confirm.Select, a little of everything"]  # it has all that is still waited for
    await asyncio.gather(*(fails(case, answer) for case, answer in cases.items()))


async def test_start_fails_in_time_when_the_broker_falls_silent() -> None:
    """At any of its answers; it does not answer Connection.Close then, either."""

    async def fails(stage: str) -> None:
        async with FakeBroker(silent_on(stage, "Connection.Close")) as broker:
            await start_fails(broker.url, stage, late=0.9)

    await asyncio.gather(*(fails(stage) for stage in STAGES))


async def test_logging_in_and_setting_up_share_connect_timeout() -> None:
    async with FakeBroker(silent_on("Connection.Open", "Channel.Open")) as broker:
        starting = asyncio.create_task(start_fails(broker.url, "set-up", late=0.5))
        await broker.until("Connection.Open")
        await asyncio.sleep(0.7 * CONNECT_TIMEOUT)  # a slow broker
        broker.send(method(0, commands.Connection.OpenOk()))
        await broker.until("Channel.Open")
        await starting


async def test_a_setup_whose_connection_is_closed_behind_a_frame_is_tried_again() -> None:
    """aiormq ends its waiters with a bare Exception then; the transport must not fail of it."""
    async with FakeBroker() as broker:
        config = TransportConfig(
            amqp_url=broker.url, service_name="c", client_only=True, reconnect_cap=0.1
        )
        transport = Transport(config)
        await transport.start()
        states: list[State] = []
        transport.on_state_change(lambda state, _: states.append(state))
        broker.answer = saying("Queue.Declare", method(0, commands.Connection.CloseOk()))
        tried = len(broker.frames("Queue.Declare"))
        broker.drop()
        await eventually(lambda: len(broker.frames("Queue.Declare")) > tried + 2)
        broker.answer = polite
        await eventually(lambda: states[-1] is State.READY, describe=lambda: states)
        assert states == [State.RECOVERING, State.READY]
        await transport.stop(grace=0.1)


LIVE = {
    **{case: data for case, data in GARBAGE.items() if "half" not in case},
    "Connection.OpenOk": method(0, commands.Connection.OpenOk()),
    "Connection.Close": method(0, commands.Connection.Close(320, "", 0, 0)),
    "Connection.Close, cut off": frame(1, 0, b"\x00\x0a\x00\x32\x01"),
    "Channel.Close": method(1, commands.Channel.Close(404, "no", 0, 0)),
    "Channel.Flow": method(2, commands.Channel.Flow(False)),
    "Basic.Cancel": method(1, commands.Basic.Cancel("nobody's")),
    "GetEmpty": method(2, commands.Basic.GetEmpty()),
    "deliveries of a channel that is not there": b"".join(deliver(9, 1, b"x")) * 20,
    "confirms of what was never sent": method(2, commands.Basic.Ack(2**63 - 1, True)),
    "the beginning of a delivery": deliver(1, 1, b"x")[0],
}
del LIVE["a little of everything"]  # Connection.Blocked is in it, and never taken back


async def test_a_session_works_again_after_what_no_broker_says(mesh: Transports) -> None:
    """Said in the middle of it, in the broker's name; each to a client of its own, all at once."""
    await mesh.service(Recorder())

    async def works(case: str, data: bytes) -> None:
        async with Proxy(mesh.url) as proxy:
            client = await mesh.client(amqp_url=proxy.url)
            proxy.say(data)
            for attempt in range(20):
                try:
                    answer = await client.request(request(n=attempt), timeout=1)
                except NuropbException:
                    await asyncio.sleep(0.1)
                    continue
                assert result_of(answer) == {"n": attempt}
                break
            else:
                raise AssertionError(f"{case}: no call worked again; {client.state}")
            await client.stop(grace=1)

    async with asyncio.timeout(30):
        await asyncio.gather(*(works(case, data) for case, data in LIVE.items()))
