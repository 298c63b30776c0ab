"""Row 25: the connection is lost while requests are pending."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import Message, NuropbOutcomeUnknownError, NuropbTimeoutError, Settlement
from nuropb_rmq.testing import RabbitMQNode

from ..support import Transports, Watch, eventually, request, result_of
from .console import until_gone
from .proxy import Proxy, Wire


class Gate:
    """A handler that answers when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.open = asyncio.Event()

    async def __call__(self, message: Message) -> object:
        self.begun += 1
        await self.open.wait()
        return message.payload["params"]


async def test_row_25_answers_that_come_after_recovery_are_taken(
    mesh: Transports, proxy: Proxy
) -> None:
    gate = Gate()
    await mesh.service(gate)
    client = await mesh.client(amqp_url=proxy.url, instance_id="one")
    calls = [asyncio.create_task(client.request(request(n=n))) for n in range(20)]
    await eventually(lambda: gate.begun == 20)
    watch = Watch(client)
    proxy.reset()
    await watch.recovered()
    gate.open.set()
    assert [result_of(each)["n"] for each in await asyncio.gather(*calls)] == list(range(20))


async def test_row_25_answers_lost_in_the_gap_are_unknown(
    mesh: Transports, proxy: Proxy, rabbitmq_node: RabbitMQNode
) -> None:
    gate = Gate()
    service = await mesh.service(gate)
    client = await mesh.client(amqp_url=proxy.url, unknown_outcome_after=0.5)
    calls = [asyncio.create_task(client.request(request(n=n), timeout=60)) for n in range(20)]
    await eventually(lambda: gate.begun == 20)
    watch, queue = Watch(client), client.response_queue
    proxy.set(Wire.REFUSE)
    proxy.reset()
    await watch.left()
    await until_gone(rabbitmq_node, mesh.url, queue)
    gate.open.set()  # the answers go to a queue that is not there
    await eventually(lambda: service.stats().settled[Settlement.ACK] == 20)
    proxy.set(Wire.PASS)
    outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
    assert all(isinstance(each, NuropbOutcomeUnknownError) for each in outcomes), outcomes
    assert client.pending == 0
    assert result_of(await client.request(request(n=1))) == {"n": 1}


async def test_row_25_a_deadline_ends_the_waiting_first(mesh: Transports, proxy: Proxy) -> None:
    gate = Gate()
    await mesh.service(gate)
    client = await mesh.client(amqp_url=proxy.url)
    call = asyncio.create_task(client.request(request(), timeout=0.6))
    await eventually(lambda: gate.begun == 1)
    proxy.reset()
    with pytest.raises(NuropbTimeoutError):
        await call
    gate.open.set()


async def test_row_25_requests_made_after_recovery_are_not_given_up(
    mesh: Transports, proxy: Proxy
) -> None:
    gate = Gate()
    await mesh.service(gate)
    client = await mesh.client(amqp_url=proxy.url, unknown_outcome_after=0.3)
    lost = asyncio.create_task(client.request(request(n=1)))
    await eventually(lambda: gate.begun == 1)
    watch = Watch(client)
    proxy.reset()
    await watch.recovered()
    later = asyncio.create_task(client.request(request(n=2)))
    with pytest.raises(NuropbOutcomeUnknownError):
        await lost
    gate.open.set()
    assert result_of(await later) == {"n": 2}


async def test_row_25_stop_ends_every_request(mesh: Transports) -> None:
    gate = Gate()
    await mesh.service(gate)
    client = await mesh.client()
    calls = [asyncio.create_task(client.request(request(n=n))) for n in range(20)]
    await eventually(lambda: gate.begun == 20)
    await client.stop()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each).__name__ for each in outcomes} == {"TransportClosedError"}
    gate.open.set()
