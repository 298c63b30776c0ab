"""configure(): what it makes, what it leaves alone, and what it says when it may not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from nuropb_rmq import (
    BrokerAuthenticationError,
    BrokerUnreachableError,
    NuropbConfigurationError,
    NuropbTransportError,
    ServiceNotConfigured,
    TransportConfig,
    configure,
)
from nuropb_rmq.testing import RabbitMQNode

from ..support import Mesh, Recorder, request, result_of

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
SECRET = "hush-hush"
NOBODY = "http://127.0.0.1:1"  # where no management API is
EXCHANGES = {
    "nuropb-rpc-exchange": ("direct", True),
    "nuropb-events-exchange": ("topic", True),
    "nuropb-dl-exchange": ("fanout", True),
}
DL_QUEUE = "nuropb-orders-dlq"


class Host:
    """One virtual host of a node, seen through the management API."""

    def __init__(self, node: RabbitMQNode, url: str, name: str) -> None:
        self.node = node
        self.url = url
        self.name = name

    async def configure(
        self, *, api_url: str | None = None, create_vhost: Any = True, **settings: Any
    ) -> None:
        settings = {"amqp_url": self.url, "service_name": "orders", **settings}
        api_url = api_url or self.node.management_url
        await configure(TransportConfig(**settings), api_url=api_url, create_vhost=create_vhost)

    async def api(self, method: str, *path: str, json: Any = None) -> Any:
        quoted = "/".join(quote(part, safe="") for part in path)
        return await asyncio.to_thread(self.node.api, method, f"/api/{quoted}", json)

    async def exists(self) -> bool:
        return self.name in {each["name"] for each in await self.api("GET", "vhosts")}

    async def exchanges(self) -> dict[str, tuple[str, bool]]:
        """Name → type and durability; the broker's own are left out."""
        found = await self.api("GET", "exchanges", self.name)
        named = [each for each in found if each["name"] and not each["name"].startswith("amq.")]
        return {each["name"]: (each["type"], each["durable"]) for each in named}

    async def queues(self) -> dict[str, bool]:
        """Name → durability."""
        return {
            each["name"]: each["durable"] for each in await self.api("GET", "queues", self.name)
        }

    async def bindings(self) -> list[tuple[str, str, str]]:
        """Source, destination and routing key; those of the default exchange are left out."""
        found = [each for each in await self.api("GET", "bindings", self.name) if each["source"]]
        return sorted((each["source"], each["destination"], each["routing_key"]) for each in found)

    async def everything(self) -> tuple[object, ...]:
        return await self.exchanges(), await self.queues(), await self.bindings()

    async def user(self, *, tags: str = "", **permissions: str) -> str:
        """A new user with these permissions here (all others: everything); the URL with it."""
        name = f"user-{os.urandom(4).hex()}"
        await self.api("PUT", "users", name, json={"password": SECRET, "tags": tags})
        if permissions:
            wanted = {**EVERYTHING, **permissions}
            await self.api("PUT", "permissions", self.name, name, json=wanted)
        return self.url.replace("guest:guest", f"{name}:{SECRET}")


@pytest.fixture
def host(mesh_url: str, rabbitmq_node: RabbitMQNode) -> Host:
    """A virtual host with nothing in it."""
    return Host(rabbitmq_node, mesh_url, urlsplit(mesh_url).path[1:])


@pytest.fixture
async def missing(host: Host) -> AsyncIterator[Host]:
    """A virtual host that is not there, with a name that has to be quoted wherever it goes."""
    name = f"à côté/é {os.urandom(4).hex()} %2F%41 50%"
    made = Host(host.node, f"{host.node.amqp_url}{quote(name, safe='')}", name)
    yield made
    if await made.exists():
        await made.api("DELETE", "vhosts", name)


async def refused(
    error: type[NuropbTransportError], *texts: str, host: Host, **settings: Any
) -> None:
    """configure() raises this error, which says all this and no secret."""
    with pytest.raises(error) as caught:
        await host.configure(**settings)
    assert caught.type is error
    for text in texts:
        assert text in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


# -- what it makes --------------------------------------------------------------------------


async def test_the_three_exchanges_and_the_dead_letter_queue(host: Host) -> None:
    await host.configure()
    assert await host.exchanges() == EXCHANGES
    assert await host.queues() == {DL_QUEUE: True}
    assert await host.bindings() == [("nuropb-dl-exchange", DL_QUEUE, DL_QUEUE)]


