"""Row 50: a message is delivered again while its handler runs in the same process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import (
    Message,
    MessageCompleteFunction,
    NuropbCallAgain,
    RMQTransport,
    TransportServicePayload,
)
from nuropb_rmq.testing import RabbitMQNode

from ..compat.programs import answer
from ..support import Transports, Watch, command, eventually, request, result_of
from .common import joined
from .console import until_depths
from .proxy import Proxy

CUTS = 3
DL_QUEUE, SERVICE_QUEUE = "nuropb-orders-dlq", "nuropb-orders-sq"


class Long:
    """A handler that runs until it is let to end, and then does what the method says."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.end = asyncio.Event()

    async def __call__(self, message: Message) -> Any:
        method = message.payload["method"]
        self.begun.append((method, message.call_again_count))
        await self.end.wait()
        if method == "fail":
            raise ValueError("no")
        if method == "again" and not message.call_again_count:
            raise NuropbCallAgain
        return message.payload["params"]


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_row_50_one_run_whose_outcome_settles_it(
    quorum: Transports, rabbitmq_node: RabbitMQNode, queue_type: str
) -> None:
    """With a prefetch that is used up; each kind of outcome."""
    long = Long()
    async with Proxy(quorum.url) as proxy:
        service = await quorum.service(
            long, amqp_url=proxy.url, queue_type=queue_type, prefetch_count=4
        )
        client = await quorum.client()
        call = asyncio.create_task(client.request(request(n=7)))
        for method in ("done", "fail", "again"):
            await client.send(command(method))
        await eventually(lambda: len(long.begun) == 4)
        watch = Watch(service)
        for _ in range(CUTS):
            proxy.reset()
            await watch.recovered()
            await joined(service, 4)
        long.end.set()
        assert result_of(await call) == {"n": 7}
        await until_depths(rabbitmq_node, quorum.url, {SERVICE_QUEUE: 0, DL_QUEUE: 1})
        assert sorted(long.begun) == [
            ("again", 0), ("again", 1), ("done", 0), ("echo", 0), ("fail", 0),
        ]  # fmt: skip
        await service.stop()


async def test_row_50_the_drop_in_settles_what_joined(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """message_complete that is called after the message was delivered again."""
    begun: list[tuple[TransportServicePayload, MessageCompleteFunction]] = []

    def callback(
        message: TransportServicePayload, complete: MessageCompleteFunction, _: dict[str, Any]
    ) -> None:
        begun.append((message, complete))

    async with Proxy(mesh.url) as proxy:
        transport = RMQTransport("orders", "one", proxy.url, callback)
        await transport.start()
        client = await mesh.client()
        call = asyncio.create_task(client.request(request(n=7)))
        await eventually(lambda: begun)
        proxy.reset()
        await joined(transport.core, 1)
        for message, complete in begun:
            complete([answer(message, message["nuropb_payload"]["params"])], "ack")
        assert result_of(await call) == {"n": 7}
        await until_depths(rabbitmq_node, mesh.url, {SERVICE_QUEUE: 0, DL_QUEUE: 0})
        assert len(begun) == 1
        await transport.stop()
