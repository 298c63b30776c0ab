"""Tests of SECURITY.md on the broker: its permissions, and the limits of encryption."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pika
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pika.exceptions import ChannelClosedByBroker

from nuropb_rmq import (
    BrokerAuthenticationError,
    EncryptionError,
    Encryptor,
    NuropbCallAgain,
    NuropbException,
    Retry,
    State,
    TopicRefusedError,
    TransportConfig,
    configure,
    mesh_event,
    publish_to_mesh,
)
from nuropb_rmq.telemetry.reports import report
from nuropb_rmq.testing import RabbitMQNode

from ..encrypting import SECRET, Tap, private_key, response, tapping
from ..faults.conftest import proxy
from ..faults.console import add_user, close_connection, permit, permit_topics
from ..faults.ear import with_credentials
from ..faults.proxy import Proxy, Wire
from ..mesh.conftest import meshes
from ..mesh.support import Meshes
from ..seams import outbound_of
from ..support import Recorder, Transports, Watch, eventually, request, result_of

__all__ = ["meshes", "proxy"]

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
PASSWORD = "a-password-of-its-own"
USERS = ("orders", "shop")
OTHERS = ("deploy", "operator")
RPC, EVENTS = "nuropb-rpc-exchange", "nuropb-events-exchange"
BY_QUEUE = "nuropb-dl-exchange-by-queue"


class Orders:
    _service_name = "orders"
    _private_key = private_key("orders")

    def __init__(self) -> None:
        self.runs: list[str] = []

    @publish_to_mesh(retry=Retry(attempts=2, delays=(0.05,)))
    async def twice(self) -> None:
        self.runs.append("twice")
        if self.runs.count("twice") == 1:
            raise ConnectionError

    @publish_to_mesh(requires_encryption=True)
    async def open(self, pin: str) -> str:
        self.runs.append(pin)
        if pin == "again" and self.runs.count(pin) == 1:
            raise NuropbCallAgain
        return f"opened with {pin}"

    @mesh_event("shop.*")
    def on_shop(self, event: str) -> None:
        self.runs.append(event)


# -- permissions ----------------------------------------------------------------------------


@pytest.fixture
async def urls(mesh: Transports, rabbitmq_node: RabbitMQNode) -> AsyncIterator[dict[str, str]]:
    """The addresses of users who may do what SECURITY.md says, and no more."""
    vhost = mesh.url.rsplit("/", 1)[1]
    names = {name: f"{name}-{vhost}" for name in (*USERS, *OTHERS)}
    (block,) = re.findall(r"```\n(rabbitmqctl[^`]*)```", SECURITY.read_text())
    commands = [shlex.split(line)[1:] for line in block.replace("\\\n", " ").splitlines()]

    def prepare() -> None:
        for name in names.values():
            add_user(rabbitmq_node, mesh.url, name, PASSWORD)
        for command, _, _, user, *patterns in commands:
            if command == "set_permissions":
                permit(rabbitmq_node, mesh.url, names[user], *patterns)
            else:
                assert command == "set_topic_permissions"
                permit_topics(rabbitmq_node, mesh.url, names[user], *patterns)

    await asyncio.to_thread(prepare)
    yield {name: with_credentials(mesh.url, names[name], PASSWORD) for name in names}
    for name in names.values():
        await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/users/{name}")


def proxied(url: str, proxy: Proxy) -> str:
    """The URL with the proxy in the broker's place."""
    parts = urlsplit(url)
    userinfo, _, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{userinfo}@127.0.0.1:{proxy.port}").geturl()


async def test_the_documented_permissions_are_enough_to_configure(
    urls: dict[str, str], meshes: Meshes
) -> None:
    config = TransportConfig(amqp_url=urls["deploy"], service_name="orders")
    for settings in ({}, {"service_name": "billing"}, {"dead_letter_requests": True}):
        await configure(dataclasses.replace(config, **settings), create_vhost=False)


async def test_the_documented_permissions_are_enough(
    urls: dict[str, str], meshes: Meshes, rabbitmq_node: RabbitMQNode
) -> None:
    orders = Orders()
    service = await meshes.serve(orders, amqp_url=urls["orders"], configure=False)
    shop = await meshes.client(amqp_url=urls["shop"], service_name="shop", configure=False)
    tried = Watch(service.transport)

    async def everything() -> None:
        orders.runs.clear()
        assert await shop.request("orders", "open", {"pin": "again"}) == "opened with again"
        await shop.command("orders", "open", {"pin": "a command"})
        await shop.publish_event("shop.opened", "an event")
        with pytest.raises(NuropbException):
            await shop.request("orders", "nope")
        await shop.command("orders", "nope")
        await service.publish_event("orders.made", 1)
        await shop.command("orders", "twice")
        assert await service.request("orders", "open", {"pin": "own"}) == "opened with own"
        await eventually(lambda: len(orders.runs) == 7)
        expected = ["a command", "again", "again", "an event", "own", "twice", "twice"]
        assert sorted(orders.runs) == expected

    await everything()
    assert [each["method"] for each in await meshes.taken("nuropb-orders-dlq")] == ["nope"]
    await asyncio.to_thread(close_connection, rabbitmq_node, service.instance_id)
    await tried.recovered()
    await everything()


