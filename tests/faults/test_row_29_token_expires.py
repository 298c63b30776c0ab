"""Row 29: access tokens expire. A provider is asked for the next one in time, and the broker told.

The broker takes JSON Web Tokens (rabbitmq_auth_backend_oauth2). Where `told` is less than a token
really lives, it only makes a test shorter.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from nuropb_rmq import (
    AccessToken,
    BrokerAuthenticationError,
    Mesh,
    NuropbOutcomeUnknownError,
    ServiceNotConfigured,
    State,
    TokenProviderError,
    Transport,
    configure,
)
from nuropb_rmq.broker import retry_limit
from nuropb_rmq.broker.management import ManagementAPI
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, Watch, command, event, eventually, request, result_of
from .common import within, works
from .console import close_connection, connections, delete_queue
from .ear import Ear, basic
from .oauth2 import NOTHING, USER, IdentityServer, Provider, oauth2_node

pytestmark = pytest.mark.broker

QUEUE = "nuropb-orders-sq"
THEIRS = "a-client-secret-of-the-identity-server"
"""A secret in the error of a provider that fails."""


class World(NamedTuple):
    """A broker, an identity server that it trusts, and one that it does not."""

    node: RabbitMQNode
    trusted: IdentityServer
    stranger: IdentityServer


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with ThreadPoolExecutor() as together, oauth2_node() as node:
        trusted, stranger = together.map(lambda _: IdentityServer(), range(2))
        trusted.introduce(node)
        yield World(node, trusted, stranger)


@pytest.fixture
def nothing_left_behind(world: World, nothing_left_behind: None) -> None:
    """The node stays for all tests: it starts before the search takes its first look."""


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Hears everything during the test; afterwards, that no token was in it."""
    with Ear(()) as made:
        yield made
    assert made.records["nuropb_rmq"] + made.records["aiormq"], "nothing was heard"
    assert made.heard == []


@pytest.fixture
async def mesh(world: World, ear: Ear) -> AsyncIterator[Transports]:
    """A configured virtual host; the address has no password in it."""
    url = f"amqp://{USER}@127.0.0.1:{world.node.port}/"
    made = Transports(url)
    provider = Provider(tokens(world.trusted, ear, lives=60))
    await configure(made.config("orders", token_provider=provider))
    yield made
    await made.stop()
    assert ear.seen() == []


def tokens(
    server: IdentityServer, ear: Ear, *, lives: float, told: float | None = None, **claims: Any
) -> Callable[[], AccessToken]:
    """Gives a new token each time; all of them are secret."""

    def give() -> AccessToken:
        token, life = server.sign(lives=lives, **claims)
        ear.listen_for(token)
        ear.listen_for(basic(USER, token))
        return AccessToken(token, life if told is None else told)

    return give


def fail() -> AccessToken:
    raise LookupError(THEIRS)


async def pids(world: World) -> set[str]:
    return await asyncio.to_thread(connections, world.node)


async def test_row_29_renewed_on_the_living_connection(
    mesh: Transports, world: World, ear: Ear
) -> None:
    """Over several lives of tokens calls go on, over the same connections. Asked at 80 %."""
    give = tokens(world.trusted, ear, lives=5)
    providers = Provider(give), Provider(give)
    recorder = Recorder()
    service = await mesh.service(recorder, token_provider=providers[0], event_bindings=["orders.#"])
    client = await mesh.client(token_provider=providers[1].in_a_thread)
    before = await pids(world)
    assert len(before) == 3
    watches = Watch(service), Watch(client)
    calls = 0
    while min(len(each.given) for each in providers) < 3 or len(providers[0].given) < 6:
        assert result_of(await client.request(request(n=calls), timeout=5)) == {"n": calls}
        await client.send(command(n=calls))
        await client.send(event("orders.made", calls))
        calls += 1
        await asyncio.sleep(0.02)
    life = providers[1].given[-2].expires_in
    assert life is not None
    await asyncio.sleep(providers[1].asked[-2] + life - time.monotonic())  # that token is no more
    # Before 4.x the broker goes on with what an expired token was once let do: this is new to it.
    await client.send(event("orders.late", calls))
    await service.send(event("orders.later", calls))
    assert [each.states for each in watches] == [[], []]
    assert await pids(world) == before
    for given, (asked, again) in zip(
        providers[1].given, itertools.pairwise(providers[1].asked), strict=False
    ):
        assert given.expires_in is not None
        assert 0.75 <= (again - asked) / given.expires_in < 0.95
    await eventually(lambda: len(recorder.seen) == 3 * calls + 2)


