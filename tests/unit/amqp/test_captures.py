"""Messages of nuropb 0.1.8, captured at a broker: read by us, and sent by us in the same form."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pamqp.frame
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pamqp import commands

from nuropb_rmq import MessageType, TransportConfig
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Content
from nuropb_rmq.amqp.outgoing import Outgoing
from nuropb_rmq.amqp.publisher import Publisher
from nuropb_rmq.broker.topology import Topology
from nuropb_rmq.protocol import payloads, writer
from nuropb_rmq.protocol.constants import NUROPB_VERSION
from nuropb_rmq.protocol.encryption import Encryptor
from nuropb_rmq.protocol.reader import Head
from nuropb_rmq.protocol.serialization import encode
from nuropb_rmq.transport.observer import Observers
from nuropb_rmq.transport.packer import Outbound
from nuropb_rmq.transport.sealing import Sealing

from .harness import Harness, Listener, content, method

CAPTURES: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "nuropb-0.1.8.json").read_text()
)
MAX_DEPTH = 100


def _messages() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in CAPTURES.items():
        for number, each in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(each, dict) and "body_b64" in each:
                yield f"{name}-{number}", each


MESSAGES = dict(_messages())


class Keeper(Listener):
    """Keeps the content itself."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: list[Content] = []

    def on_content(self, content: Content) -> None:
        """Keep it."""
        self.contents.append(content)


def _with_times(value: Any, name: str = "") -> Any:
    """The captures hold the timestamps of x-death as text."""
    match value:
        case dict():
            return {key: _with_times(each, key) for key, each in value.items()}
        case list():
            return [_with_times(each) for each in value]
        case str() if name == "time":
            return datetime.datetime.fromisoformat(value)
    return value


def arrived(capture: dict[str, Any]) -> Content:
    """The capture as a broker would deliver it, through pamqp's bytes and the router."""
    properties = commands.Basic.Properties(
        **{**capture["properties"], "headers": _with_times(capture["properties"]["headers"])}
    )
    deliver = commands.Basic.Deliver(
        "ctag", 7, capture["redelivered"], capture["exchange"], capture["routing_key"]
    )
    harness, keeper = Harness(), Keeper()
    harness.router.register(1, keeper)
    harness.feed(b"".join(content(1, deliver, base64.b64decode(capture["body_b64"]), properties)))
    (found,) = keeper.contents
    return found


@pytest.mark.parametrize("name", MESSAGES)
async def test_what_nuropb_sends_is_read(name: str) -> None:
    capture = MESSAGES[name]
    told = capture["properties"]
    found = arrived(capture)
    assert (found.exchange, found.routing_key) == (capture["exchange"], capture["routing_key"])
    assert found.redelivered == capture["redelivered"]
    head = Head(found)
    assert head.problem is None
    assert head.kind == told["headers"]["nuropb_type"]
    assert head.headers == _with_times(told["headers"])
    assert head.correlation_id == told["correlation_id"]
    assert head.trace_id == told["headers"]["trace_id"]
    assert (head.properties.reply_to or "") == told["reply_to"]
    assert head.properties.content_type == "application/json"
    assert head.ttl == (int(told["expiration"]) if "expiration" in told else None)
    assert head.call_again_count == 0
    says_encrypted = told["headers"]["encrypted"] == "yes"
    assert head.encrypted == (says_encrypted and head.kind is not MessageType.EVENT)
    if not head.encrypted:
        payload = writer.read_payload(head, found.body, max_depth=MAX_DEPTH)
        assert payload == json.loads(capture["body_text"])


