"""Row 5: a channel is closed with 406 while publishes and acks are in flight."""

from __future__ import annotations

import asyncio

from nuropb_rmq import NuropbOutcomeUnknownError, Transport
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.channel import ChannelPort
from nuropb_rmq.testing import RabbitMQNode

from ..seams import connections_of, publisher_of
from ..support import Recorder, Transports, Watch, command, request, result_of
from .console import connections


def ports_of(transport: Transport) -> list[ChannelPort]:
    """Every registered channel of a transport, in the order of its setup."""
    return [port for each in connections_of(transport) for port in each.ports]


def spoil(port: ChannelPort) -> None:
    """Acknowledge what was never delivered: the broker closes the channel with 406."""
    port.write(frames.pack_ack(port.number, 999_999_999))


async def test_row_05_service_channel_closed_under_load(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    recorder = Recorder()
    service = await mesh.service(recorder, prefetch_count=300)
    client = await mesh.client()
    before = await asyncio.to_thread(connections, rabbitmq_node)
    watch = Watch(service)
    for _ in range(3):
        calls = [asyncio.create_task(client.request(request(n=n), timeout=20)) for n in range(200)]
        done, _pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert done
        spoil(ports_of(service)[-1])
        await watch.recovered(5)
        answers = await asyncio.gather(*calls)
        assert [result_of(each)["n"] for each in answers] == list(range(200))
    assert await asyncio.to_thread(connections, rabbitmq_node) == before


async def test_row_05_publishing_channel_closed_with_publishes_in_flight(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    recorder = Recorder()
    await mesh.service(recorder, prefetch_count=300)
    client = await mesh.client()
    before = await asyncio.to_thread(connections, rabbitmq_node)
    watch = Watch(client)
    sends = [asyncio.create_task(client.send(command(n=n))) for n in range(100)]
    await asyncio.sleep(0)
    assert publisher_of(client).unconfirmed == 100
    spoil(ports_of(client)[-1])
    sends += [asyncio.create_task(client.send(command(n=n))) for n in range(100, 200)]
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    await watch.recovered(5)
    confirmed = {n for n, outcome in enumerate(outcomes) if outcome is None}
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, NuropbOutcomeUnknownError), outcome
    await client.request(request(n=-1))
    handled = [each.payload["params"]["n"] for each in recorder.seen]
    assert confirmed <= set(handled)
    assert len(handled) == len(set(handled)), "something was sent twice"
    assert await asyncio.to_thread(connections, rabbitmq_node) == before
