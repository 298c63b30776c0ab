"""RMQAPI as a NuroPb program uses it: its signature, its units, and what it promises."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from typing import Any
from uuid import uuid4

import pytest

from nuropb_rmq import (
    RMQAPI,
    EncryptionError,
    EncryptionRequiredError,
    NuropbAuthorizationError,
    NuropbCallAgain,
    NuropbContextManager,
    NuropbInterface,
    NuropbMessageError,
    NuropbNotDeliveredError,
    NuropbSuccess,
    NuropbTimeoutError,
    NuropbValidationError,
    RMQTransport,
    ServiceNotConfigured,
    TransportClosedError,
    nuropb_context,
    publish_to_mesh,
)

from ..encrypting import SECRET, private_key
from ..mesh.test_authorization import Seller, Subscriber
from ..support import eventually
from .apis import Apis


def claims_of(token: str) -> dict[str, Any] | None:
    return {"user_id": "test_user"} if token == "Bearer 1" else None


class Orders:
    """As in nuropb's quickstart."""

    _service_name = "orders"
    _instance_id = uuid4().hex
    _private_key = private_key("orders")

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.again = 0
        self.released = asyncio.Event()

    @nuropb_context
    @publish_to_mesh(authorize_func=claims_of)
    def test_requires_user_claims(self, ctx: Any, **kwargs: Any) -> str:
        assert isinstance(ctx, NuropbContextManager)
        return f"hello {ctx.user_claims['user_id']}"

    def test_method(self, param1: int, param2: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(threading.current_thread().name)
        return {"param1": param1, "param2": param2, "reply": "response from test_method"}

    async def test_async_method(self, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return kwargs

    @publish_to_mesh(requires_encryption=True)
    def secret(self, pin: str) -> str:
        self.seen.append(pin)
        return pin

    @publish_to_mesh(hide_method=True)
    def hidden(self) -> None:
        self.seen.append("hidden")

    def fail(self) -> None:
        raise LookupError("no such order")

    def exit(self) -> None:
        raise SystemExit(1)

    def unserializable(self) -> Any:
        return {(1, 2): 3}

    def call_again(self) -> int:
        self.again += 1
        if self.again == 1:
            raise NuropbCallAgain("not yet")
        return self.again

    def always_again(self) -> None:
        raise NuropbCallAgain("never")

    def succeed(self) -> None:
        events: Any = [{"topic": "orders.done", "payload": {"id": 1}, "target": []}]
        raise NuropbSuccess("ok", events=events)

    @nuropb_context
    async def add_event(self, ctx: NuropbContextManager, fail: bool) -> str:
        async with ctx:
            ctx.add_event({"topic": "orders.added", "event": 1, "context": {}})
            if fail:
                raise LookupError("not added")
        return "added"

    async def late(self) -> None:
        """Answers when nobody waits any more, and disconnect() may be done."""
        await self.released.wait()

    async def _handle_event_(
        self,
        topic: str,
        event: Any,
        target: Any = None,
        context: Any = None,
        trace_id: str | None = None,
    ) -> None:
        await asyncio.sleep(0)
        self.seen.append((topic, event))


CALL: dict[str, Any] = {"service": "orders", "context": {}}


def test_it_has_nuropbs_signatures() -> None:
    def names(function: Any) -> list[str]:
        return list(inspect.signature(function).parameters)

    common = ["self", "service", "method", "params", "context", "ttl", "trace_id"]
    assert names(RMQAPI.request) == [*common, "rpc_response", "encrypted"]
    assert names(RMQAPI.command) == [*common, "encrypted"]
    assert names(RMQAPI.publish_event) == [
        "self", "topic", "event", "context", "trace_id", "encrypted"
    ]  # fmt: skip
    assert names(RMQAPI.describe_service) == ["self", "service_name", "refresh"]
    assert names(RMQAPI) == [
        "amqp_url", "service_name", "instance_id", "service_instance", "rpc_exchange",
        "events_exchange", "transport_settings",
    ]  # fmt: skip
    assert issubclass(RMQAPI, NuropbInterface)


async def test_the_quickstart(apis: Apis) -> None:
    orders = Orders()
    service = await apis.connect(
        orders,
        instance_id=orders._instance_id,
        transport_settings={"rpc_bindings": [orders._service_name]},
    )
    client = await apis.connect()
    assert (service.client_only, client.client_only) == (False, True)
    assert service.connected
    assert service.is_leader
    assert service.service_name == "orders"
    assert service.instance_id == orders._instance_id
    assert client.service_name.startswith("test-")
    assert client.service_name.endswith("-client")
    assert isinstance(service.transport, RMQTransport)
    response = await client.request(
        service="orders",
        method="test_requires_user_claims",
        params={},
        context={"Authorization": "Bearer 1"},
    )
    assert response == "hello test_user"
    params = {"param1": "value1", "param2": {"param2a": "value2a"}}
    response = await client.request("orders", "test_method", params, {}, 5_000, "trace-1")
    assert response == {**params, "reply": "response from test_method"}
    assert orders.seen == ["MainThread"]
    assert await client.request(method="test_async_method", params={"a": 1}, **CALL) == {"a": 1}
    await client.disconnect()
    assert not client.connected
    with pytest.raises(TransportClosedError):
        await client.request(method="fail", params={}, **CALL)


async def test_connecting_twice_is_warned_of(apis: Apis, caplog: pytest.LogCaptureFixture) -> None:
    client = await apis.connect()
    await client.connect()
    assert "connected already" in caplog.text


async def test_what_is_missing_on_the_broker(mesh_url: str) -> None:
    api = RMQAPI(mesh_url)
    with pytest.raises(ServiceNotConfigured, match="nuropb-rpc-exchange"):
        await api.connect()
    assert not api.connected


async def test_the_whole_response(apis: Apis) -> None:
    orders = Orders()
    await apis.connect(orders)
    client = await apis.connect()
    call: dict[str, Any] = {"params": {}, "rpc_response": False, **CALL}
    response = await client.request(method="call_again", trace_id="trace-1", **call)
    assert (response["tag"], response["result"], response["error"]) == ("response", 2, None)
    assert response["trace_id"] == "trace-1"
    response = await client.request(method="fail", **call)
    assert response["error"] == {"error": "LookupError", "description": "no such order"}
    response = await client.request(method="late", **{**call, "ttl": 200})
    orders.released.set()
    assert response["error"]["error"] == "NuropbTimeoutError"
    assert response["result"] is None
    response = await client.request(method="x", **{**call, "service": "nobody"})
    assert response["error"]["error"] == "NuropbNotDeliveredError"


async def test_errors(apis: Apis) -> None:
    orders = Orders()
    await apis.connect(orders)
    client = await apis.connect()

    async def call(method: str, params: Any = None, **options: Any) -> Any:
        options = {**CALL, **options}
        return await client.request(method=method, params=params or {}, **options)

    for method, says in [
        ("fail", "LookupError: no such order"),
        ("exit", "SystemExit: 1"),
        ("unserializable", "keys must be str"),
        ("always_again", "second call-again"),
        ("hidden", "Unknown method 'hidden'"),
        ("_handle_event_", "Unknown method"),
        ("test_method", "missing 2 required positional arguments"),
    ]:
        with pytest.raises(NuropbMessageError, match=says):
            await call(method)
    with pytest.raises(NuropbAuthorizationError):
        await call("test_requires_user_claims", context={"Authorization": "x"})
    with pytest.raises(NuropbTimeoutError):
        await call("late", ttl=200)
    orders.released.set()
    with pytest.raises(NuropbNotDeliveredError) as caught:
        await call("x", service="nobody")
    assert isinstance(caught.value, NuropbMessageError)
    for ttl in (0, -1, "5", True):
        with pytest.raises(NuropbValidationError, match="ttl"):
            await call("fail", ttl=ttl)
    assert orders.seen == []


async def test_commands_and_events_need_not_be_awaited(apis: Apis) -> None:
    orders = Orders()
    await apis.connect(orders, transport_settings={"event_bindings": ["orders.#"]})
    client = await apis.connect()
    client.command("orders", "test_method", {"param1": 1, "param2": {}}, {})
    client.publish_event("orders.created", {"id": 1}, {"user": 1}, "trace-1")
    await client.command("orders", "test_method", {"param1": 2, "param2": {}}, {}, ttl=60_000)
    await client.publish_event("orders.created", {"id": 2}, {})
    await eventually(lambda: len(orders.seen) == 4)
    assert ("orders.created", {"id": 1}) in orders.seen


async def test_a_failure_that_nobody_awaits_is_logged_once(
    apis: Apis, caplog: pytest.LogCaptureFixture
) -> None:
    client = await apis.connect()
    client.command("nobody", "x", {}, {})

    def logged() -> bool:
        gc.collect()  # it is known that nobody asks when nobody has the future any more
        return "not delivered" in caplog.text

    await eventually(logged)
    assert caplog.text.count("NO_ROUTE") == 1
    with pytest.raises(NuropbNotDeliveredError):
        await client.command("nobody", "x", {}, {})


async def test_events_of_methods(apis: Apis) -> None:
    orders = Orders()
    await apis.connect(orders, transport_settings={"event_bindings": ["orders.#"]})
    client = await apis.connect()
    assert await client.request(method="succeed", params={}, **CALL) == "ok"
    assert await client.request(method="add_event", params={"fail": False}, **CALL) == "added"
    with pytest.raises(NuropbMessageError, match="not added"):
        await client.request(method="add_event", params={"fail": True}, **CALL)
    await eventually(lambda: len(orders.seen) == 2)
    assert orders.seen == [("orders.done", {"id": 1}), ("orders.added", 1)]


async def test_events_of_methods_carry_the_callers_token_as_in_nuropb(apis: Apis) -> None:
    subscriber = Subscriber()
    await apis.connect(subscriber)
    await apis.connect(Seller())
    client = await apis.connect()
    context = {"token": "good-1", "trip": 7}
    await client.request("seller", "sell", {}, context)
    await eventually(lambda: len(subscriber.admitted) == 2)
    assert subscriber.heard["sold.plainly"] == context


async def test_descriptions_and_encryption(apis: Apis) -> None:
    orders = Orders()
    await apis.connect(orders)
    client = await apis.connect()
    with pytest.raises(EncryptionError, match="public key"):
        client.command("orders", "secret", {"pin": SECRET}, {}, encrypted=True)
    call = {"method": "secret", "params": {"pin": SECRET}, **CALL}
    assert await client.request(**call) == SECRET  # it is required, so nobody had to say so
    assert await client.request(encrypted=True, **call) == SECRET
    described = await client.describe_service("orders")
    assert await client.describe_service("orders", refresh=True) is not described
    assert described["methods"]["secret"]["requires_encryption"] is True
    assert await client.requires_encryption("orders", "secret") is True
    assert await client.requires_encryption("orders", "fail") is False
    assert await client.has_public_key("orders") is True
    with pytest.raises(ValueError, match="no method 'x'"):
        await client.requires_encryption("orders", "x")
    orders.seen.clear()
    await client.command("orders", "secret", {"pin": "plain"}, {})  # explicit, as in nuropb
    await client.command("orders", "secret", {"pin": "sealed"}, {}, encrypted=True)
    await eventually(lambda: orders.seen)
    assert orders.seen == ["sealed"]
    with pytest.raises(EncryptionError, match="events cannot be encrypted"):
        client.publish_event("t", 1, {}, encrypted=True)


async def test_a_service_without_a_key_refuses_what_requires_one(
    apis: Apis, caplog: pytest.LogCaptureFixture
) -> None:
    class Keyless:
        _service_name = "keyless"

        @publish_to_mesh(requires_encryption=True)
        def secret(self) -> None: ...

        def plain(self) -> str:
            return "plain"

    await apis.connect(Keyless())
    assert "keyless has no _private_key" in caplog.text
    client = await apis.connect()
    assert await client.request("keyless", "plain", {}, {}) == "plain"
    with pytest.raises(EncryptionError, match="no public key"):
        await client.request("keyless", "secret", {}, {})
    client = await apis.connect()
    core = client.transport.core
    payload = {"tag": "request", "service": "keyless", "method": "secret", "params": {}}
    response = await core.request(payload)
    assert response["error"] is not None
    assert response["error"]["error"] == EncryptionRequiredError.__name__


async def test_a_subclass_sees_every_message(apis: Apis) -> None:
    seen: list[tuple[str, str]] = []

    class Watching(RMQAPI):
        async def receive_transport_message(
            self, service_message: Any, message_complete_callback: Any, metadata: Any
        ) -> None:
            def complete(responses: Any, action: Any) -> None:
                seen.append((service_message["nuropb_payload"]["method"], action))
                message_complete_callback(responses, action)

            await super().receive_transport_message(service_message, complete, metadata)

    service = Watching(apis.url, service_name="orders", service_instance=Orders())
    await service.connect()
    client = await apis.connect()
    assert await client.request(method="call_again", params={}, **CALL) == 2
    with pytest.raises(NuropbMessageError):
        await client.request(method="fail", params={}, **CALL)
    await service.disconnect()
    assert seen == [
        ("nuropb_describe", "ack"),
        ("call_again", "nack"),
        ("call_again", "ack"),
        ("fail", "reject"),
    ]
