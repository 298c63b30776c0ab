"""Programs of nuropb: RMQTransport, RMQAPI and the functions around them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nuropb_rmq import (
    RMQAPI,
    NuropbAuthorizationError,
    NuropbMessageError,
    NuropbNotDeliveredError,
    NuropbSuccess,
    NuropbTimeoutError,
    RMQTransport,
    TransportClosedError,
    configure_nuropb_rmq,
    create_client,
    create_service,
    nuropb_context,
    publish_to_mesh,
)

from ..compat.apis import Apis
from ..compat.programs import Callback, Programs, answer, echo, raised
from ..encrypting import private_key
from ..support import command, event, eventually, request
from .brokers import Place, becomes
from .raw import RawChannel, headers_of

CALL: dict[str, Any] = {"service": "orders", "context": {}}


def claims_of(token: str) -> dict[str, Any] | None:
    return {"user_id": "test_user"} if token == "Bearer 1" else None


class Orders:
    _service_name = "orders"
    _private_key = private_key("orders")

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.released = asyncio.Event()

    @nuropb_context
    @publish_to_mesh(authorize_func=claims_of)
    def hello(self, ctx: Any, **kwargs: Any) -> str:
        return f"hello {ctx.user_claims['user_id']}"

    async def echo(self, **kwargs: Any) -> Any:
        return kwargs

    @publish_to_mesh(requires_encryption=True)
    def secret(self, pin: str) -> str:
        self.seen.append(pin)
        return pin

    def fail(self) -> None:
        raise LookupError("no such order")

    def note(self, value: Any) -> None:
        self.seen.append(value)

    def succeed(self) -> None:
        raise NuropbSuccess("ok", events=[{"topic": "orders.done", "payload": 1, "target": []}])

    async def wait(self) -> None:
        await self.released.wait()

    async def _handle_event_(self, topic: str, event: Any, *_: Any, **__: Any) -> None:
        self.seen.append((topic, event))


# -- RMQTransport -----------------------------------------------------------------------------


async def test_a_request(programs: Programs) -> None:
    service, answers = Callback(echo), Callback()
    await programs.service(service)
    client = await programs.client(answers)
    payload = {**request(n=1), "correlation_id": "c-1", "trace_id": "t-1"}
    await client.send_message(payload)
    await eventually(lambda: answers.messages)
    (response,) = answers.payloads
    assert (response["tag"], response["result"], response["correlation_id"]) == (
        "response", {"n": 1}, "c-1",
    )  # fmt: skip
    assert service.payloads[0]["params"] == {"n": 1}
    assert service.messages[0]["trace_id"] == "t-1"


@pytest.mark.parametrize("action", ["ack", "reject", "nack"])
async def test_an_acknowledgement(
    programs: Programs, channel: RawChannel, place: Place, action: Any
) -> None:
    def act(message: Any, complete: Any, _: Any) -> None:
        again = message["nuropb_payload"].get("context", {})
        complete([], "ack" if len(service.messages) > 1 else action)
        assert again == {}

    service = Callback(act)
    await programs.service(service)
    client = await programs.client()
    await client.send_message({**command(n=1), "context": {}})
    if action == "reject":
        await channel.consume("nuropb-orders-dlq", no_ack=True)
        (letter,) = await channel.taken(1)
        assert headers_of(letter)["x-death"][0]["reason"] == "rejected"
    await eventually(lambda: len(service.messages) == (2 if action == "nack" else 1))
    await becomes(lambda: place.depth("nuropb-orders-sq"), 0)


async def test_completed_later_with_events(programs: Programs) -> None:
    service, listener, answers = Callback(), Callback(echo), Callback()
    await programs.service(service)
    await programs.service(listener, service_name="listener", event_bindings=["done.*"])
    client = await programs.client(answers)
    await client.send_message(request(n=1))
    await eventually(lambda: service.messages)
    message = service.messages[0]
    service.complete([answer(message, "later"), raised(message, "done.one", 1)])
    await eventually(lambda: answers.messages and listener.messages)
    assert answers.payloads[0]["result"] == "later"
    assert (listener.payloads[0]["topic"], listener.payloads[0]["event"]) == ("done.one", 1)


async def test_events(programs: Programs) -> None:
    listener = Callback(echo)
    await programs.service(listener, event_bindings=["orders.#"])
    client = await programs.client()
    await client.send_message(event("orders.a", {"n": 1}))
    await client.send_message(event("other.a", {"n": 2}))
    await client.send_message(event("orders", {"n": 3}))
    await eventually(lambda: len(listener.messages) == 2)
    assert [each["event"] for each in listener.payloads] == [{"n": 1}, {"n": 3}]


async def test_nobody_has_that_name(programs: Programs) -> None:
    client = await programs.client()
    with pytest.raises(NuropbNotDeliveredError):
        await client.send_message(command(service="nobody"))


async def test_connect_and_disconnect(programs: Programs) -> None:
    program = programs.make(Callback(echo))
    assert await program.connect() is True
    assert await program.disconnect() is True
    assert not program.connected
    await program.start()
    await program.stop()
    with pytest.raises(TransportClosedError):
        await program.send_message(command())


async def test_configure_rabbitmq(place: Place) -> None:
    """The call blocks, even in a running event loop."""
    program = RMQTransport("orders", "one", message_callback=Callback(echo), amqp_url=place.url)
    program.configure_rabbitmq()
    program.configure_rabbitmq()
    await program.start()
    program.configure_rabbitmq()
    assert await place.exists("nuropb-orders-dlq")
    assert program.connected
    await program.stop()


# -- RMQAPI -----------------------------------------------------------------------------------


async def test_calls_of_the_api(apis: Apis) -> None:
    orders = Orders()
    await apis.connect(orders, transport_settings={"event_bindings": ["orders.*"]})
    client = await apis.connect()
    assert await client.request(method="echo", params={"a": 1}, **CALL) == {"a": 1}
    await client.command(method="note", params={"value": 1}, **CALL)
    client.publish_event("orders.made", {"n": 1}, {})
    await eventually(lambda: len(orders.seen) == 2)
    assert 1 in orders.seen
    assert ("orders.made", {"n": 1}) in orders.seen


async def test_authorization_of_the_api(apis: Apis) -> None:
    await apis.connect(Orders())
    client = await apis.connect()
    call: dict[str, Any] = {"service": "orders", "method": "hello", "params": {}}
    allowed = {"Authorization": "Bearer 1"}
    assert await client.request(context=allowed, **call) == "hello test_user"
    with pytest.raises(NuropbAuthorizationError):
        await client.request(context={"Authorization": "Bearer 2"}, **call)


async def test_encryption_of_the_api(apis: Apis) -> None:
    orders = Orders()
    await apis.connect(orders)
    client = await apis.connect()
    described = await client.describe_service("orders")
    assert described is not None
    assert described["service_name"] == "orders"
    encrypted = await client.request(method="secret", params={"pin": "1"}, encrypted=True, **CALL)
    assert encrypted == "1"
    assert orders.seen == ["1"]
    assert await client.has_public_key("orders")


async def test_errors_of_the_api(apis: Apis) -> None:
    orders = Orders()
    await apis.connect(orders)
    client = await apis.connect()
    with pytest.raises(NuropbMessageError, match="no such order"):
        await client.request(method="fail", params={}, **CALL)
    with pytest.raises(NuropbTimeoutError):
        await client.request(method="wait", params={}, ttl=200, **CALL)
    orders.released.set()
    with pytest.raises(NuropbNotDeliveredError):
        await client.request("nobody", "echo", {}, {})


async def test_the_whole_response(apis: Apis) -> None:
    await apis.connect(Orders())
    client = await apis.connect()
    response = await client.request(method="fail", params={}, rpc_response=False, **CALL)
    assert response["error"] == {"error": "LookupError", "description": "no such order"}


async def test_success_with_events(apis: Apis) -> None:
    orders = Orders()
    await apis.connect(orders, transport_settings={"event_bindings": ["orders.done"]})
    client = await apis.connect()
    await client.request(method="succeed", params={}, **CALL)
    await eventually(lambda: orders.seen == [("orders.done", 1)])


async def test_the_functions(apis: Apis, place: Place) -> None:
    await asyncio.to_thread(
        configure_nuropb_rmq, place.url, "nuropb-events-exchange", "nuropb-rpc-exchange",
        "nuropb-dl-exchange", "nuropb-more-dl",
    )  # fmt: skip
    assert await place.exists("nuropb-more-dl")
    service = create_service(
        "orders", "one", service_instance=Orders(), connection_properties=place.url
    )
    client = create_client("caller", "two", connection_properties=place.url)
    for made in (service, client):
        apis.adopt(made)
        await made.connect()
    assert isinstance(client, RMQAPI)
    assert (service.service_name, client.service_name) == ("orders", "caller")
    assert await client.request(method="echo", params={"a": 1}, **CALL) == {"a": 1}
