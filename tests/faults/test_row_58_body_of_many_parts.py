"""Row 58: a large body of nothing but brackets costs little more than its values do."""

from __future__ import annotations

import asyncio

import pika

from nuropb_rmq import State

from ..support import Recorder, Transports, eventually, request, result_of

PARTS = 1_300_000
BODY = (
    b'{"tag":"command","service":"orders","method":"m","context":{},"params":{"a":['
    + b"{}," * PARTS
    + b"0]}}"
)


def publish(url: str, body: bytes) -> None:
    """As a peer without any checks of its own does."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    headers = {"nuropb_protocol": "0.1.1", "nuropb_version": "0.1.8", "nuropb_type": "command"}
    properties = pika.BasicProperties(correlation_id="c", headers={**headers, "encrypted": ""})
    connection.channel().basic_publish("nuropb-rpc-exchange", "orders", body, properties)
    connection.close()


async def test_row_58_millions_of_empty_objects(mesh: Transports) -> None:
    recorder = Recorder()
    service, client = await mesh.service(recorder, heartbeat=1), await mesh.client(heartbeat=1)
    states: list[State] = []
    for each in (service, client):
        each.on_state_change(lambda state, _: states.append(state))
    await asyncio.to_thread(publish, mesh.url, BODY)
    await eventually(lambda: recorder.seen, within=30)
    assert len(recorder.seen[0].payload["params"]["a"]) == PARTS + 1
    recorder.seen.clear()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert states == []
