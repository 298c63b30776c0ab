"""The drop-in, end to end: messages in and out, as programs of nuropb have them."""

from __future__ import annotations

from nuropb_rmq import NUROPB_VERSION

from ..support import eventually, request
from .programs import Callback, Programs, echo


async def test_a_request_is_answered_and_the_answer_reaches_the_callback(
    programs: Programs,
) -> None:
    service, client = Callback(echo), Callback()
    await programs.service(service)
    transport = await programs.client(client)
    payload = {
        **request(order="A-1"),
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "context": {"user": "u1"},
    }
    sent = transport.send_message(payload, expiry=60_000)
    await sent
    await eventually(lambda: client.messages)
    (asked,), (told,) = service.messages, client.messages
    assert asked == {
        "nuropb_protocol": "0.1.1",
        "nuropb_type": "request",
        "nuropb_payload": payload,
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "ttl": 60_000,
    }
    assert told["nuropb_type"] == "response"
    assert told["correlation_id"] == "c-1"
    assert told["trace_id"] == "t-1"
    assert told["nuropb_payload"]["result"] == {"order": "A-1"}
    assert told["nuropb_payload"]["context"] == {"user": "u1"}
    assert told["nuropb_payload"]["error"] is None
    assert payload["context"] == {"user": "u1"}  # what is sent is not changed


async def test_metadata_has_what_nuropb_has(programs: Programs) -> None:
    service, client = Callback(echo), Callback()
    (await programs.service(service)).is_leader = False
    transport = await programs.client(client)
    transport.send_message({**request(), "correlation_id": "c-1", "trace_id": "t-1"})
    await eventually(lambda: client.messages)
    (asked,) = service.metadata
    started = asked.pop("start_time")
    assert isinstance(started, float)
    assert asked == {
        "service_name": "orders",
        "instance_id": "one",
        "is_leader": False,
        "client_only": False,
        "nuropb_type": "request",
        "nuropb_version": NUROPB_VERSION,
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "encrypted": False,
    }
    assert client.metadata[0]["nuropb_type"] == "response"
    assert client.metadata[0]["client_only"] is True
