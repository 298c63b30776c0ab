"""receive_transport_message in a subclass: what it sees, and in which forms it may be written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import pytest

from nuropb_rmq import (
    RMQAPI,
    NuropbCallAgain,
    NuropbMessageError,
    NuropbNotDeliveredError,
    NuropbTimeoutError,
    publish_to_mesh,
)

from ..encrypting import private_key
from ..seams import handed_on
from ..support import eventually
from .apis import Apis

CALL: dict[str, Any] = {"service": "orders", "context": {}}


class Orders:
    """Echoes, fails, and asks for another call."""

    _service_name = "orders"
    _private_key = private_key("orders")

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def echo(self, value: Any) -> Any:
        await asyncio.sleep(0)
        self.calls.append(value)
        return value

    @publish_to_mesh(requires_encryption=True)
    def secret(self) -> str:
        return "secret"

    def again(self) -> int:
        self.calls.append("again")
        if len(self.calls) == 1:
            raise NuropbCallAgain("not yet")
        return len(self.calls)

    def fail(self) -> None:
        raise LookupError("no")

    def _handle_event_(self, topic: str, *_: Any) -> None:
        self.calls.append(topic)


class Watching(RMQAPI):
    """Writes down what passes, and hands it on as nuropb's own programs do: nothing is returned."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seen: list[tuple[str, Any]] = []
        super().__init__(*args, **kwargs)

    def receive_transport_message(self, message: Any, complete: Any, metadata: Any) -> Any:
        payload = message["nuropb_payload"]
        kind = message["nuropb_type"]
        told = {"request": "method", "command": "method", "event": "topic", "response": "result"}
        self.seen.append((kind, payload[told[kind]]))
        super().receive_transport_message(message, complete, metadata)


class Returning(Watching):
    def receive_transport_message(self, message: Any, complete: Any, metadata: Any) -> Any:
        return RMQAPI.receive_transport_message(self, message, complete, metadata)


class Awaiting(Watching):
    async def receive_transport_message(self, message: Any, complete: Any, metadata: Any) -> Any:
        await asyncio.sleep(0)
        await RMQAPI.receive_transport_message(self, message, complete, metadata)


class AwaitingNothing(Watching):
    async def receive_transport_message(self, message: Any, complete: Any, metadata: Any) -> Any:
        await asyncio.sleep(0)
        RMQAPI.receive_transport_message(self, message, complete, metadata)


class Later(Watching):
    """Hands it on when the override has long returned."""

    def receive_transport_message(self, message: Any, complete: Any, metadata: Any) -> Any:
        base = super(Watching, self).receive_transport_message
        asyncio.get_running_loop().call_later(0.05, base, message, complete, metadata)


class Failing(Watching):
    """Fails itself when it has handed it on: the message is handled all the same."""

    def receive_transport_message(self, message: Any, complete: Any, metadata: Any) -> Any:
        RMQAPI.receive_transport_message(self, message, complete, metadata)
        if message["nuropb_type"] != "response":
            raise LookupError("after it")


FORMS = [Watching, Returning, Awaiting, AwaitingNothing, Later, Failing]


async def made(apis: Apis, kind: type[RMQAPI], service: object | None = None) -> Any:
    """One that is connected, as a service or a client, and disconnected with the others."""
    name = None if service is None else "orders"
    api = kind(apis.url, service_name=name, service_instance=service)
    apis.adopt(api)
    await api.connect()
    return api


@pytest.mark.parametrize("kind", FORMS)
async def test_a_service_whose_override_hands_on(apis: Apis, kind: type[Watching]) -> None:
    orders = Orders()
    await made(apis, kind, orders)
    client = await apis.connect()
    assert await client.request(method="again", params={}, **CALL) == 2
    assert await client.request(method="echo", params={"value": 1}, **CALL) == 1
    with pytest.raises(NuropbMessageError, match="LookupError: no"):
        await client.request(method="fail", params={}, **CALL)
    await client.command("orders", "echo", {"value": 2}, {})
    await eventually(lambda: orders.calls == ["again", "again", 1, 2])


