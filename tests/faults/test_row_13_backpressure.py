"""Row 13: what waits, and what is written and not confirmed, is bounded, and its time goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from nuropb_rmq import (
    Message,
    NuropbTimeoutError,
    OutboxFullError,
    PendingFullError,
    State,
    Transport,
)
from nuropb_rmq.amqp.publisher_channel import PER_MESSAGE
from nuropb_rmq.amqp.router import HIGH_WATER

from ..encrypting import tapping
from ..seams import connections_of, inside, publisher_of, publishing
from ..support import Recorder, Transports, Watch, command, eventually, request, result_of
from .proxy import Proxy, Way, Wire

KB = "x" * 1024


async def lose(client: Transport, proxy: Proxy) -> None:
    """Cut its connection; there is no other until the wire passes again."""
    proxy.set(Wire.REFUSE)
    watch = Watch(client)
    proxy.reset()
    await watch.left()


async def post_until_full(client: Transport, text: str = KB) -> list[Awaitable[None]]:
    """Numbered commands, until there is no room for more."""
    posts: list[Awaitable[None]] = []
    for n in range(10_000):
        try:
            posts.append(client.post(command(n=n, text=text)))
        except OutboxFullError:
            return posts
        await asyncio.sleep(0)  # what a tick brings leaves in one write
    raise AssertionError("there is no bound")


def numbers(recorder: Recorder) -> list[int]:
    return [each.payload["params"]["n"] for each in recorder.seen]


async def test_row_13_bytes_that_wait_are_bounded(mesh: Transports, proxy: Proxy) -> None:
    recorder = Recorder()
    await mesh.service(recorder, prefetch_count=1)
    client = await mesh.client(amqp_url=proxy.url, outbox_bytes=50_000)
    await lose(client, proxy)
    posts = await post_until_full(client)
    assert 50_000 - 2_000 < publishing(client).outbox.bytes <= 50_000
    proxy.set(Wire.PASS)
    await asyncio.gather(*posts)
    await eventually(lambda: numbers(recorder) == list(range(len(posts))))


async def test_row_13_requests_that_wait_are_bounded(mesh: Transports, proxy: Proxy) -> None:
    """They wait for the consumer of their responses, and count apart."""
    await mesh.service(Recorder())
    client = await mesh.client(amqp_url=proxy.url, outbox_messages=3, outbox_bytes=5_000)
    await lose(client, proxy)
    with pytest.raises(OutboxFullError, match="outbox_bytes"):
        await client.request(request(text=KB * 5))
    calls = [asyncio.create_task(client.request(request(n=n))) for n in range(3)]
    await eventually(lambda: len(publishing(client).held) == 3)
    with pytest.raises(OutboxFullError, match="outbox_messages"):
        await client.request(request(n=3))
    assert client.pending == 3
    proxy.set(Wire.PASS)
    assert [result_of(each)["n"] for each in await asyncio.gather(*calls)] == [0, 1, 2]


async def test_row_13_requests_that_wait_for_their_answers_are_bounded(mesh: Transports) -> None:
    """Awaited ones and posted ones; what was refused was not sent, and there is room again."""
    gate = asyncio.Event()
    seen: list[int] = []

    async def slow(message: Message) -> int:
        n: int = message.payload["params"]["n"]
        seen.append(n)
        await gate.wait()
        return n

    await mesh.service(slow)
    client = await mesh.client(max_pending=3)
    calls = [asyncio.create_task(client.request(request(n=n))) for n in range(3)]
    await eventually(lambda: len(seen) == 3)
    with pytest.raises(PendingFullError, match="3 requests wait for their answers"):
        await client.request(request(n=3))
    await client.send(command(n=4))  # nothing answers a command
    calls.pop().cancel()
    await eventually(lambda: client.pending == 2)
    calls.append(asyncio.create_task(client.request(request(n=5))))
    await eventually(lambda: len(seen) == 5)
    gate.set()
    assert [result_of(each) for each in await asyncio.gather(*calls)] == [0, 1, 5]
    assert 3 not in seen


async def test_row_13_requests_that_were_taken_are_sent_whatever_waits_beside_them(
    mesh: Transports, proxy: Proxy
) -> None:
    """Both bounds are reached; when the connection is back nothing is refused of what was taken."""
    await mesh.service(Recorder())
    client = await mesh.client(amqp_url=proxy.url, outbox_messages=3)
    await lose(client, proxy)
    calls = [asyncio.create_task(client.request(request(n=n))) for n in range(3)]
    await eventually(lambda: len(publishing(client).held) == 3)
    posts = await post_until_full(client)
    assert len(posts) == 3
    publisher_of(client).responses_come(True)  # the consuming connection was quicker
    assert (publisher_of(client).waiting, publishing(client).outbox.overfull) == (6, True)
    publisher_of(client).responses_come(False)
    with pytest.raises(OutboxFullError, match="outbox_messages"):
        await client.request(request(n=3))
    proxy.set(Wire.PASS)
    await asyncio.gather(*posts)
    assert [result_of(each)["n"] for each in await asyncio.gather(*calls)] == [0, 1, 2]


async def test_row_13_responses_that_a_program_posts_are_bounded(
    mesh: Transports, proxy: Proxy
) -> None:
    """Only a service's own answers are always taken: the prefetch count bounds those."""
    client = await mesh.client(amqp_url=proxy.url, outbox_messages=3)
    await lose(client, proxy)
    response = {"tag": "response", "result": 1, "error": None, "correlation_id": "c-1"}
    for _ in range(3):
        client.post({**response, "reply_to": "nuropb-nobody-rq"})
    with pytest.raises(OutboxFullError, match="outbox_messages"):
        client.post({**response, "reply_to": "nuropb-nobody-rq"})


