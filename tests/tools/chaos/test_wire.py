"""The proxy of the chaos run breaks what it says, and nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from nuropb_rmq.amqp import frames

from ...support import eventually
from ...unit.amqp.harness import content, method
from .plan import Ways
from .wire import NO_SUCH_TAG, Proxy, Stream, Use

PROTOCOL = b"AMQP\x00\x00\x09\x01"
PUBLISH = commands.Basic.Publish(exchange="x", routing_key="k")


class Far:
    """The broker's place: remembers what it heard, and says what it is told to."""

    def __init__(self) -> None:
        self.heard: list[bytearray] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.ended: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        heard = bytearray()
        self.heard.append(heard)
        try:
            while data := await reader.read(65536):
                heard += data
            self.ended.append("finished")
        except ConnectionError:
            self.ended.append("reset")
        writer.close()


class Lines:
    """A proxy, its far end, and near ends."""

    def __init__(self, proxy: Proxy, far: Far) -> None:
        self.proxy = proxy
        self.far = far
        self.near: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One more connection, all the way."""
        count = len(self.far.writers)
        self.near.append(await asyncio.open_connection("127.0.0.1", self.proxy.port))
        await eventually(lambda: len(self.far.writers) > count)
        await eventually(lambda: len(self.proxy.connections) > 0)
        self.near[-1][1].write(PROTOCOL)
        await self.hears(count, PROTOCOL)
        return self.near[-1]

    async def hears(self, number: int, data: bytes) -> None:
        """The far end of this connection has heard exactly this."""
        heard = self.far.heard[number]
        await eventually(lambda: heard == data, describe=lambda: f"{heard!r} {data!r}")


@pytest.fixture
async def lines() -> AsyncIterator[Lines]:
    far = Far()
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[1]) as proxy:
        made = Lines(proxy, far)
        yield made
    for _, writer in made.near:
        writer.transport.abort()
    await eventually(lambda: len(far.ended) == len(far.writers))
    server.close()


HELLO = method(1, commands.Basic.Qos(prefetch_count=1))


async def silent(reader: asyncio.StreamReader) -> None:
    """Nothing comes, not even an end."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)


async def test_it_passes_on_in_both_directions(lines: Lines) -> None:
    reader, writer = await lines.connect()
    writer.write(HELLO)
    await lines.hears(0, PROTOCOL + HELLO)
    lines.far.writers[0].write(b"anything")
    assert await reader.readexactly(8) == b"anything"
    writer.close()
    await eventually(lambda: lines.far.ended == ["finished"])


async def test_reset_and_finish(lines: Lines) -> None:
    reader, _ = await lines.connect()
    lines.proxy.connections[0].reset()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    await eventually(lambda: lines.far.ended == ["reset"])
    reader, _ = await lines.connect()
    lines.proxy.connections[0].finish()
    assert await reader.read(1) == b""
    await eventually(lambda: lines.far.ended == ["reset", "finished"])


async def test_a_cut_leaves_half_of_what_comes_next(lines: Lines) -> None:
    reader, _ = await lines.connect()
    cutting = asyncio.create_task(lines.proxy.connections[0].cut(5))
    await asyncio.sleep(0)
    lines.far.writers[0].write(b"anything")
    assert await cutting
    with pytest.raises(ConnectionResetError):
        assert await reader.readexactly(5) != b"anyth"
    await eventually(lambda: lines.far.ended == ["reset"])
    await lines.connect()
    assert not await lines.proxy.connections[0].cut(0.01)  # nothing comes: nothing is cut


async def test_a_black_hole_is_for_the_connections_that_there_are(lines: Lines) -> None:
    reader, writer = await lines.connect()
    lines.proxy.connections[0].silence(Ways.BOTH)
    writer.write(HELLO)
    lines.far.writers[0].write(b"anything")
    await silent(reader)
    other, another = await lines.connect()
    another.write(HELLO)
    await lines.hears(1, PROTOCOL + HELLO)
    lines.far.writers[1].write(b"x")
    assert await other.readexactly(1) == b"x"
    writer.transport.abort()  # the program gives it up: nobody hears of that, either
    await asyncio.sleep(0.1)
    assert lines.far.ended == []
    assert lines.far.heard[0] == PROTOCOL
    lines.far.writers[0].close()
    await eventually(lambda: len(lines.proxy.connections) == 1)


