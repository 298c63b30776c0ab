"""Row 31: no password in any log record, repr or error, however a connection comes to be or ends.

Every logger is listened to at every level, those of the libraries beneath us too.
tests/faults/test_row_31_secrets_of_calls.py does the same for what is sent over it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from nuropb_rmq import (
    BrokerAuthenticationError,
    BrokerUnreachableError,
    Mesh,
    NuropbConfigurationError,
    NuropbTransportError,
    RMQTransport,
    ServiceNotConfigured,
    State,
    TransportConfig,
    configure,
    create_virtual_host,
)
from nuropb_rmq.broker.management import ManagementAPI
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, Watch, eventually, request, result_of
from .console import add_user, change_password
from .ear import Ear, basic, with_credentials
from .proxy import Proxy, Wire

USER = "marian"
PASSWORD = "p@ss/wörd:%41 of marian"  # every character that has a meaning in a URL
WRONG = "wr@ng/wörd:%42 of marian"
LATER = "l@ter/wörd:%43 of marian"


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Hears everything during the test; afterwards, that nothing of it was secret."""
    passwords = (PASSWORD, WRONG, LATER)
    with Ear((*passwords, *(basic(USER, each) for each in passwords))) as made:
        yield made
    assert made.records["aiormq"], "aiormq was not heard, and it says much at DEBUG"
    assert made.heard == []


@pytest.fixture
async def url(mesh_url: str, rabbitmq_node: RabbitMQNode) -> AsyncIterator[str]:
    """A configured virtual host, as a user whose password is worth keeping."""
    await configure(TransportConfig(amqp_url=mesh_url, service_name="orders"))
    await asyncio.to_thread(add_user, rabbitmq_node, mesh_url, USER, PASSWORD)
    yield with_credentials(mesh_url, USER, PASSWORD)
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/users/{USER}")


async def refused(ear: Ear, start: Callable[[], Awaitable[object]], error: type[Exception]) -> None:
    """This fails so, and neither the error nor what caused it tells the password."""
    with pytest.raises(error) as caught:
        await start()
    ear.check_chain(caught.value)


async def test_row_31_connected_lost_and_refused(
    url: str, ear: Ear, rabbitmq_node: RabbitMQNode
) -> None:
    mesh = Transports(url)
    async with Proxy(url) as proxy:
        service = await mesh.service(Recorder(), amqp_url=proxy.url)
        client = await mesh.client(amqp_url=[proxy.url, url])
        assert result_of(await client.request(request(n=1))) == {"n": 1}
        watch = Watch(service)
        proxy.reset()
        await watch.recovered()
        proxy.set(Wire.REFUSE)
        proxy.reset()
        await watch.left()
        await asyncio.to_thread(change_password, rabbitmq_node, USER, LATER)
        proxy.set(Wire.PASS)
        await eventually(lambda: service.state is State.FAILED, within=15)
    assert isinstance(service.error, BrokerAuthenticationError)
    ear.check_chain(service.error)
    assert ear.seen() == []
    await mesh.stop()


async def test_row_31_starts_that_fail(url: str, ear: Ear, rabbitmq_node: RabbitMQNode) -> None:
    wrong = with_credentials(url, USER, WRONG)
    async with Proxy(url) as proxy:
        proxy.set(Wire.REFUSE)
        for where, error in [
            (wrong, BrokerAuthenticationError),
            (url + "-that-is-missing", ServiceNotConfigured),
            (proxy.url, BrokerUnreachableError),
            ([proxy.url, url.replace("127.0.0.1", "nowhere.invalid")], BrokerUnreachableError),
        ]:
            config = TransportConfig(amqp_url=where, service_name="c", client_only=True)
            mesh = Mesh(config, configure=False)
            await refused(ear, mesh.start, error)
            transport = RMQTransport("c", "c1", where, lambda *_: None, client_only=True)
            await refused(ear, transport.start, error)
            assert ear.seen() == []


async def test_row_31_the_management_api(url: str, ear: Ear, rabbitmq_node: RabbitMQNode) -> None:
    api_url = rabbitmq_node.management_url
    missing = TransportConfig(amqp_url=f"{url}-missing", service_name="orders")
    # This user may make no virtual host.
    await refused(ear, lambda: configure(missing, api_url=api_url), BrokerAuthenticationError)
    for given in (WRONG, PASSWORD):
        at = with_credentials(api_url, USER, given)
        await refused(ear, partial(configure, missing, api_url=at), BrokerAuthenticationError)
    async with ManagementAPI(api_url, username=USER, password=WRONG) as api:
        assert WRONG not in repr(api)
        await refused(ear, lambda: api.create_vhost("x"), NuropbTransportError)
    dead = "http://127.0.0.1:9"
    await refused(ear, lambda: configure(missing, api_url=dead), NuropbTransportError)
    rmq_api_url = with_credentials(f"{api_url}/api", USER, WRONG)
    with pytest.raises(BrokerAuthenticationError) as caught:
        await asyncio.to_thread(create_virtual_host, rmq_api_url, f"{url}-missing")
    ear.check_chain(caught.value)
    assert ear.seen() == []


@pytest.mark.parametrize(
    "bad",
    [
        {"port": 0}, {"host": ""}, {"vhost": 7}, {"ssl": "yes"}, {"odd": 1},
        {"certfile": "/nowhere.pem", "ssl": True}, {"username": None},
    ],
    ids=str,
)  # fmt: skip
def test_row_31_settings_that_are_refused(bad: dict[str, Any]) -> None:
    given = {"host": "h", "username": USER, "password": PASSWORD, **bad}
    with Ear((PASSWORD,)) as ear:
        with pytest.raises(NuropbConfigurationError) as caught:
            RMQTransport("c", "c1", given, lambda *_: None, client_only=True)
        ear.check_chain(caught.value)
        assert ear.heard == []