async def test_what_nuropb_encrypts_is_read() -> None:
    key = load_pem_private_key(CAPTURES["service_private_key_pem"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    found = arrived(MESSAGES["request_encrypted-0"])
    head = Head(found)
    body = Encryptor("orders", key).decrypt_payload(found.body, head.correlation_id)
    payload = writer.read_payload(head, body, max_depth=MAX_DEPTH, decrypted=True)
    assert payload["tag"] == "request"
    assert payload["service"] == head.content.routing_key == "orders"


# -- what we send -------------------------------------------------------------------------------


def _outbound() -> Outbound:
    config = TransportConfig(
        amqp_url="amqp://guest:guest@127.0.0.1/",
        service_name="client",
        instance_id="client-1",
        client_only=True,
    )
    publisher = Publisher(max_messages=10, max_bytes=1000)
    topology = Topology.of(config, "client-1")
    return Outbound(
        config, topology, publisher, Sealing(None), encode=encode, observers=Observers()
    )


def _sent(message: Outgoing) -> tuple[commands.Basic.Publish, frames.Properties]:
    _, _, publish = pamqp.frame.unmarshal(frames.pack_content(1, message.method, b"", b"", 4096))
    assert isinstance(publish, commands.Basic.Publish)
    return publish, frames.decode_properties(message.properties + b"\x03m-1")


@pytest.mark.parametrize(
    ("name", "kind", "mandatory", "persistent"),
    [
        ("request-0", MessageType.REQUEST, True, False),
        ("command-0", MessageType.COMMAND, True, True),
        ("event-0", MessageType.EVENT, False, True),
        ("response-0", MessageType.RESPONSE, False, False),
        ("response_error-0", MessageType.RESPONSE, False, False),
    ],
)
async def test_what_we_send_has_the_form_of_what_nuropb_sends(
    name: str, kind: MessageType, mandatory: bool, persistent: bool
) -> None:
    capture = MESSAGES[name]
    told = capture["properties"]
    payload = json.loads(capture["body_text"])
    assert writer.check_outgoing(payload) is kind
    ttl = int(told["expiration"]) / 1000 if "expiration" in told else None
    outgoing = _outbound().pack(payload, kind=kind, ttl=ttl, reply_to=payload.get("reply_to"))
    publish, properties = _sent(outgoing)
    assert (publish.exchange, publish.routing_key) == (capture["exchange"], capture["routing_key"])
    assert publish.mandatory == mandatory
    assert json.loads(outgoing.body) == payload
    calls = kind in (MessageType.REQUEST, MessageType.COMMAND)
    assert properties == frames.Properties(
        content_type=told["content_type"],
        headers=properties.headers,
        correlation_id=told["correlation_id"],
        reply_to="nuropb-client-client-1-rq" if calls else told["reply_to"],
        expiration=told.get("expiration"),
        delivery_mode=2 if persistent else 1,  # ours; an old peer does not look at it
        message_id="m-1",  # likewise
    )
    assert properties.headers is not None
    headers = frames.decode_table(properties.headers)
    assert headers == {**told["headers"], "nuropb_version": NUROPB_VERSION}


async def test_where_the_answer_goes_can_be_changed_of_a_request_that_waits() -> None:
    outbound = _outbound()
    payload = json.loads(MESSAGES["request-0"]["body_text"])
    payload["trace_id"] = outbound.topology.response_queue.name  # it stands in the headers, too
    outgoing = outbound.pack(payload, kind=MessageType.REQUEST, ttl=1.0)
    _, before = _sent(outgoing)
    old, new = (frames.shortstr(name) for name in outbound.renew_response_queue())
    outgoing.redirect(old, new)
    _, after = _sent(outgoing)
    assert after == dataclasses.replace(before, reply_to="nuropb-client-00000001-rq")


async def test_our_answer_to_nuropbs_request_has_the_form_of_its_own() -> None:
    asked = Head(arrived(MESSAGES["request-0"]))
    capture = MESSAGES["response_refused-0"]
    refused = {"error": "NuropbAuthorizationError", "description": "not yours"}
    payload = payloads.answer(asked, {"user_id": "u1"}, None, refused)
    outgoing = _outbound().pack(
        payload, kind=MessageType.RESPONSE, reply_to=asked.properties.reply_to
    )
    publish, properties = _sent(outgoing)
    assert (publish.exchange, publish.routing_key) == ("", asked.properties.reply_to)
    assert properties.correlation_id == capture["properties"]["correlation_id"]
    assert json.loads(outgoing.body) == {
        **json.loads(capture["body_text"]),
        "reply_to": asked.properties.reply_to,
    }


async def test_the_frames_of_a_capture_are_those_of_pamqp() -> None:
    """The whole way out and in: packed by us, cut by the router, equal to what was captured."""
    capture = MESSAGES["event-0"]
    found = arrived(capture)
    packed = frames.pack_content(
        1,
        frames.publish_method(found.exchange, found.routing_key, mandatory=False),
        found.raw_properties,
        found.body,
        131_072,
    )
    told = commands.Basic.Publish(0, capture["exchange"], capture["routing_key"])
    properties = commands.Basic.Properties(**capture["properties"])
    assert packed == method(1, told) + b"".join(content(1, told, found.body, properties)[1:])