@pytest.mark.parametrize("hosts", [1, 2])
async def test_the_documented_permissions_are_enough_after_recoveries(
    urls: dict[str, str], meshes: Meshes, proxy: Proxy, hosts: int
) -> None:
    """With several hosts, and with response queues that stay locked, other ones are declared."""
    through = {name: proxied(url, proxy) for name, url in urls.items()}
    both = {name: [through[name], urls[name]][:hosts] for name in USERS}
    service = await meshes.serve(Orders(), amqp_url=both["orders"], configure=False)
    shop = await meshes.client(amqp_url=both["shop"], service_name="shop", configure=False)
    ids = {"orders": service.instance_id, "shop": shop.instance_id}
    tried = Watch(service.transport), Watch(shop.transport)
    proxy.set(Wire.REFUSE)
    proxy.reset()
    for each in tried:
        await each.left()
    async with await aio_pika.connect(meshes.url) as holder:
        channel = await holder.channel()
        if hosts == 1:
            for name, instance in ids.items():
                await channel.declare_queue(f"nuropb-{name}-{instance}-rq", exclusive=True)
        proxy.set(Wire.PASS)
        for each in tried:
            await each.recovered()
    assert await shop.request("orders", "open", {"pin": "shop's"}) == "opened with shop's"
    assert await service.request("orders", "open", {"pin": "own"}) == "opened with own"
    assert outbound_of(shop.transport).topology.generation > 0


FORBIDDEN: dict[str, Callable[[Any], object]] = {
    "read the calls of a service": lambda channel: channel.basic_consume("nuropb-orders-sq", print),
    "read dead letters": lambda channel: channel.basic_get("nuropb-orders-dlq"),
    "listen to dead letters": lambda channel: channel.queue_bind(own(channel), BY_QUEUE, ""),
    "publish to a queue": lambda channel: publish(channel, "", "nuropb-orders-sq"),
    "declare a service's queue": lambda channel: channel.queue_declare("nuropb-orders-sq"),
    "declare a response queue of others": lambda channel: channel.queue_declare(
        f"nuropb-orders-{'0' * 32}-rq", exclusive=True
    ),
    "listen to calls": lambda channel: channel.queue_bind(own(channel), RPC, "orders"),
    "listen to events": lambda channel: channel.queue_bind(own(channel), EVENTS, "#"),
    "publish events of others": lambda channel: publish(channel, EVENTS, "orders.made"),
    "publish dead letters": lambda channel: publish(channel, "nuropb-dl-exchange", ""),
    "delete an exchange": lambda channel: channel.exchange_delete(RPC),
}


def own(channel: Any) -> str:
    """A response queue of the client's own."""
    name = f"nuropb-shop-{'1' * 32}-rq"
    channel.queue_declare(name, exclusive=True)
    return name


def publish(channel: Any, exchange: str, routing_key: str) -> None:
    channel.confirm_delivery()
    channel.basic_publish(exchange, routing_key, b"{}")


async def test_the_documented_permissions_of_a_client_are_not_more_than_that(
    urls: dict[str, str], meshes: Meshes
) -> None:
    await meshes.serve(Orders(), amqp_url=urls["orders"], configure=False)

    def refused() -> dict[str, int]:
        connection = pika.BlockingConnection(pika.URLParameters(urls["shop"]))
        codes = {}
        for name, attempt in FORBIDDEN.items():
            channel = connection.channel()
            try:
                attempt(channel)
                codes[name] = 0
                channel.close()
            except ChannelClosedByBroker as e:
                codes[name] = e.reply_code
        connection.close()
        return codes

    assert await asyncio.to_thread(refused) == dict.fromkeys(FORBIDDEN, 403)
    posing = meshes.mesh(Orders(), amqp_url=urls["shop"], configure=False)
    with pytest.raises(BrokerAuthenticationError, match="refused"):
        await posing.start()


async def test_the_copies_of_an_event_are_checked_by_newer_brokers_only(
    urls: dict[str, str], mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    """CC names further topics: 3.10 does not ask whether their author may publish those."""
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.channel.queue_bind, "nuropb-tap-rq", EVENTS, "orders.made")

        def copied() -> bool:
            connection = pika.BlockingConnection(pika.URLParameters(urls["shop"]))
            channel = connection.channel()
            channel.confirm_delivery()
            properties = pika.BasicProperties(headers={"CC": ["orders.made"]})
            with suppress(ChannelClosedByBroker):
                channel.basic_publish(EVENTS, "shop.x", b"{}", properties)
            connection.close()
            return tap.depth("nuropb-tap-rq") == 1

        assert await asyncio.to_thread(copied) is rabbitmq_node.version.startswith("3.")


