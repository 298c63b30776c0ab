"""Row 9: our own response queue is still locked by a connection that was lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from nuropb_rmq import InstanceInUseError, State, Transport, TransportClosedError

from ..seams import connections_of
from ..support import Recorder, Transports, eventually, request, result_of
from .common import within
from .proxy import Proxy, Wire


def cut(client: Transport) -> None:
    """End its connection, on its own side alone."""
    connections_of(client)[0].router.abort("cut")


async def test_row_09_our_own_lost_connection_is_waited_for(mesh: Transports, proxy: Proxy) -> None:
    """Our side of it is gone; the broker takes two to three heartbeats to notice.

    With an instance_id the queue's name stays what it is: nothing helps but to wait.
    """
    await mesh.service(Recorder())
    client = await mesh.client(
        amqp_url=proxy.url, instance_id="one", heartbeat=1, instance_retry=0, reconnect_cap=0.5
    )
    # The broker looks once a heartbeat, from the login on: if this were cut right behind the login,
    # the queue would be free only just before the patience ends.
    await asyncio.sleep(0.5)
    proxy.set(Wire.HOLE)
    cut(client)
    proxy.abandon()
    await eventually(lambda: isinstance(client.error, InstanceInUseError))
    assert client.state is State.RECOVERING
    with within(3 * 1 + 2):
        await client.wait_for(State.READY)
    assert result_of(await client.request(request(n=1))) == {"n": 1}


async def test_row_09_it_is_not_waited_for_for_ever(mesh: Transports, proxy: Proxy) -> None:
    """The queue stays locked: by another instance of this id, as it turns out."""
    client = await mesh.client(
        amqp_url=proxy.url, instance_id="one", heartbeat=1, instance_retry=0.5, reconnect_cap=0.5
    )
    proxy.set(Wire.REFUSE)
    cut(client)
    other = mesh.transport("client", instance_id="one")
    await other.start()
    proxy.set(Wire.PASS)
    began = time.monotonic()
    with within(3 * 1 + 3), pytest.raises(TransportClosedError, match="same instance_id"):
        await client.wait_for(State.STOPPED)
    assert time.monotonic() - began > 2.5 * 1, "about 3 heartbeats"
    assert client.state is State.FAILED
    assert isinstance(client.error, InstanceInUseError)
    assert other.state is State.READY


async def test_row_09_a_name_that_we_made_is_given_up(mesh: Transports, proxy: Proxy) -> None:
    """Without an instance_id nobody needs the old name: another one takes its place.

    The broker would notice the loss after minutes only, so nothing but another name helps.
    """
    await mesh.service(Recorder())
    client = await mesh.client(amqp_url=proxy.url, heartbeat=60, reconnect_cap=0.5)
    before = client.response_queue
    proxy.set(Wire.HOLE)
    cut(client)
    proxy.abandon()
    await eventually(lambda: isinstance(client.error, InstanceInUseError))
    await client.wait_for(State.READY, timeout=15)
    assert client.response_queue != before
    assert result_of(await client.request(request(n=1))) == {"n": 1}