async def test_row_13_what_is_not_confirmed_is_bounded(mesh: Transports, proxy: Proxy) -> None:
    """A broker that reads and confirms nothing: so much is written, and the rest waits."""
    recorder = Recorder()
    await mesh.service(recorder, prefetch_count=1)
    bound = 2 * HIGH_WATER
    client = await mesh.client(amqp_url=proxy.url, outbox_bytes=bound)
    proxy.hole(Way.DOWN)
    posts = await post_until_full(client)
    written = publisher_of(client).unconfirmed
    assert bound < written * (1024 + PER_MESSAGE + 1024) < bound * 1.5  # 1 KB of text, and JSON
    assert publisher_of(client).waiting == len(posts) - written
    assert client.state is State.READY
    proxy.set(Wire.PASS)
    await asyncio.gather(*posts)
    await eventually(lambda: numbers(recorder) == list(range(len(posts))))
    channel = publishing(client).channel
    assert channel is not None
    assert channel.room == bound


async def test_row_13_a_slow_wire_fills_the_outbox_and_no_buffers(
    mesh: Transports, proxy: Proxy
) -> None:
    """Publishing pauses at the high-water mark of the socket's buffer."""
    recorder = Recorder()
    await mesh.service(recorder, prefetch_count=1)
    client = await mesh.client(amqp_url=proxy.url, outbox_bytes=8 * 2**20)
    proxy.slow(50_000)
    large = KB * 100
    posts = await post_until_full(client, large)
    router = connections_of(client)[0].router
    assert not router.writable
    buffered = inside(router).unsent
    # The router's buffer of one tick, and the transport's: a message may go over either mark.
    assert 0 < buffered <= 2 * (HIGH_WATER + len(large) + 1024)
    proxy.slow(None)
    await asyncio.gather(*posts)
    await eventually(lambda: numbers(recorder) == list(range(len(posts))))


async def test_row_13_an_expiration_goes_on_while_it_waits(mesh: Transports, proxy: Proxy) -> None:
    """A caller's timeout is its message's expiration, from the call on and not from the writing."""
    loop = asyncio.get_running_loop()
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.bind, "orders")
        client = await mesh.client(amqp_url=proxy.url)
        await lose(client, proxy)
        began = loop.time()
        late = asyncio.create_task(client.send(command(n=0), ttl=0.3))
        call = asyncio.create_task(client.request(request(n=1), timeout=20))
        send = asyncio.create_task(client.send(command(n=2), ttl=10))
        await asyncio.sleep(0.5)
        waited = loop.time() - began
        proxy.set(Wire.PASS)
        with pytest.raises(NuropbTimeoutError, match="expired"):
            await late
        await send
        taken = await asyncio.to_thread(tap.take, count=2)
        passed = loop.time() - began
        await client.send(command(n=3), ttl=10)
        ((fresh, _),) = await asyncio.to_thread(tap.take)
        call.cancel()
    assert fresh.expiration == "10000"
    left = sorted(int(properties.expiration or 0) for properties, _ in taken)
    for whole, rest in zip((10_000, 20_000), left, strict=True):
        assert whole - passed * 1000 <= rest <= whole - waited * 1000 + 50