async def test_in_a_hole_from_the_broker_it_hears_the_end_of_the_program(lines: Lines) -> None:
    reader, writer = await lines.connect()
    lines.proxy.connections[0].silence(Ways.DOWN)
    lines.far.writers[0].write(b"anything")
    await silent(reader)
    writer.write(HELLO)
    await lines.hears(0, PROTOCOL + HELLO)
    writer.transport.abort()
    await eventually(lambda: len(lines.far.ended) == 1)


async def test_in_a_hole_to_the_broker_the_program_hears_the_brokers_end(lines: Lines) -> None:
    reader, writer = await lines.connect()
    lines.proxy.connections[0].silence(Ways.UP)
    writer.write(HELLO)
    lines.far.writers[0].write(b"x")
    assert await reader.readexactly(1) == b"x"
    lines.far.writers[0].close()
    assert await reader.read(1) == b""
    assert lines.far.heard[0] == PROTOCOL


async def test_away_everything_is_held_back_and_then_comes(lines: Lines) -> None:
    reader, writer = await lines.connect()
    lines.proxy.away(True)
    writer.write(HELLO)
    lines.far.writers[0].write(b"anything")
    await silent(reader)
    assert lines.far.heard[0] == PROTOCOL
    lines.proxy.away(False)
    assert await reader.readexactly(8) == b"anything"
    await lines.hears(0, PROTOCOL + HELLO)


async def test_slow(lines: Lines) -> None:
    reader, _ = await lines.connect()
    lines.proxy.rate = 10_000.0
    loop = asyncio.get_running_loop()
    began = loop.time()
    lines.far.writers[0].write(bytes(3_000))
    assert await reader.readexactly(3_000)
    assert loop.time() - began > 0.2
    lines.proxy.rate = None
    lines.far.writers[0].write(bytes(3_000_000))
    async with asyncio.timeout(5):
        assert await reader.readexactly(3_000_000)


async def test_what_spoils_a_channel_comes_between_messages(lines: Lines) -> None:
    _, writer = await lines.connect()
    connection = lines.proxy.connections[0]
    assert not await connection.spoil(Use.PUBLISHING)
    said = [
        method(1, commands.Basic.Consume(queue="q")),
        method(2, commands.Confirm.Select()),
        *content(2, PUBLISH, b"some body"),
    ]
    writer.write(b"".join(said[:-1]))
    await lines.hears(0, PROTOCOL + b"".join(said[:-1]))
    assert not await connection.spoil(Use.PUBLISHING)  # its body is still to come
    assert await connection.spoil(Use.CONSUMING)
    said.insert(-1, frames.pack_ack(1, NO_SUCH_TAG))
    writer.write(said[-1])
    await lines.hears(0, PROTOCOL + b"".join(said))
    assert await connection.spoil(Use.PUBLISHING)
    said.append(frames.pack_ack(2, NO_SUCH_TAG))
    await lines.hears(0, PROTOCOL + b"".join(said))
    connection.silence(Ways.UP)
    assert not await connection.spoil(Use.CONSUMING)


async def test_a_channel_that_is_closed_is_not_spoiled(lines: Lines) -> None:
    _, writer = await lines.connect()
    said = method(1, commands.Basic.Consume(queue="q")) + method(
        1, commands.Channel.Close(200, "", 0, 0)
    )
    writer.write(said)
    await lines.hears(0, PROTOCOL + said)
    assert not await lines.proxy.connections[0].spoil(Use.CONSUMING)


async def test_a_broker_that_is_not_there_is_a_reset() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with Proxy(port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


@settings(deadline=None)
@given(st.lists(st.integers(0, 400), max_size=12))
def test_a_stream_is_whole_however_it_is_cut(cuts: list[int]) -> None:
    """Whole frames only come out, all of them, and the state is the same."""
    said = [
        PROTOCOL,
        method(1, commands.Basic.Consume(queue="q")),
        *content(2, PUBLISH, b"some body", cuts=(4,)),
        *content(2, PUBLISH, b""),
        *content(3, PUBLISH, b"another")[:2],
    ]
    data = b"".join(said)
    ends = {sum(map(len, said[:n])) for n in range(len(said) + 1)}
    stream, out = Stream(), 0
    edges = sorted({0, *(min(each, len(data)) for each in cuts), len(data)})
    for start, end in itertools.pairwise(edges):
        out += len(stream.take(data[start:end]))
        assert out in ends
        assert out == max(each for each in ends if each <= end)
    assert out == len(data)
    assert stream.uses == {1: Use.CONSUMING}
    assert stream.content == {3: 7}