async def test_a_publish_that_is_refused_is_told_and_the_channel_comes_back(
    urls: dict[str, str], meshes: Meshes
) -> None:
    shop = await meshes.client(amqp_url=urls["shop"], service_name="shop", configure=False)
    with pytest.raises(TopicRefusedError, match=r"orders\.forged"):
        await shop.publish_event("orders.forged", 1)
    await shop.wait_for(State.READY, timeout=10)
    await shop.publish_event("shop.opened", 1)


async def test_reports_that_are_refused_end(
    urls: dict[str, str], meshes: Meshes, caplog: pytest.LogCaptureFixture
) -> None:
    shop = await meshes.client(amqp_url=urls["shop"], service_name="shop", configure=False)
    report(shop, every=0.05)
    await eventually(lambda: "reports of shop end: " in caplog.text)
    await shop.wait_for(State.READY, timeout=10)
    sent = shop.stats().sent
    await shop.publish_event("shop.opened", 1)
    assert sum(shop.stats().sent.values()) == sum(sent.values()) + 1
    assert caplog.text.count("reports of shop end: ") == 1


async def test_a_service_may_listen_to_another_ones_calls(
    urls: dict[str, str], meshes: Meshes
) -> None:
    """So services of one virtual host trust each other."""
    await meshes.serve(Orders(), amqp_url=urls["orders"], configure=False)

    def bind() -> None:
        connection = pika.BlockingConnection(pika.URLParameters(urls["orders"]))
        connection.channel().queue_bind("nuropb-orders-sq", RPC, "billing")
        connection.close()

    await asyncio.to_thread(bind)


# -- what encryption does not do ------------------------------------------------------------


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """Somebody at the broker."""
    async with tapping(mesh) as made:
        await asyncio.to_thread(made.bind, "orders")
        yield made


async def test_a_recorded_request_is_run_again(meshes: Meshes, tap: Tap) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    assert await client.request("orders", "open", {"pin": SECRET}) == f"opened with {SECRET}"

    def replay() -> None:
        _, (properties, body) = tap.take(count=2)
        properties.reply_to = None
        tap.channel.basic_publish(RPC, "orders", body, properties)

    await asyncio.to_thread(replay)
    await eventually(lambda: orders.runs == [SECRET, SECRET])


def pem_of(name: str) -> str:
    public = private_key(name).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


async def test_whoever_answers_for_a_service_reads_its_calls(meshes: Meshes, tap: Tap) -> None:
    client = await meshes.client()
    call = asyncio.create_task(client.request("orders", "open", {"pin": SECRET}, timeout=10))

    def in_the_middle() -> Any:
        ((asked, _),) = tap.take()
        described = {"methods": {"open": {"requires_encryption": True}}, "public_key": pem_of("x")}
        tap.answer(asked, response(asked, described), encrypted=False)
        ((asked, body),) = tap.take()
        return json.loads(
            Encryptor("orders", private_key("x")).decrypt_payload(body, str(asked.correlation_id))
        )

    assert (await asyncio.to_thread(in_the_middle))["params"] == {"pin": SECRET}
    call.cancel()


async def test_with_encrypted_true_nothing_goes_in_plain(meshes: Meshes, tap: Tap) -> None:
    """Somebody says that the service knows no encryption."""
    client = await meshes.client()
    call = asyncio.create_task(
        client.request("orders", "open", {"pin": SECRET}, timeout=3, encrypted=True)
    )

    def downgrade() -> None:
        for _ in range(2):
            ((asked, body),) = tap.take()
            assert json.loads(body)["method"] == "nuropb_describe"
            tap.answer(asked, response(asked, {"methods": {"open": {}}}), encrypted=False)

    await asyncio.to_thread(downgrade)
    with pytest.raises(EncryptionError, match="no public key"):
        await call
    assert await asyncio.to_thread(tap.depth, "nuropb-tap-rq") == 0


async def test_a_key_that_was_brought_by_another_way_is_not_asked_for(
    mesh: Transports, tap: Tap
) -> None:
    encryptor = Encryptor()
    encryptor.add_public_key("orders", pem_of("orders"))
    await mesh.service(Recorder(), encryptor=Encryptor("orders", private_key("orders")))
    client = await mesh.client(encryptor=encryptor)
    answer = await client.request(request(text=SECRET), encrypted=True)
    assert result_of(answer) == {"text": SECRET}
    assert await asyncio.to_thread(tap.depth, "nuropb-tap-rq") == 1, "the call, and nothing else"
