"""Row 13: publishing while there is no connection."""

from __future__ import annotations

import asyncio
import time

import pytest

from nuropb_rmq import (
    ConnectionLostError,
    NuropbException,
    NuropbNotSentError,
    NuropbOutcomeUnknownError,
    NuropbTimeoutError,
    NuropbTransportError,
    OutboxFullError,
    State,
    Transport,
)
from nuropb_rmq.amqp.outgoing import Outgoing
from nuropb_rmq.protocol.constants import MessageType
from nuropb_rmq.protocol.writer import pack_properties, publish_method
from nuropb_rmq.transport.packer import identify

from ..seams import outbound_of, publisher_of, publishing
from ..support import Recorder, Transports, Watch, command, eventually, request, result_of
from .proxy import Proxy, Wire


async def lost(client: Transport, proxy: Proxy) -> None:
    proxy.set(Wire.REFUSE)
    watch = Watch(client)
    proxy.reset()
    await watch.left()


async def test_row_13_waits_for_the_connection_and_keeps_the_order(
    mesh: Transports, proxy: Proxy
) -> None:
    recorder = Recorder()
    await mesh.service(recorder, prefetch_count=1)
    client = await mesh.client(amqp_url=proxy.url)
    await lost(client, proxy)
    sends = [asyncio.create_task(client.send(command(n=n))) for n in range(50)]
    call = asyncio.create_task(client.request(request(n=50)))
    await eventually(lambda: publisher_of(client).waiting == 50)
    proxy.set(Wire.PASS)
    await asyncio.gather(*sends)
    assert result_of(await call) == {"n": 50}
    await eventually(lambda: len(recorder.seen) == 51)
    assert [each.payload["params"]["n"] for each in recorder.seen] == list(range(51))


async def test_row_13_what_is_in_the_outbox_at_its_deadline_is_never_sent(
    mesh: Transports, proxy: Proxy
) -> None:
    recorder = Recorder()
    await mesh.service(recorder)
    client = await mesh.client(amqp_url=proxy.url)
    await lost(client, proxy)
    with pytest.raises(NuropbNotSentError, match="never sent"):
        await client.send(command(n=1), timeout=0.2)
    with pytest.raises(NuropbNotSentError, match="not sent"):
        await client.request(request(n=2), timeout=0.2)
    assert publisher_of(client).waiting == 0
    proxy.set(Wire.PASS)
    assert result_of(await client.request(request(n=3))) == {"n": 3}
    assert [each.payload["params"]["n"] for each in recorder.seen] == [3]


@pytest.mark.parametrize(
    ("resend", "error"), [(False, NuropbNotSentError), (True, NuropbTimeoutError)]
)
async def test_row_13_nor_when_the_loop_stands_still_until_there_is_room_again(
    mesh: Transports, resend: bool, error: type[NuropbTimeoutError]
) -> None:
    """Its deadline has passed, and its timer had no turn yet: it is looked at once more.

    One that may be written twice may have been written before: "never sent" would be a guess.
    """
    recorder = Recorder()
    await mesh.service(recorder)
    client = await mesh.client()
    publisher, channel = publisher_of(client), publishing(client).channel
    assert channel is not None
    publisher.detach(channel, ConnectionLostError("a test"))
    told: list[NuropbException | None] = []
    deadline = asyncio.get_running_loop().time() + 0.01
    late = identify(command(n=1))
    packed = outbound_of(client).pack(
        late, kind=MessageType.COMMAND, deadline=deadline, resend=resend
    )
    publisher.publish(packed, told.append)
    time.sleep(0.05)  # noqa: ASYNC251 - it is the fault
    publisher.attach(channel)
    assert [type(each) for each in told] == [error]
    assert result_of(await client.request(request(n=2))) == {"n": 2}
    assert [each.payload["params"]["n"] for each in recorder.seen] == [2]


async def test_row_13_the_outbox_is_bounded(mesh: Transports, proxy: Proxy) -> None:
    await mesh.service(Recorder())
    client = await mesh.client(amqp_url=proxy.url, outbox_messages=3, outbox_bytes=5_000)
    await lost(client, proxy)
    with pytest.raises(OutboxFullError, match="outbox_bytes"):
        await client.send(command(text="x" * 6_000))
    sends = [asyncio.create_task(client.send(command(n=n))) for n in range(3)]
    await eventually(lambda: publisher_of(client).waiting == 3)
    with pytest.raises(OutboxFullError, match="outbox_messages"):
        await client.send(command(n=3))
    proxy.set(Wire.PASS)
    await asyncio.gather(*sends)


async def test_row_13_written_but_not_confirmed_is_unknown_and_never_sent_twice(
    mesh: Transports, proxy: Proxy
) -> None:
    recorder = Recorder()
    await mesh.service(recorder)
    client = await mesh.client(amqp_url=proxy.url)
    proxy.set(Wire.HOLE)
    send = asyncio.create_task(client.send(command(n=1)))
    await eventually(lambda: publisher_of(client).unconfirmed == 1)
    proxy.reset()
    with pytest.raises(NuropbOutcomeUnknownError, match="may or may not"):
        await send
    proxy.set(Wire.PASS)
    await client.wait_for(State.READY, timeout=10)
    assert result_of(await client.request(request(n=2))) == {"n": 2}
    assert [each.payload["params"]["n"] for each in recorder.seen] == [2]


async def test_row_13_not_confirmed_in_time_is_unknown(mesh: Transports, proxy: Proxy) -> None:
    client = await mesh.client(amqp_url=proxy.url)
    proxy.set(Wire.HOLE)
    with pytest.raises(NuropbOutcomeUnknownError, match="not confirmed"):
        await client.send(command(n=1), timeout=0.3)
    proxy.set(Wire.PASS)
    await eventually(lambda: publisher_of(client).unconfirmed == 0)


async def test_row_13_what_cannot_be_written_ends_alone(
    mesh: Transports, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that cannot be packed, and one whose outcome nobody can be told of."""
    recorder = Recorder()
    await mesh.service(recorder, prefetch_count=1)
    client = await mesh.client(amqp_url=proxy.url)
    await lost(client, proxy)
    outcomes: list[object] = []

    def unfit(outcome: object) -> None:
        outcomes.append(outcome)
        raise RuntimeError

    before = asyncio.create_task(client.send(command(n=1)))
    await eventually(lambda: publisher_of(client).waiting == 1)
    text: bytes = "text"  # type: ignore[assignment]
    properties = pack_properties(MessageType.EVENT, "c-1", trace_id=None)
    for body in (text, b"{}"):
        method = publish_method("", "nuropb-nobody-sq", False)
        publisher_of(client).publish(Outgoing(method, properties, body), unfit)
    behind = asyncio.create_task(client.send(command(n=2)))
    await eventually(lambda: publisher_of(client).waiting == 4)
    proxy.set(Wire.PASS)
    await asyncio.gather(before, behind)
    await eventually(lambda: len(recorder.seen) == 2 and len(outcomes) == 2)
    assert [each.payload["params"]["n"] for each in recorder.seen] == [1, 2]
    assert isinstance(outcomes[0], NuropbTransportError)
    assert outcomes[1] is None
    assert "could not be written: TypeError" in str(outcomes[0])
    assert "the callback for a message's outcome failed" in caplog.text
    assert publisher_of(client).unconfirmed == 0
    assert client.state is State.READY