async def test_a_missing_virtual_host_is_made_and_works_end_to_end(missing: Host) -> None:
    assert not await missing.exists()
    await missing.configure()
    assert await missing.exchanges() == EXCHANGES
    mesh = Mesh(missing.url)
    try:
        await mesh.service(Recorder())
        client = await mesh.client()
        assert result_of(await client.request(request(n=1))) == {"n": 1}
    finally:
        await mesh.stop()


async def test_a_virtual_host_that_is_made_is_warned_of(
    missing: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name may be a typing error, and whoever may make one is not asked."""
    await missing.configure()
    await missing.configure()
    (told,) = [each for each in caplog.records if "did not exist" in each.getMessage()]
    assert told.levelname == "WARNING"
    assert repr(missing.name) in told.getMessage()


async def test_a_missing_virtual_host_need_not_be_made(host: Host, missing: Host) -> None:
    texts = repr(missing.name), "is its name right?"
    await refused(ServiceNotConfigured, *texts, host=missing, create_vhost=False)
    assert not await missing.exists()
    await host.configure(create_vhost=False)
    assert await host.exchanges() == EXCHANGES
    for wrong in (None, "exchanges", 0):
        with pytest.raises(NuropbConfigurationError, match=r"^create_vhost: must be True or False"):
            await host.configure(create_vhost=wrong)


async def test_a_second_time_changes_nothing(host: Host) -> None:
    await host.configure()
    before = await host.everything()
    message = {"properties": {}, "routing_key": "", "payload": "kept", "payload_encoding": "string"}
    path = ("exchanges", host.name, "nuropb-dl-exchange", "publish")
    assert (await host.api("POST", *path, json=message))["routed"]
    await host.configure(api_url=NOBODY)  # which is asked for a missing virtual host only
    assert await host.everything() == before
    take = {"count": 2, "ackmode": "ack_requeue_false", "encoding": "auto"}
    (dead,) = await host.api("POST", "queues", host.name, DL_QUEUE, "get", json=take)
    assert dead["payload"] == "kept"


async def test_several_at_once_do_not_hinder_each_other(missing: Host) -> None:
    await asyncio.gather(*(missing.configure() for _ in range(5)))
    assert await missing.exchanges() == EXCHANGES
    assert await missing.queues() == {DL_QUEUE: True}


async def test_a_client_declares_no_dead_letter_queue(host: Host) -> None:
    await host.configure(client_only=True)
    assert await host.exchanges() == EXCHANGES
    assert await host.queues() == {}


async def test_configured_names_are_used(host: Host) -> None:
    names = {"rpc_exchange": "calls", "events_exchange": "news", "dl_exchange": "dead"}
    await host.configure(**names, dl_queue="graveyard")
    assert await host.exchanges() == {
        "calls": ("direct", True),
        "news": ("topic", True),
        "dead": ("fanout", True),
    }
    assert await host.queues() == {"graveyard": True}
    assert await host.bindings() == [("dead", "graveyard", "graveyard")]


async def test_an_old_peers_transient_dead_letter_queue_is_taken_as_found(host: Host) -> None:
    old, durable = "nuropb-orders-dl", False
    try:
        await host.api("PUT", "queues", host.name, old, json={"durable": durable})
    except httpx.HTTPStatusError:  # a broker that denies transient queues: other arguments, then
        durable = True
        wanted = {"durable": durable, "arguments": {"x-max-length": 1000}}
        await host.api("PUT", "queues", host.name, old, json=wanted)
    await host.configure(dl_queue=old)
    assert await host.queues() == {old: durable}
    assert await host.bindings() == [("nuropb-dl-exchange", old, old)]


# -- what it refuses ------------------------------------------------------------------------


async def test_an_exchange_with_other_properties_is_named(host: Host) -> None:
    await host.api("PUT", "exchanges", host.name, "odd", json={"type": "headers", "durable": True})
    brief = {"type": "direct", "durable": False}
    await host.api("PUT", "exchanges", host.name, "brief", json=brief)
    for setting, name, what in (
        ("rpc_exchange", "odd", "type"),
        ("events_exchange", "odd", "type"),
        ("dl_exchange", "odd", "type"),
        ("rpc_exchange", "brief", "durable"),
    ):
        # The virtual host is there: the management API has nothing to do with it.
        settings: dict[str, Any] = {setting: name, "api_url": NOBODY}
        texts = f"exchange '{name}' exists with other properties", f"inequivalent arg '{what}'"
        await refused(ServiceNotConfigured, *texts, host=host, **settings)
    assert DL_QUEUE not in await host.queues()


async def test_with_all_in_place_no_permission_to_configure_is_needed(host: Host) -> None:
    await host.configure()
    before = await host.everything()
    url = await host.user(configure="^$")
    await host.configure(amqp_url=url, api_url=NOBODY)
    assert await host.everything() == before


async def test_without_permission_to_configure_what_is_missing_is_named(host: Host) -> None:
    url = await host.user(configure="^$")
    permission = "permission refused"
    exchange, advice = "exchange 'nuropb-rpc-exchange'", "permit this user to configure it"
    await refused(BrokerAuthenticationError, exchange, permission, advice, host=host, amqp_url=url)
    await host.configure(client_only=True)
    await refused(BrokerAuthenticationError, DL_QUEUE, permission, advice, host=host, amqp_url=url)
    assert await host.queues() == {}


async def test_a_binding_that_is_not_permitted_is_explained(host: Host) -> None:
    await host.configure()
    binding = f"binding of queue '{DL_QUEUE}' to exchange 'nuropb-dl-exchange': permission refused"
    for missing in ("write", "read"):
        url = await host.user(**{missing: "^$"})
        texts = binding, "write the queue and to read the exchange"
        await refused(BrokerAuthenticationError, *texts, host=host, amqp_url=url)
        await host.configure(amqp_url=url, client_only=True)  # which binds nothing


async def test_a_virtual_host_that_we_may_not_enter(host: Host) -> None:
    url = await host.user()
    settings = {"amqp_url": url, "api_url": NOBODY}
    await refused(BrokerAuthenticationError, host.name, "refused", host=host, **settings)


# -- a virtual host that cannot be made -----------------------------------------------------


async def test_no_management_api_to_make_the_virtual_host(missing: Host) -> None:
    vhost = f"virtual host {missing.name!r} does not exist"
    texts = vhost, "cannot be made", f"management API {NOBODY}"
    await refused(BrokerUnreachableError, *texts, host=missing, api_url=NOBODY)
    # Something else answers there: the broker's own AMQP port.
    other = f"http://127.0.0.1:{missing.node.port}"
    with pytest.raises(NuropbTransportError, match=other) as caught:
        await missing.configure(api_url=other)
    assert vhost in str(caught.value)
    assert not await missing.exists()


async def test_an_api_url_that_cannot_be_read(missing: Host) -> None:
    with pytest.raises(NuropbConfigurationError, match="http") as caught:
        await missing.configure(api_url=f"ftp://guest:{SECRET}@127.0.0.1")
    assert caught.value.field == "api_url"
    assert repr(missing.name) in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_only_administrators_make_virtual_hosts(missing: Host) -> None:
    for tags in ("", "management", "monitoring"):
        url = await missing.user(tags=tags)
        texts = f"virtual host {missing.name!r}", "401", "tag administrator"
        await refused(BrokerAuthenticationError, *texts, host=missing, amqp_url=url)
    assert not await missing.exists()


async def test_the_management_api_can_have_credentials_of_its_own(missing: Host) -> None:
    url = await missing.user()
    api = missing.node.management_url.replace("http://", "http://guest:guest@")
    # Made, by the administrator; what another user may do there is not for us to decide.
    await refused(BrokerAuthenticationError, "refused", host=missing, amqp_url=url, api_url=api)
    assert await missing.exists()
    user = str(urlsplit(url).username)
    await missing.api("PUT", "permissions", missing.name, user, json=EVERYTHING)
    await missing.configure(amqp_url=url, api_url=api)
    assert await missing.queues() == {DL_QUEUE: True}


# -- interrupted ----------------------------------------------------------------------------


async def test_a_broker_that_says_nothing(host: Host) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        url = f"amqp://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"
        texts = url.rstrip("/").removeprefix("amqp://"), "nothing was said on it"
        settings = {"amqp_url": url, "connect_timeout": 0.3}
        await refused(BrokerUnreachableError, *texts, host=host, **settings)


async def test_cancelled_at_any_moment_it_leaves_nothing(host: Host) -> None:
    for after in (0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05):
        task = asyncio.create_task(host.configure(service_name=f"after-{after}"))
        await asyncio.wait([task], timeout=after)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
    await host.configure()
    assert await host.exchanges() == EXCHANGES