async def test_row_29_a_provider_that_fails_for_a_while(
    mesh: Transports, world: World, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    """The old token is kept; a connection lost meanwhile is back ≤10 s after tokens are."""
    good = tokens(world.trusted, ear, lives=30, told=1.5)
    provider = Provider(good)
    service = await mesh.service(Recorder(), token_provider=provider)
    client = await mesh.client(token_provider=Provider(tokens(world.trusted, ear, lives=60)))
    ear.listen_for(THEIRS)
    watch = Watch(service)
    provider.give = fail
    asked = len(provider.asked)
    await eventually(lambda: len(provider.asked) >= asked + 8)  # by two connections
    assert provider.asked[asked + 7] - provider.asked[asked] > 0.3, "without pauses"
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert watch.states == []
    name = f"orders/{service.instance_id}"
    for role in ("publishing", "consuming"):
        await asyncio.to_thread(close_connection, world.node, f"{name} {role}")
    await watch.left()
    asked = len(provider.asked)
    await eventually(lambda: len(provider.asked) >= asked + 3)
    provider.answering.clear()  # it hangs now
    asked = len(provider.asked)
    await eventually(lambda: len(provider.asked) > asked)
    assert service.state is State.RECOVERING
    provider.give = good
    provider.answering.set()
    await works(client, 10)
    await watch.recovered()
    assert "the token is not renewed: token_provider: failed: LookupError" in caplog.text
    assert "no token to log in with" in caplog.text


async def test_row_29_an_update_that_is_refused(mesh: Transports, world: World, ear: Ear) -> None:
    """The broker closes the connection. Refusals are borne for a while, and each login asks."""
    good = tokens(world.trusted, ear, lives=60, told=1.5)
    provider = Provider(good)
    service = await mesh.service(Recorder(), token_provider=provider, reconnect_cap=0.3)
    client = await mesh.client(token_provider=Provider(tokens(world.trusted, ear, lives=60)))
    watch = Watch(service)
    provider.give = tokens(world.stranger, ear, lives=60)
    await watch.left()
    asked = len(provider.asked)
    await eventually(lambda: len(provider.asked) >= asked + 4)
    assert service.state is State.RECOVERING
    provider.give = good
    await works(client, 10)
    await watch.recovered()


async def test_row_29_a_token_that_permits_too_little(
    mesh: Transports, world: World, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker refuses what a session needs, and the next login asks for another token."""
    good = tokens(world.trusted, ear, lives=60, told=2)
    provider = Provider(good)
    service = await mesh.service(Recorder(), token_provider=provider, reconnect_cap=0.3)
    client = await mesh.client(token_provider=Provider(tokens(world.trusted, ear, lives=60)))
    before = await pids(world)
    watch = Watch(service)
    given = len(provider.given)
    provider.give = tokens(world.trusted, ear, lives=60, told=2, scope=NOTHING)
    await eventually(lambda: len(provider.given) >= given + 2)  # for both connections
    await asyncio.to_thread(delete_queue, world.node, mesh.url, QUEUE)
    await watch.left()
    await eventually(lambda: "refuses the token; requesting another" in caplog.text)
    assert service.state is State.RECOVERING
    provider.give = good
    given = len(provider.given)
    await eventually(lambda: len(provider.given) >= given + 2)
    await works(client, 10)
    await watch.recovered()
    assert len(await pids(world) & before) == 2  # the consuming one has logged in anew


async def test_row_29_a_life_that_is_not_known(mesh: Transports, world: World, ear: Ear) -> None:
    """The broker ends it or, before 4.x, refuses what is new: the next login asks again."""
    give = tokens(world.trusted, ear, lives=2.5)
    provider = Provider(lambda: dataclasses.replace(give(), expires_in=None))
    service = await mesh.service(Recorder(), token_provider=provider)
    client = await mesh.client(token_provider=Provider(tokens(world.trusted, ear, lives=60)))
    watch = Watch(service)
    await asyncio.sleep(provider.asked[-1] + 2.5 - time.monotonic())
    provider.give = tokens(world.trusted, ear, lives=60)
    with suppress(NuropbOutcomeUnknownError):
        await service.send(event("orders.late", 1))
    await watch.left()
    await works(client, 10)
    await watch.recovered()


async def test_row_29_refused_for_good(
    mesh: Transports, world: World, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for ever: when each token is refused for 5 minutes (here 1 s), the state is FAILED."""
    monkeypatch.setattr(retry_limit, "REFUSED_FOR", 1.0)
    provider = Provider(tokens(world.trusted, ear, lives=60, told=1.5))
    client = await mesh.client(token_provider=provider, reconnect_cap=0.3)
    provider.give = tokens(world.stranger, ear, lives=60)
    await client.wait_for(State.FAILED, timeout=10)
    assert isinstance(client.error, BrokerAuthenticationError)
    assert len(provider.asked) > 4


async def failed(
    mesh: Transports, error: type[Exception], match: str, **settings: Any
) -> Transport:
    """A start that raises this, in time."""
    client = mesh.transport("client", connect_timeout=1, **settings)
    with within(2), pytest.raises(error, match=match):
        await client.start()
    assert client.state is State.STOPPED
    return client


async def test_row_29_at_the_start(mesh: Transports, world: World, ear: Ear) -> None:
    """No token, or one that is refused: start() raises a typed error within connect_timeout."""
    provider = Provider(tokens(world.stranger, ear, lives=60))
    await failed(mesh, BrokerAuthenticationError, "refused", token_provider=provider)
    provider.give = tokens(world.trusted, ear, lives=60, told=0.5)
    await failed(mesh, TokenProviderError, r"more, not 0\.5", token_provider=provider)
    provider.give = fail
    await failed(mesh, TokenProviderError, "failed: LookupError", token_provider=provider)
    assert len(provider.asked) == 3
    provider.answering.clear()
    client = await failed(mesh, TokenProviderError, r"within 0\.5 s", token_provider=provider)
    provider.give = tokens(world.trusted, ear, lives=60)
    provider.answering.set()
    await client.start()


async def test_row_29_a_stop_while_the_provider_hangs(
    mesh: Transports, world: World, ear: Ear
) -> None:
    provider = Provider(tokens(world.trusted, ear, lives=60))
    client = await mesh.client(token_provider=provider)
    watch = Watch(client)
    provider.answering.clear()
    name = f"client/{client.instance_id} client"
    await asyncio.to_thread(close_connection, world.node, name)
    await watch.left()
    await eventually(lambda: len(provider.asked) == 2)
    with within(2):
        await client.stop()


async def test_row_29_what_is_missing_is_made_with_tokens(
    mesh: Transports, world: World, ear: Ear
) -> None:
    """configure() makes a virtual host over the management API, and what belongs in it."""
    provider = Provider(tokens(world.trusted, ear, lives=60))
    api_url = world.node.management_url
    config = mesh.config("orders", amqp_url=f"{mesh.url}made", token_provider=provider.in_a_thread)
    await configure(config, api_url=api_url)
    assert len(provider.asked) >= 3  # to find it missing, to make it, and to go in
    async with Mesh(mesh.config("user", token_provider=provider)) as user:
        assert user.state is State.READY
    api = ManagementAPI(api_url, username=USER, token_provider=provider)
    async with api:
        assert await api.vhost_exists("made")
        assert {each["name"] for each in await api.queues("made")} == {"nuropb-orders-dlq"}
        await api.delete_vhost("made")
        provider.give = tokens(world.stranger, ear, lives=60)
        with pytest.raises(BrokerAuthenticationError):
            await api.overview()
        provider.give = fail
        with pytest.raises(TokenProviderError):
            await api.overview()
        with pytest.raises(TokenProviderError):
            await configure(config, api_url=api_url)
    provider.give = tokens(world.trusted, ear, lives=60)
    with pytest.raises(ServiceNotConfigured):
        await mesh.client(amqp_url=f"{mesh.url}made", token_provider=provider)
