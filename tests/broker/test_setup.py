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

from ..support import Recorder, Transports, request, result_of

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
SECRET = "hush-hush"
NOBODY = "http://127.0.0.1:1"  # where no management API is
EXCHANGES = {
    "nuropb-rpc-exchange": ("direct", True),
    "nuropb-events-exchange": ("topic", True),
    "nuropb-dl-exchange": ("fanout", True),
}
DEAD, BY_QUEUE = "nuropb-dl-exchange", "nuropb-dl-exchange-by-queue"
OF_SERVICES = {**EXCHANGES, BY_QUEUE: ("headers", True)}
"""Exchanges where a service has been configured."""
DL_QUEUE = "nuropb-orders-dlq"
ALL_LETTERS = (DEAD, DL_QUEUE, DL_QUEUE)
"""The binding by which a queue gets the dead letters of all services."""


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

    async def bind_to_all(self) -> None:
        """Bind the dead-letter queue of orders as it was bound before."""
        path = ("bindings", self.name, "e", DEAD, "q", DL_QUEUE)
        await self.api("POST", *path, json={"routing_key": DL_QUEUE})

    async def dead_letter(self, body: str) -> None:
        """Publish a copy of a message that failed, as the service itself does."""
        headers = {"nuropb_dead_letter_of": "nuropb-orders-sq"}
        message = {"properties": {"headers": headers}, "routing_key": "", "payload": body}
        path = ("exchanges", self.name, DEAD, "publish")
        sent = await self.api("POST", *path, json={**message, "payload_encoding": "string"})
        assert sent["routed"]

    async def letters(self) -> list[str]:
        """Take the dead letters of orders."""
        take = {"count": 9, "ackmode": "ack_requeue_false", "encoding": "auto"}
        found = await self.api("POST", "queues", self.name, DL_QUEUE, "get", json=take)
        return [each["payload"] for each in found]

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


async def test_the_exchanges_and_the_dead_letter_queue(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await host.configure()
    assert await host.exchanges() == OF_SERVICES
    assert await host.queues() == {DL_QUEUE: True}
    bindings = await host.bindings()
    assert bindings.count((DEAD, BY_QUEUE, "")) == 1
    assert {each[:2] for each in bindings} == {(DEAD, BY_QUEUE), (BY_QUEUE, DL_QUEUE)}
    assert len(bindings) == 1 + 6
    await host.configure(dead_letter_requests=True)
    assert len(await host.bindings()) == 1 + 7
    await host.configure()
    assert sorted(await host.bindings()) == sorted(bindings)
    assert not caplog.records  # nothing that was there before has changed


async def test_a_dead_letter_queue_that_got_all_letters_gets_its_own(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """As an earlier version had bound it; one that is still in use does that again."""
    await host.configure(client_only=True)
    await host.api("PUT", "queues", host.name, DL_QUEUE, json={"durable": True})
    await host.bind_to_all()
    await host.dead_letter("kept")
    await host.configure()
    assert ALL_LETTERS not in await host.bindings()
    (told,) = [each for each in caplog.records if "from now on" in each.getMessage()]
    assert told.levelname == "WARNING"
    for name in (DL_QUEUE, "nuropb-orders-sq", DEAD, BY_QUEUE):
        assert repr(name) in told.getMessage()
    assert await host.letters() == ["kept"]
    await host.bind_to_all()
    await host.configure()
    assert ALL_LETTERS not in await host.bindings()
    assert len(caplog.records) == 1


async def test_a_missing_virtual_host_is_made_and_works_end_to_end(missing: Host) -> None:
    assert not await missing.exists()
    await missing.configure()
    assert await missing.exchanges() == OF_SERVICES
    mesh = Transports(missing.url)
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
    assert await host.exchanges() == OF_SERVICES
    for wrong in (None, "exchanges", 0):
        with pytest.raises(NuropbConfigurationError, match=r"^create_vhost: must be True or False"):
            await host.configure(create_vhost=wrong)


async def test_a_second_time_changes_nothing(host: Host) -> None:
    await host.configure()
    before = await host.everything()
    await host.dead_letter("kept")
    await host.configure(api_url=NOBODY)  # which is asked for a missing virtual host only
    assert await host.everything() == before
    assert await host.letters() == ["kept"]


async def test_several_at_once_do_not_hinder_each_other(missing: Host) -> None:
    await asyncio.gather(*(missing.configure() for _ in range(5)))
    assert await missing.exchanges() == OF_SERVICES
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
    of_exchange = f"binding of exchange '{BY_QUEUE}' to exchange '{DEAD}'"
    of_queue = f"binding of queue '{DL_QUEUE}' to exchange '{BY_QUEUE}'"
    two_exchanges = "write the first exchange and to read the second"
    queue_and_exchange = "write the queue and to read the exchange"
    for missing, name, *texts in (
        ("write", BY_QUEUE, of_exchange, two_exchanges),
        ("read", DEAD, of_exchange, two_exchanges),
        ("write", DL_QUEUE, of_queue, queue_and_exchange),
        ("read", BY_QUEUE, of_queue, queue_and_exchange),
    ):
        others = [each for each in (DEAD, BY_QUEUE, DL_QUEUE) if each != name]
        url = await host.user(**{missing: f"^({'|'.join(others)})$"})
        texts.append(f"'{name}' in vhost")
        texts.append("permission refused")
        await refused(BrokerAuthenticationError, *texts, host=host, amqp_url=url)
        await host.configure(amqp_url=url, client_only=True)  # which binds nothing


async def test_the_exchange_of_the_letters_that_may_not_be_made_is_named(host: Host) -> None:
    await host.configure(client_only=True)
    url = await host.user(configure="^nuropb-(dl-exchange|orders-dlq)$")
    texts = f"exchange '{BY_QUEUE}'", "permission refused", "permit this user to configure it"
    await refused(BrokerAuthenticationError, *texts, host=host, amqp_url=url)
    await host.configure(amqp_url=url, dl_queue=DL_QUEUE)  # which has no use for it
    assert await host.bindings() == [ALL_LETTERS]


async def test_an_exchange_of_that_name_that_is_not_ours_is_named(host: Host) -> None:
    other = {"type": "fanout", "durable": True}
    await host.api("PUT", "exchanges", host.name, BY_QUEUE, json=other)
    texts = f"exchange '{BY_QUEUE}' exists with other properties", "inequivalent arg 'type'"
    await refused(ServiceNotConfigured, *texts, host=host)


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
        texts = url.rstrip("/").removeprefix("amqp://"), "nothing was sent on it"
        settings = {"amqp_url": url, "connect_timeout": 1.5}
        await refused(BrokerUnreachableError, *texts, host=host, **settings)


async def test_cancelled_at_any_moment_it_leaves_nothing(host: Host) -> None:
    for after in (0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05):
        task = asyncio.create_task(host.configure(service_name=f"after-{after}"))
        await asyncio.wait([task], timeout=after)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
    await host.configure()
    assert await host.exchanges() == OF_SERVICES
