"""Headers that do not fit into one frame: the broker would end the connection (501)."""

from __future__ import annotations

import pytest

from nuropb_rmq import (
    Message,
    MessageType,
    NuropbCallAgain,
    NuropbValidationError,
    State,
    envelope,
    serialization,
)
from nuropb_rmq.wire import frames

from .faults.test_row_05_channel_closed import ports_of
from .support import Mesh, Recorder, Watch, command, eventually, request, result_of

FRAME_MAX = 131_072


async def test_a_trace_id_without_measure_is_refused(mesh: Mesh) -> None:
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
    mesh: Mesh, method: str
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


def pack(trace_id: str) -> bytes:
    """Properties of a request; the message id is empty."""
    return b"%s\0" % envelope.pack_properties(
        MessageType.REQUEST, "c-1", trace_id=trace_id, reply_to="nuropb-tap-tap-rq"
    )
