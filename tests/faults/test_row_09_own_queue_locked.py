"""Row 9: our own response queue is locked when we come back from a lost connection.

It is waited for, for three heartbeats: the broker may not have noticed yet that the connection is
gone. Its words are those of row 8; only that we were ready before tells the two apart.
"""

from __future__ import annotations

from nuropb_rmq import InstanceInUseError, State

from ..support import Mesh, Recorder, request, result_of
from .common import within
from .proxy import Proxy, Wire


async def test_row_09_it_is_waited_for(mesh: Mesh, proxy: Proxy) -> None:
    """The broker has not noticed that our connection is gone: the queue is locked by ourselves."""
    client = await mesh.client(amqp_url=proxy.url, instance_id="one", heartbeat=2)
    await mesh.service(Recorder())
    proxy.set(Wire.HOLE)  # the broker's side stays open; ours is cut
    client._links[0]._session._router.abort("cut")  # type: ignore[union-attr]
    await client.wait_for(State.RECOVERING, timeout=1)
    proxy.set(Wire.PASS)
    await client.wait_for(State.READY, timeout=15)
    assert result_of(await client.request(request(n=1))) == {"n": 1}


async def test_row_09_not_for_ever(mesh: Mesh, proxy: Proxy) -> None:
    """Somebody else has taken our name while we were away, and keeps it."""
    client = await mesh.client(amqp_url=proxy.url, instance_id="one", heartbeat=1)
    proxy.set(Wire.REFUSE)
    proxy.reset()
    await client.wait_for(State.RECOVERING, timeout=5)
    usurper = await mesh.client(instance_id="one")
    proxy.set(Wire.PASS)
    with within(3 * 1 + 5):
        await client.wait_for(State.STOPPED, State.FAILED, timeout=10)
    assert client.state is State.FAILED
    assert isinstance(client.error, InstanceInUseError)
    assert usurper.state is State.READY
