"""Headers that do not fit into one frame: of ours, and the broker would end the connection (501);
and of the broker's own, which it sends all the same."""

from __future__ import annotations

import pytest
from pamqp import commands

from nuropb_rmq import Message, MessageType, NuropbCallAgain, NuropbValidationError, State
from nuropb_rmq.amqp import frames
from nuropb_rmq.protocol import serialization, writer

from ..faults.test_row_05_channel_closed import ports_of
from ..support import Recorder, Transports, Watch, command, eventually, request, result_of
from ..tools.fuzz.line import Line

FRAME_MAX = 131_072


async def test_a_trace_id_without_measure_is_refused(mesh: Transports) -> None:
    await mesh.service(Recorder())
    client = await mesh.client()
    watch = Watch(client)
    for payload in (request(n=1), command(n=1)):
        with pytest.raises(NuropbValidationError, match="trace_id"):
            await client.send({**payload, "trace_id": "x" * FRAME_MAX})
    with pytest.raises(NuropbValidationError, match="trace_id"):
        await client.request({**request(n=1), "trace_id": "x" * FRAME_MAX})
    assert result_of(await client.request(request(n=2))) == {"n": 2}
    assert watch.states == []


@pytest.mark.parametrize("method", ["answer", "again"])
async def test_an_answer_or_call_again_whose_headers_do_not_fit_harms_nothing(
    mesh: Transports, method: str
) -> None:
    calls = []

    async def handle(message: Message) -> str:
        calls.append(message.payload["method"])
        if message.payload["method"] == "again":
            raise NuropbCallAgain("not yet")
        return "done"

    service, client = await mesh.service(handle), await mesh.client()
    watches = Watch(service), Watch(client)
    port = ports_of(client)[-1]
    # A request whose header frame is as large as can be: what we add for ourselves has no room.
    empty = pack("")
    properties = pack("x" * (port.frame_max - 20 - len(empty)))
    payload = {**request(method), "correlation_id": "c-1", "context": {}, "trace_id": None}
    port.write(
        frames.pack_content(
            port.number,
            frames.publish_method("nuropb-rpc-exchange", "orders", mandatory=False),
            properties,
            serialization.encode(payload),
            port.frame_max,
        )
    )
    await eventually(lambda: calls == [method])
    assert result_of(await client.request(request("answer"))) == "done"
    assert calls == [method, "answer"]
    assert all(watch.states == [] for watch in watches)
    assert service.state is State.READY


async def test_headers_that_the_broker_has_made_larger_than_a_frame_are_read(
    mesh: Transports,
) -> None:
    """Dead-lettered into the service's queue, as delayed retries are, a message has x-death too."""
    service, client = await mesh.service(recorder := Recorder()), await mesh.client()
    watches = Watch(service), Watch(client)
    delay = {"x-dead-letter-exchange": "nuropb-rpc-exchange", "x-dead-letter-routing-key": "orders"}
    async with Line(mesh.url) as line:
        await line.call(
            commands.Queue.Declare(
                queue="delay", durable=True, arguments={**delay, "x-message-ttl": 1}
            )
        )
        properties = pack("x" * (FRAME_MAX - 20 - len(pack(""))))
        payload = {**request(n=1), "correlation_id": "c-1", "context": {}, "trace_id": None}
        method = frames.publish_method("", "delay", mandatory=False)
        body = serialization.encode(payload)
        line.write(frames.pack_content(1, method, properties, body, FRAME_MAX))
        await eventually(lambda: len(recorder.seen) == 1)
    assert recorder.seen[0].headers["x-death"][0]["queue"] == "delay"
    assert len(str(recorder.seen[0].headers)) > FRAME_MAX
    assert result_of(await client.request(request(n=2))) == {"n": 2}
    assert all(watch.states == [] for watch in watches)


def pack(trace_id: str) -> bytes:
    """Properties of a request; the message id is empty."""
    return b"%s\0" % writer.pack_properties(
        MessageType.REQUEST, "c-1", trace_id=trace_id, reply_to="nuropb-tap-tap-rq"
    )
