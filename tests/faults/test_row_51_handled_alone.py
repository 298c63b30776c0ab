"""Row 51: a message on a quorum queue that may be what ends the processes that have it in hand."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from nuropb_rmq import Message, TransportConfig
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.consumer import Consumer
from nuropb_rmq.amqp.frames import Content, Properties
from nuropb_rmq.testing import RabbitMQNode
from nuropb_rmq.transport import suspects
from nuropb_rmq.transport.suspects import Suspects
from nuropb_rmq.waiting import Changes

from ..seams import set_aside
from ..support import LOG, Transports, command, eventually
from .common import QUORUM
from .console import until_depths
from .processes import ServiceProcess

SUSPECTS = 4
DL_QUEUE, SERVICE_QUEUE = "nuropb-orders-dlq", "nuropb-orders-sq"
SETTINGS = {**QUORUM, "delivery_limit": 7}  # a message that came back once is a suspect


class Gated:
    """A handler that notes what runs, and at most how many at a time; each waits for its gate."""

    def __init__(self) -> None:
        self.gates = asyncio.Semaphore(0)
        self.begun: list[int] = []
        self.running = 0
        self.most = 0

    async def __call__(self, message: Message) -> None:
        self.begun.append(message.payload["params"]["n"])
        self.running += 1
        self.most = max(self.most, self.running)
        await self.gates.acquire()
        self.running -= 1


@pytest.fixture
async def lost(quorum: Transports) -> Transports:
    """Commands that were in hand of a process that was killed."""
    client = await quorum.client()
    async with ServiceProcess(quorum.url, **SETTINGS) as doomed:
        for n in range(SUSPECTS):
            await client.send(command(n=n))
        await doomed.began(SUSPECTS)
        await doomed.kill()
    return quorum


async def test_row_51_one_after_the_other_and_nothing_else(
    lost: Transports, rabbitmq_node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages sent meanwhile begin when the suspects have ended; each suspect is named first."""
    gated = Gated()
    service = await lost.service(gated, **SETTINGS)
    await eventually(lambda: gated.running == 1)
    client = await lost.client()
    for n in (10, 11):
        await client.send(command(n=n))
    await eventually(lambda: set_aside(service))
    for ended in range(1, SUSPECTS):
        assert "handled alone" in caplog.records[-1].message
        gated.gates.release()
        await eventually(lambda: len(gated.begun) == ended + 1)  # noqa: B023
    assert gated.most == 1
    assert sorted(gated.begun) == list(range(SUSPECTS))
    gated.gates.release()
    await eventually(lambda: gated.begun[SUSPECTS:] == [10, 11])
    for _ in range(2):
        gated.gates.release()
    await until_depths(rabbitmq_node, lost.url, {SERVICE_QUEUE: 0, DL_QUEUE: 0})
    assert sum("handled alone" in each.message for each in caplog.records) == SUSPECTS


async def test_row_51_one_that_takes_long_does_not_hold_up_the_rest(
    lost: Transports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "ALONE_FOR", 0.1)
    gated = Gated()
    await lost.service(gated, **SETTINGS)
    await eventually(lambda: gated.running == SUSPECTS)
    for _ in range(SUSPECTS):
        gated.gates.release()


async def test_row_51_those_that_wait_go_back_at_stop(
    lost: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    gated = Gated()
    service = await lost.service(gated, **SETTINGS)
    await eventually(lambda: gated.running == 1)
    client = await lost.client()
    await client.send(command(n=10))
    await eventually(lambda: set_aside(service))
    stopping = asyncio.create_task(service.stop())
    others = Gated()
    await lost.service(others, **SETTINGS)
    for _ in range(SUSPECTS):
        others.gates.release()
    await eventually(lambda: len(others.begun) == SUSPECTS)  # while the one in hand goes on
    assert not stopping.done()
    gated.gates.release()
    await stopping
    assert sorted(gated.begun + others.begun) == [*range(SUSPECTS), 10]
    assert len(gated.begun) == 1
    await until_depths(rabbitmq_node, lost.url, {SERVICE_QUEUE: 0, DL_QUEUE: 0})


@pytest.mark.parametrize(
    ("limit", "count"), [(None, 5), (20, 5), (100, 25), (8, 2), (7, 1), (2, 1), (0, 1)]
)
async def test_row_51_from_a_quarter_of_the_limit_on(limit: int | None, count: int) -> None:
    config = TransportConfig(
        amqp_url="amqp://localhost/", service_name="orders", delivery_limit=limit, **QUORUM
    )

    async def idle() -> None:
        """Nothing is in hand."""

    made = Suspects(config, LOG, Changes(), begin=lambda *_: None, idle=idle)
    consumer = Consumer("q", None, lambda _: None, LOG, acks=True)  # type: ignore[arg-type]
    consumer.port = SimpleNamespace(open=False)  # type: ignore[assignment]

    def came_back(header: int | str) -> Content:
        table = frames.table_entry("x-delivery-count", header)
        raw = frames.encode_properties(Properties(headers=table, correlation_id="c"))
        return Content(1, True, b"\0\0", raw_properties=raw)

    assert not made.set_aside(consumer, came_back(count - 1))
    assert not made.set_aside(consumer, came_back("many"))
    assert made.set_aside(consumer, came_back(count))
    await made.cancel()
