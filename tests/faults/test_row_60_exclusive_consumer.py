"""Row 60: somebody else is the only consumer of the service queue while we come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import pytest

from nuropb_rmq import InstanceInUseError, State
from nuropb_rmq.broker import supervisor

from ..seams import connections_of, outbound_of
from ..support import Recorder, Transports, Watch, eventually
from .common import works
from .proxy import Proxy, Wire

SERVICE_QUEUE = "nuropb-orders-sq"


@asynccontextmanager
async def alone(url: str) -> AsyncIterator[None]:
    """Consumes the service queue exclusively, and gives back what it gets."""
    async with await aio_pika.connect(url) as holder:
        channel = await holder.channel()
        queue = await channel.get_queue(SERVICE_QUEUE)

        async def give_back(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await message.nack(requeue=True)

        await queue.consume(give_back, exclusive=True)
        yield


async def test_row_60_it_is_waited_for(
    mesh: Transports, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a locked response queue is, which in turn has nothing to do with it: it keeps its name."""
    monkeypatch.setattr(supervisor, "LOCKED_FOR", 0)
    service = await mesh.service(Recorder(), amqp_url=proxy.url, reconnect_cap=0.3)
    client = await mesh.client()
    watch = Watch(service)
    proxy.set(Wire.REFUSE)
    proxy.reset()
    await watch.left()
    async with alone(mesh.url):
        proxy.set(Wire.PASS)
        await eventually(lambda: isinstance(service.error, InstanceInUseError))
        assert "has an exclusive consumer" in str(service.error)
        tries = connections_of(service)[-1].tries
        await eventually(lambda: connections_of(service)[-1].tries >= tries + 2)
        assert service.state is State.RECOVERING
        assert outbound_of(service).topology.generation == 0
    await watch.recovered()
    await works(client, 5)


async def test_row_60_at_start_too(mesh: Transports) -> None:
    """For instance_retry."""
    first = await mesh.service(Recorder())
    await first.stop()
    service = mesh.transport("orders", Recorder())
    async with alone(mesh.url):
        late = mesh.transport("orders", Recorder(), instance_retry=0)
        with pytest.raises(InstanceInUseError, match=SERVICE_QUEUE):
            await late.start()
        starting = asyncio.create_task(service.start())
        await eventually(lambda: any(each.tries for each in connections_of(service)))
        assert not starting.done()
    await starting
    await works(await mesh.client(), 5)
