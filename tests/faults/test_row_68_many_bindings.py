"""Row 68: a service with 1,000 event bindings, 5 ms away from its broker.

Bound: connect_timeout, at the start and at each recovery.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from nuropb_rmq import BrokerAuthenticationError, BrokerUnreachableError, NuropbTransportError
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, Watch, event, eventually
from .common import within
from .proxy import Proxy, Way

BIND_OK = 50 << 16 | 21
MANY = [f"topic.{n}" for n in range(1000)]
BOUND = 8.0


async def test_row_68_many_bindings(mesh: Transports, proxy: Proxy) -> None:
    """They are made with few round trips."""
    seen = Recorder()
    proxy.delay(0.005)
    with within(BOUND):
        service = await mesh.service(seen, amqp_url=proxy.url, event_bindings=MANY)
    watch = Watch(service)
    with within(BOUND):
        proxy.reset()
        await watch.recovered(BOUND)
    for topic in (MANY[0], MANY[500], MANY[-1]):
        await service.send(event(topic, 1))
    await eventually(lambda: len(seen.seen) == 3)


async def test_row_68_one_is_refused(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    """The error names it, however many there are."""
    vhost = urlsplit(mesh.url).path[1:]
    readable = "^(topic.*|orders)$"
    body = {"exchange": "nuropb-events-exchange", "write": ".*", "read": readable}
    path = f"/api/topic-permissions/{vhost}/guest"
    await asyncio.to_thread(rabbitmq_node.api, "PUT", path, body)
    refused = [*MANY[:150], "secret.topic", *MANY[150:250]]
    with pytest.raises(BrokerAuthenticationError, match=r"binding 'secret\.topic' to exchange"):
        await mesh.service(Recorder(), event_bindings=refused)


async def test_row_68_how_many_were_made(mesh: Transports, proxy: Proxy) -> None:
    """A start that is too late says how far it came."""
    proxy.drop(Way.DOWN, BIND_OK)
    with pytest.raises(NuropbTransportError, match="0 of 1001 bindings of 'nuropb-orders-sq'") as e:
        await mesh.service(Recorder(), amqp_url=proxy.url, event_bindings=MANY, connect_timeout=1.5)
    assert "node down" not in str(e.value)
    assert isinstance(e.value, NuropbTransportError | BrokerUnreachableError)
