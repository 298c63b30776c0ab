"""RMQAPI and Mesh of ours, and RMQAPI of nuropb 0.1.8 in its own process: both ways."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq import (
    RMQAPI,
    Mesh,
    NuropbCallAgain,
    NuropbHandlingError,
    NuropbMessageError,
    NuropbNotDeliveredError,
    NuropbRemoteError,
    NuropbTimeoutError,
    RMQTransport,
)

from ..cli.command import stubs
from ..encrypting import SECRET, Tap, headers_of, private_key
from ..support import eventually
from .conftest import Peers
from .orders import Orders
from .process import PeerError
from .sides import SERVICE, called

Request = Callable[..., Awaitable[Any]]
KINDS = ["RMQAPI", "Mesh"]


class Client:
    """Either class of ours, called in the same way."""

    def __init__(self, kind: str, url: str) -> None:
        self.api = RMQAPI(url) if kind == "RMQAPI" else None
        self.mesh = None if kind == "RMQAPI" else Mesh(url, configure=False)

    async def __aenter__(self) -> Client:
        await (self.api.connect() if self.api else self._mesh.start())
        return self

    async def __aexit__(self, *_: object) -> None:
        await (self.api.disconnect() if self.api else self._mesh.stop())

    @property
    def _mesh(self) -> Mesh:
        assert self.mesh is not None
        return self.mesh

    async def request(
        self,
        method: str,
        *,
        service: str = SERVICE,
        context: dict[str, Any] | None = None,
        within: float = 20,
        encrypted: bool = False,
        **params: Any,
    ) -> Any:
        if self.api is not None:
            ttl = round(within * 1000)
            return await self.api.request(
                service, method, params, context or {}, ttl=ttl, encrypted=encrypted
            )
        return await self._mesh.request(
            service,
            method,
            params,
            context=context,
            timeout=within,
            encrypted=encrypted or None,
        )

    async def command(self, method: str, *, encrypted: bool = False, **params: Any) -> None:
        if self.api is not None:
            await self.api.command(SERVICE, method, params, {}, encrypted=encrypted)
        else:
            await self._mesh.command(SERVICE, method, params, encrypted=encrypted or None)

    async def event(self, topic: str, event: Any, context: dict[str, Any]) -> None:
        if self.api is not None:
            await self.api.publish_event(topic, event, context)
        else:
            await self._mesh.publish_event(topic, event, context=context)

    async def describe(self) -> Any:
        return await (self.api or self._mesh).describe_service(SERVICE)

    async def requires_encryption(self, method: str) -> bool:
        return await (self.api or self._mesh).requires_encryption(SERVICE, method)


# -- we call nuropb 0.1.8 -------------------------------------------------------------------


@pytest.fixture(params=KINDS)
async def client(request: pytest.FixtureRequest, old_peers: Peers) -> AsyncIterator[Client]:
    """A client of ours."""
    async with Client(request.param, old_peers.url) as made:
        yield made


async def test_we_call_nuropb(client: Client, old_peers: Peers) -> None:
    server = await old_peers.server()
    assert await client.request("echo", text="é☃", number=3) == {"text": "é☃", "number": 3}
    assert await client.request("echo_later", text="a") == {"text": "a", "number": 0}
    assert await client.request("who", context={"user": "ada"}, greeting="hello") == "hello ada"
    assert await client.request("again", key="a", times=1) == "done at call 2"
    await client.command("echo", text="command")
    await client.event("orders.created", {"id": 1}, {"user": "ada"})
    calls = await called(server, 6)
    assert {"method": "echo", "text": "command", "number": 0} in calls
    assert [each["event"] for each in calls if each["method"] == "event"] == [{"id": 1}]


async def test_nuropbs_errors_are_ours(client: Client, old_peers: Peers) -> None:
    await old_peers.server()
    with pytest.raises(NuropbMessageError, match="LookupError: no such order") as caught:
        await client.request("fail", text="no such order")
    assert isinstance(caught.value, NuropbRemoteError)
    assert caught.value.error == "NuropbException"
    with pytest.raises(NuropbRemoteError, match="LookupError: no such order"):
        await client.request("fail_later", text="no such order")
    with pytest.raises(NuropbHandlingError, match="Unknown method nope"):
        await client.request("nope")
    with pytest.raises(NuropbNotDeliveredError):
        await client.request("echo", service="nobody", text="?")
    with pytest.raises(NuropbTimeoutError):
        await client.request("hold", within=0.5, text="late")
    assert await client.request("echo", text="goes on") == {"text": "goes on", "number": 0}


async def test_nuropb_is_described_and_called_encrypted(client: Client, old_peers: Peers) -> None:
    server = await old_peers.server()
    with contextlib.closing(Tap(old_peers.url)) as tap:
        tap.bind(SERVICE)
        assert await client.request("pay", card=SECRET) == f"paid with {SECRET}"
        assert await client.request("echo", encrypted=True, text=SECRET) is not None
        await client.command("pay", encrypted=True, card=SECRET)
        seen = tap.take(count=4)
    assert [headers_of(each)["encrypted"] for each, _ in seen] == ["", "yes", "yes", "yes"]
    assert not any(SECRET.encode() in body for _, body in seen)
    await called(server, 3)
    described = await client.describe()
    assert described["methods"]["echo"]["parameters"]["required"] == ["text"]
    assert described["public_key"].startswith("-----BEGIN PUBLIC KEY-----")
    assert await client.requires_encryption("pay") is True
    assert await client.requires_encryption("echo") is False


async def test_nuropb_is_called_by_its_stubs(old_peers: Peers, tmp_path: Path) -> None:
    """Types are as exact as its description; results are whatever comes."""
    await old_peers.server()
    module = await stubs(tmp_path, SERVICE, old_peers.url)
    async with Mesh(old_peers.url) as mesh:
        await mesh.check(module.Orders)
        orders: Any = mesh.client(module.Orders)
        assert await orders.echo(text="?") == {"text": "?", "number": 0}
        assert inspect.get_annotations(module.Orders.echo)["number"] == "int"
        with pytest.raises(TypeError, match="missing a required argument: 'text'"):
            await orders.echo()


async def test_nuropb_without_a_key_is_called_in_plain(
    client: Client, old_peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    """It says that a method requires encryption by failing at its own description."""
    await old_peers.server(private_key=None)
    assert await client.request("pay", card="1") == "paid with 1"
    assert "'orders' cannot be described" in caplog.text


# -- nuropb 0.1.8 calls us ------------------------------------------------------------------


@pytest.fixture(params=KINDS)
async def orders(request: pytest.FixtureRequest, old_peers: Peers) -> AsyncIterator[Orders]:
    """Served by us."""
    served = Orders(NuropbCallAgain, private_key(SERVICE))
    if request.param == "Mesh":
        mesh = Mesh(old_peers.url, service=served, event_bindings=["orders.#"], configure=False)
        async with mesh:
            yield served
        return
    api = RMQAPI(
        old_peers.url,
        service_name=SERVICE,
        service_instance=served,
        transport_settings={"event_bindings": ["orders.#"]},
    )
    await api.connect()
    assert isinstance(api.transport, RMQTransport)
    yield served
    await api.disconnect()


async def test_nuropb_calls_us(orders: Orders, old_peers: Peers) -> None:
    caller = await old_peers.caller()
    for method in ("echo", "echo_later"):
        answer = await caller.request(method, text="é☃", number=3)
        assert answer.result == {"text": "é☃", "number": 3}
    answer = await caller.request("who", context={"user": "ada"}, greeting="hello")
    assert answer.result == "hello ada"
    assert (await caller.request("again", key="a", times=1)).result == "done at call 2"
    await caller.command("echo", text="command")
    await caller.event("orders.created", {"id": 1}, {"user": "ada"})
    await eventually(lambda: len(orders._calls) == 6)
    assert orders._calls[-1]["event"] == {"id": 1} or orders._calls[-2]["event"] == {"id": 1}


async def test_our_errors_are_nuropbs(orders: Orders, old_peers: Peers) -> None:
    caller = await old_peers.caller()
    for method in ("fail", "fail_later"):
        answer = await caller.request(method, text="no such order")
        assert (answer.error, answer.description) == ("LookupError", "no such order")
    answer = await caller.request("again", key="b", times=2)
    assert answer.error == "NuropbCallAgainReject"
    answer = await caller.request("_release")
    assert answer.error == "NuropbHandlingError"
    with pytest.raises(PeerError) as caught:  # raised there, as nuropb raises it
        await caller.peer.do(
            "request", service=SERVICE, method="fail", params={"text": "x"}, context={}
        )
    assert (caught.value.error, caught.value.text) == ("NuropbMessageError", "x")


async def test_nuropb_describes_us_and_calls_encrypted(orders: Orders, old_peers: Peers) -> None:
    caller = await old_peers.caller()
    described = await caller.describe()
    assert described["methods"]["pay"]["requires_encryption"] is True
    for method, required in (("pay", True), ("echo", False)):
        needs = await caller.peer.do("requires_encryption", service=SERVICE, method=method)
        assert needs is required
    answer = await caller.request("pay", encrypted=True, card=SECRET)
    assert answer.result == f"paid with {SECRET}"
    orders._calls.clear()
    answer = await caller.request("pay", card=SECRET)
    assert answer.error == "EncryptionRequiredError"
    await caller.command("pay", encrypted=True, card="2")
    await eventually(lambda: orders._calls)
    assert orders._calls == [{"method": "pay", "card": "2"}]


async def test_nuropb_calls_us_200_times_at_once(orders: Orders, old_peers: Peers) -> None:
    caller = await old_peers.caller()
    params = [{"text": "n", "number": number} for number in range(200)]
    assert await caller.requests("echo_later", params) == params