@pytest.mark.parametrize("kind", FORMS)
async def test_a_client_whose_override_hands_on(apis: Apis, kind: type[Watching]) -> None:
    await apis.connect(Orders())
    client = await made(apis, kind)
    assert await client.request(method="echo", params={"value": 1}, **CALL) == 1
    assert await client.request(method="secret", params={}, **CALL) == "secret"
    with pytest.raises(NuropbMessageError, match="LookupError: no"):
        await client.request(method="fail", params={}, **CALL)
    with pytest.raises(NuropbNotDeliveredError):
        await client.request(**{**CALL, "service": "nobody"}, method="echo", params={})
    assert not handed_on(client)


async def test_it_sees_what_nuropbs_sees(apis: Apis) -> None:
    """Requests, commands, events, and the responses to its own requests, not delivered ones too."""
    orders = Orders()
    service = Watching(
        apis.url,
        service_name="orders",
        service_instance=orders,
        transport_settings={"event_bindings": ["#"]},
    )
    apis.adopt(service)
    await service.connect()
    client = await made(apis, Watching)
    assert await client.request(method="echo", params={"value": 1}, **CALL) == 1
    with pytest.raises(NuropbNotDeliveredError):
        await client.request(**{**CALL, "service": "nobody"}, method="echo", params={})
    await client.command("orders", "echo", {"value": 2}, {})
    await eventually(lambda: len(orders.calls) == 2)
    await client.publish_event("orders.made", {}, {})
    await eventually(lambda: len(orders.calls) == 3)
    assert [each for each in service.seen if each[1] != "nuropb_describe"] == [
        ("request", "echo"),
        ("command", "echo"),
        ("event", "orders.made"),
    ]
    kinds = [kind for kind, result in client.seen if result in (1, None)]
    assert kinds == ["response"] * len(kinds)
    assert ("response", 1) in client.seen
    assert client.seen[-1] == ("response", None)


async def test_what_it_gets_is_a_response_as_nuropbs(apis: Apis) -> None:
    told: list[tuple[Any, Any]] = []

    class Looking(RMQAPI):
        def receive_transport_message(self, message: Any, complete: Any, metadata: Any) -> Any:
            told.append((message, metadata))
            changed = {**message["nuropb_payload"], "result": "changed"}
            if message["nuropb_payload"]["result"] == "plain":
                message = {**message, "nuropb_payload": changed}
            super().receive_transport_message(message, complete, metadata)
            complete([], "ack")

    await apis.connect(Orders())
    client = await made(apis, Looking)
    assert await client.request(method="echo", params={"value": "plain"}, **CALL) == "changed"
    message, metadata = told[-1]
    assert message["nuropb_type"] == "response"
    assert message["nuropb_payload"]["correlation_id"] == message["correlation_id"] != ""
    assert metadata["correlation_id"] == message["correlation_id"]
    assert (metadata["nuropb_type"], metadata["client_only"]) == ("response", True)


async def test_a_response_that_is_kept_ends_the_request_by_its_ttl(
    apis: Apis, caplog: pytest.LogCaptureFixture
) -> None:
    class Keeping(RMQAPI):
        def receive_transport_message(self, *_: Any) -> Any:
            """Nothing."""

    await apis.connect(Orders())
    client = await made(apis, Keeping)
    with pytest.raises(NuropbTimeoutError, match="has not handed it on with super"):
        await client.request(method="echo", params={"value": 1}, ttl=400, **CALL)
    warned = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert any("call super().receive_transport_message" in each.getMessage() for each in warned)
    assert not handed_on(client)


async def test_its_own_error_at_a_response_is_the_requests(apis: Apis) -> None:
    class Odd(RMQAPI):
        def receive_transport_message(self, *_: Any) -> Awaitable[None]:
            raise LookupError("mine")

    await apis.connect(Orders())
    client = await made(apis, Odd)
    with pytest.raises(LookupError, match="mine"):
        await client.request(method="echo", params={"value": 1}, **CALL)


async def test_what_it_began_ends_with_the_service(apis: Apis) -> None:
    """The method that an override has begun, and awaits not, is cancelled as any other."""
    ended: list[str] = []

    class Slow:
        async def wait(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    service = await made(apis, Watching, Slow())
    client = await apis.connect()
    await client.command("orders", "wait", {}, {})
    await eventually(lambda: service.seen)
    await service.transport.core.stop(grace=0)
    assert ended == ["cancelled"]
