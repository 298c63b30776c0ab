"""The proxy breaks what it says, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import pack_ack, pack_content, publish_method

from ..support import eventually
from .proxy import Proxy, Way, Wire

PROTOCOL = b"AMQP\x00\x00\x09\x01"


class Far:
    """The far end: remembers what it heard, and says what it is told to."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while data := await reader.read(65536):
                self.heard += data
        except ConnectionError:
            pass
        self.ended += 1
        writer.close()


@asynccontextmanager
async def wire() -> AsyncIterator[tuple[Proxy, Far, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A proxy, the far end, and the near end of one connection."""
    far = Far()
    async with await asyncio.start_server(far.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Proxy(f"amqp://guest:guest@127.0.0.1:{port}/") as proxy:
            near = await asyncio.open_connection("127.0.0.1", proxy.port)
            await eventually(lambda: far.writers)
            yield proxy, far, *near
            near[1].close()
            await eventually(lambda: far.ended == len(far.writers))


async def test_it_passes_on_in_both_directions() -> None:
    async with wire() as (proxy, far, reader, writer):
        writer.write(b"question")
        await eventually(lambda: far.heard == b"question")
        far.writers[0].write(b"answer")
        assert await reader.readexactly(6) == b"answer"
        assert proxy.accepted == 1


async def test_reset_and_finish() -> None:
    async with wire() as (proxy, far, reader, _):
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        again, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        await eventually(lambda: len(far.writers) == 2)
        proxy.finish()
        assert await again.read(1) == b""
        writer.close()


@pytest.mark.parametrize("way", Way)
async def test_a_hole_in_one_direction(way: Way) -> None:
    async with wire() as (proxy, far, reader, writer):
        proxy.hole(way)
        writer.write(b"question")
        far.writers[0].write(b"answer")
        if way is Way.UP:
            assert await reader.readexactly(6) == b"answer"
            assert not far.heard
        else:
            await eventually(lambda: far.heard)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)
        proxy.set(Wire.PASS)
        await eventually(lambda: far.heard == b"question")


async def test_an_end_does_not_come_out_of_a_hole() -> None:
    async with wire() as (proxy, far, _, writer):
        proxy.set(Wire.HOLE)
        writer.transport.abort()
        with pytest.raises(AssertionError):
            await eventually(lambda: far.ended, within=0.1)
        proxy.set(Wire.PASS)
        await eventually(lambda: far.ended)


async def test_accepted_and_silent() -> None:
    async with wire() as (proxy, far, _, __):
        proxy.set(Wire.SILENT)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"question")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        assert len(far.writers) == 1
        assert not far.heard
        writer.close()


async def test_slow() -> None:
    async with wire() as (proxy, far, _, writer):
        proxy.slow(10_000)
        began = asyncio.get_running_loop().time()
        writer.write(b"x" * 2_000)
        await eventually(lambda: len(far.heard) == 2_000)
        assert asyncio.get_running_loop().time() - began >= 0.15


async def test_cut_after() -> None:
    async with wire() as (proxy, far, reader, writer):
        proxy.cut_after(Way.UP, 5)
        writer.write(b"question")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        await eventually(lambda: far.ended == 1)
        # What was sent before a reset may be lost with it.
        assert bytes(far.heard) in (b"", b"quest")


async def test_a_method_is_lost_with_its_content_and_nothing_else_is() -> None:
    async with wire() as (proxy, far, _, writer):
        publish = publish_method("", "q", mandatory=False)
        messages = [
            pack_content(channel, publish, b"\x00\x00", body, 4096)
            for channel, body in ((1, b""), (2, b"y" * 9_000), (1, b"z"))
        ]
        proxy.drop(Way.UP, frames.BASIC_PUBLISH)
        kept = pack_ack(1, 1), pack_ack(2, 2)
        stream = b"".join((PROTOCOL, messages[0], kept[0], *messages[1:], kept[1]))
        for at in range(0, len(stream), 1_000):
            writer.write(stream[at : at + 1_000])
            await writer.drain()
        await eventually(lambda: bytes(far.heard) == PROTOCOL + b"".join(kept))
        assert proxy.dropped == 3


async def test_what_is_not_amqp_is_passed_on_as_it_is() -> None:
    async with wire() as (proxy, far, _, writer):
        proxy.drop(Way.UP, frames.BASIC_ACK)
        hello = b"\x16\x03\x01" + pack_ack(1, 1)
        writer.write(hello)
        await eventually(lambda: far.heard == hello)
        assert proxy.dropped == 0
