"""Row 36: an event that is to be encrypted. No subscriber could read it: it is refused at send."""

from __future__ import annotations

import asyncio
import json

import pytest

from nuropb_rmq import (
    EncryptionError,
    Message,
    NuropbContextManager,
    NuropbSuccess,
    RMQTransport,
    TransportConfig,
    nuropb_context,
)
from nuropb_rmq.amqp.publisher import Publisher
from nuropb_rmq.broker.topology import Topology
from nuropb_rmq.protocol.constants import MessageType
from nuropb_rmq.protocol.serialization import encode
from nuropb_rmq.transport.observer import Observers
from nuropb_rmq.transport.packer import Outbound, identify
from nuropb_rmq.transport.sealing import Sealing

from ..compat.apis import Apis
from ..encrypting import SECRET, TAP_QUEUE, Pair, calling, headers_of, private_key, tapping
from ..mesh.support import Meshes
from ..support import Recorder, Transports, event, eventually, request, result_of

ADVICE = "events cannot be encrypted.*send it plain, or as a command"


async def test_row_36_refused_before_anything_is_packed() -> None:
    """No broker: neither key nor message is left of it."""
    config = TransportConfig(amqp_url="amqp://localhost/", service_name="c", client_only=True)
    encryptor, publisher = calling(), Publisher(max_messages=1, max_bytes=1)
    topology, sealing = Topology.of(config, "i"), Sealing(encryptor)
    outbound = Outbound(config, topology, publisher, sealing, encode=encode, observers=Observers())
    with pytest.raises(EncryptionError, match=ADVICE):
        outbound.pack(
            identify(event("orders.made", SECRET)),
            kind=MessageType.EVENT,
            encrypted=True,
        )
    assert (publisher.waiting, encryptor.calls_remembered) == (0, 0)


async def test_row_36_refused_at_send_and_nothing_is_sent(mesh: Transports) -> None:
    recorder = Recorder()
    await mesh.service(recorder, event_bindings=["orders.*"])
    ours = calling()
    client = await mesh.client(encryptor=ours)
    payload = event("orders.made", SECRET)
    with pytest.raises(EncryptionError, match=ADVICE) as refused:
        await client.send(payload, encrypted=True)
    assert SECRET not in f"{refused.value} {refused.value!r}"
    with pytest.raises(EncryptionError, match=ADVICE):
        client.post(payload, encrypted=True)
    await client.send(event("orders.made", "plain"))
    await eventually(lambda: recorder.seen)
    assert [each.payload["event"] for each in recorder.seen] == ["plain"]
    assert ours.calls_remembered == 0


async def test_row_36_the_drop_in_refuses_at_once(mesh: Transports) -> None:
    recorder = Recorder()
    await mesh.service(recorder, event_bindings=["orders.*"])
    transport = RMQTransport(
        "client", "one", mesh.url, lambda *_: None, client_only=True, encryptor=calling()
    )
    await transport.start()
    with pytest.raises(EncryptionError, match=ADVICE):
        transport.send_message(event("orders.made", SECRET), encrypted=True)
    await transport.send_message(event("orders.made", "plain"))
    await eventually(lambda: recorder.seen)
    assert [each.payload["event"] for each in recorder.seen] == ["plain"]
    await transport.stop()


async def test_row_36_events_of_an_encrypted_request_say_that_they_are_plain(
    mesh: Transports,
) -> None:
    """They carry what the handler says, and not the context, which came encrypted."""

    async def handle(message: Message) -> object:
        raise NuropbSuccess("done", events=[{"topic": "orders.made", "payload": {"id": 1}}])

    pair = Pair(mesh)
    await pair.start(handle)
    async with tapping(mesh) as tap:
        await asyncio.to_thread(
            tap.channel.queue_bind, TAP_QUEUE, "nuropb-events-exchange", "orders.made"
        )
        asked = {**request(), "context": {"Authorization": SECRET}}
        for encrypted in (True, False):
            answer = await pair.client.request(asked, encrypted=encrypted)
            assert result_of(answer) == "done"
            assert answer["context"] == {"Authorization": SECRET}, "its own requester knows it"
        (first, sealed), (second, plain) = await asyncio.to_thread(tap.take, count=2)
    for properties in (first, second):
        assert headers_of(properties)["encrypted"] == ""
    assert json.loads(sealed)["event"] == {"id": 1}
    assert json.loads(sealed)["context"] == {}
    assert json.loads(plain)["context"] == {"Authorization": SECRET}
    await mesh.stop()
    await pair.nothing_remembered()


class Vault:
    _service_name = "orders"
    _private_key = private_key("orders")

    @nuropb_context
    async def note(self, ctx: NuropbContextManager) -> str:
        ctx.add_event({"topic": "orders.made", "event": 1})
        raise NuropbSuccess("noted", events=[{"topic": "orders.made", "payload": 2}])


@pytest.mark.parametrize("surface", ["Mesh", "RMQAPI"])
async def test_row_36_events_of_an_encrypted_method_do_not_tell_its_context(
    meshes: Meshes, apis: Apis, mesh: Transports, surface: str
) -> None:
    await (meshes.serve(Vault()) if surface == "Mesh" else apis.connect(Vault()))
    client = await meshes.client()
    context = {"Authorization": "a token", "plan": SECRET}
    async with tapping(mesh) as tap:
        await asyncio.to_thread(
            tap.channel.queue_bind, TAP_QUEUE, "nuropb-events-exchange", "orders.made"
        )
        for encrypted in (True, False):
            answer = await client.request("orders", "note", context=context, encrypted=encrypted)
            assert answer == "noted"
        taken = [json.loads(body) for _, body in await asyncio.to_thread(tap.take, count=4)]
    assert [each["event"] for each in taken] == [1, 2, 1, 2]
    if surface == "Mesh":
        del context["Authorization"]  # it goes on with no event, unless that says so
    assert [each["context"] for each in taken] == [{}, {}, context, context]
