"""Envelopes: what is refused and why, and what is read and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from nuropb_rmq import (
    MalformedMessageError,
    MessageType,
    NuropbSerializationError,
    NuropbValidationError,
)
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Content, Properties
from nuropb_rmq.protocol import payloads, writer
from nuropb_rmq.protocol.reader import Head

SECRET = "s3cret-value"
GOOD: dict[str, str | int | bool] = {
    "nuropb_protocol": "0.1.1",
    "nuropb_version": "0.1.8",
    "nuropb_type": "request",
    "trace_id": "t-1",
    "encrypted": "",
}
REQUEST = {
    "tag": "request",
    "service": "orders",
    "method": "get",
    "params": {"card": SECRET},
    "correlation_id": "c-1",
    "trace_id": "t-1",
    "context": {"token": SECRET},
}
EVENT = {"tag": "event", "topic": "orders.created", "event": SECRET, "correlation_id": "c-1"}
RESPONSE = {"tag": "response", "result": SECRET, "error": None, "correlation_id": "c-1"}
PAYLOADS: Mapping[str, dict[str, Any]] = {
    "request": REQUEST,
    "command": {**REQUEST, "tag": "command"},
    "event": EVENT,
    "response": RESPONSE,
}
MISSING = object()


def table(headers: Mapping[str, str | int | bool]) -> bytes:
    """Header entries, packed."""
    return b"".join(frames.table_entry(name, value) for name, value in headers.items())


def incoming(
    headers: Mapping[str, str | int | bool] | bytes | None = None,
    *,
    route: bytes = b"\x13nuropb-rpc-exchange\x06orders",
    **properties: Any,
) -> Content:
    """A delivery with good headers, but for what is given."""
    properties.setdefault("correlation_id", "c-1")
    entries = headers if isinstance(headers, bytes) else table({**GOOD, **(headers or {})})
    raw = frames.encode_properties(Properties(headers=entries, **properties))
    return Content(1, False, route, raw_properties=raw)


def head_of(**headers: str | int | bool) -> Head:
    """The head of a delivery with these headers over the good ones."""
    head = Head(incoming(headers))
    assert head.problem is None
    return head


# -- a payload that is to be sent ---------------------------------------------------------------


@pytest.mark.parametrize("tag", PAYLOADS)
def test_a_good_payload_is_known_by_its_tag(tag: str) -> None:
    assert writer.check_outgoing(PAYLOADS[tag]) is MessageType(tag)


OUTGOING = [
    ("request", "service", MISSING, "payload field 'service': expected str, got nothing"),
    ("request", "service", 7, "payload field 'service': expected str, got int"),
    ("request", "method", MISSING, "payload field 'method': expected str, got nothing"),
    ("request", "method", None, "payload field 'method': expected str, got null"),
    ("request", "params", MISSING, "payload field 'params': expected dict, got nothing"),
    ("request", "params", [SECRET], "payload field 'params': expected dict, got list"),
    ("command", "params", SECRET, "payload field 'params': expected dict, got str"),
    ("command", "service", MISSING, "payload field 'service': expected str, got nothing"),
    ("event", "topic", MISSING, "payload field 'topic': expected str, got nothing"),
    ("event", "topic", {SECRET: 1}, "payload field 'topic': expected str, got dict"),
    ("event", "event", MISSING, "payload field 'event': expected any value, got nothing"),
    ("response", "result", MISSING, "payload field 'result': expected any value, got nothing"),
    ("response", "error", MISSING, "payload field 'error': expected dict or None, got nothing"),
    ("response", "error", SECRET, "payload field 'error': expected dict or None, got str"),
    ("request", "tag", MISSING, "payload field 'tag' is missing, expected one of request, command"),
    ("request", "tag", "reqest", "payload field 'tag' is 'reqest', expected one of"),
    ("request", "tag", ["request"], "payload field 'tag' is list"),
    ("request", "correlation_id", 7, "payload field 'correlation_id': expected str, got int"),
    ("event", "trace_id", b"t", "payload field 'trace_id': expected str, got bytes"),
    ("event", "context", [SECRET], "payload field 'context': expected a mapping, got list"),
]


@pytest.mark.parametrize(("tag", "field", "value", "problem"), OUTGOING)
def test_what_cannot_be_sent_is_named(tag: str, field: str, value: object, problem: str) -> None:
    payload = {**PAYLOADS[tag], field: value}
    if value is MISSING:
        del payload[field]
    with pytest.raises(NuropbValidationError) as raised:
        writer.check_outgoing(payload)
    assert problem in str(raised.value)
    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value)


def test_a_payload_is_a_mapping_in_json() -> None:
    with pytest.raises(NuropbValidationError, match="payload: expected a mapping, got list"):
        writer.check_outgoing([SECRET])  # type: ignore[arg-type]
    with pytest.raises(NuropbValidationError, match="encoding: expected 'json', got 'xml'"):
        writer.check_outgoing(REQUEST, "xml")


@pytest.mark.parametrize(
    ("settings_", "problem"),
    [
        ({"priority": 256}, "priority: .* from 0 to 255, got 256"),
        ({"priority": -1}, "priority: .* from 0 to 255, got -1"),
        ({"expiration": -1}, "expiration: expected 0 to 4294967295 ms .*, got -1"),
        ({"expiration": 2**32}, r"expiration: .*49 days.*, got 4294967296"),
        ({"correlation_id": "x" * 256}, "correlation_id: .* 255 bytes of UTF-8, got 256"),
        ({"trace_id": "\ud800"}, "trace_id: expected text for UTF-8"),
        ({"reply_to": "é" * 128}, "reply_to: expected at most 255 bytes of UTF-8, got 256"),
    ],
)
def test_properties_that_amqp_cannot_carry_are_named(
    settings_: dict[str, Any], problem: str
) -> None:
    settings_ = {"correlation_id": "c-1", "trace_id": "t-1", **settings_}
    with pytest.raises(NuropbSerializationError, match=problem):
        writer.pack_properties(kind=MessageType.REQUEST, **settings_)


@pytest.mark.parametrize("expiration", [0, 2**32 - 1])
def test_the_shortest_and_the_longest_expiration(expiration: int) -> None:
    packed = writer.pack_properties(
        MessageType.REQUEST, "c-1", trace_id="t-1", expiration=expiration
    )
    properties = frames.decode_properties(packed + frames.shortstr("m-1"))
    assert properties.expiration == str(expiration)


def test_a_destination_that_amqp_cannot_carry_is_named() -> None:
    with pytest.raises(NuropbSerializationError, match="routing key: expected at most 255 bytes"):
        writer.publish_method("nuropb-events-exchange", "x" * 256, False)
    with pytest.raises(NuropbSerializationError, match="exchange or routing key: expected text"):
        writer.publish_method("nuropb-rpc-exchange", "\ud800", True)


# -- the head of what came in -------------------------------------------------------------------


def test_a_good_head_is_read() -> None:
    head = Head(incoming({"x": 1}, expiration="60000", reply_to="nuropb-c-1-rq"))
    assert head.problem is None
    assert head.kind is MessageType.REQUEST
    assert head.headers == {**GOOD, "x": 1}
    assert (head.correlation_id, head.trace_id, head.ttl) == ("c-1", "t-1", 60_000)
    assert (head.call_again_count, head.encrypted) == (0, False)


NO_PROPERTIES = Content(1, False, b"\x00\x00", raw_properties=b"\xff")
PROBLEMS = [
    (NO_PROPERTIES, "message properties end too early"),
    (Content(1, False, b"\x00\x00", raw_properties=b"\x00\x00!"), "do not fill their frame"),
    (Content(1, False, b"\x00\x00", raw_properties=b"\x00\x00"), "no headers"),
    (incoming(b"\x01"), "header table cannot be decoded"),
    (incoming(b"\x01tT" + b"\xff" * 8), "header table cannot be decoded"),
    (incoming(b""), "header nuropb_protocol is missing, expected 0.1.1"),
    (incoming({"nuropb_protocol": "0.2"}), "header nuropb_protocol is '0.2'"),
    (incoming({"nuropb_protocol": 1}), "header nuropb_protocol is int"),
    (incoming({"nuropb_type": "reqest"}), "header nuropb_type is 'reqest', expected one of"),
    (incoming({"nuropb_type": True}), "header nuropb_type is bool"),
    (incoming({"nuropb_type": "x" * 41}), f"header nuropb_type is '{'x' * 40}…'"),
    (incoming(table({"nuropb_protocol": "0.1.1"})), "header nuropb_type is missing"),
    (incoming(correlation_id=""), "no correlation_id"),
    (incoming(correlation_id=None), "no correlation_id"),
    (incoming(correlation_id="\udcff"), "correlation_id is not UTF-8 text"),
]


@pytest.mark.parametrize(("content", "problem"), PROBLEMS)
def test_each_problem_of_a_head_is_told_and_not_raised(content: Content, problem: str) -> None:
    head = Head(content)
    assert isinstance(head.problem, MalformedMessageError)
    assert problem in str(head.problem)
    assert head.kind in MessageType


def test_a_bad_request_can_be_answered() -> None:
    content = incoming({"nuropb_protocol": "9.9"}, reply_to="nuropb-client-1-rq")
    head = Head(content)
    assert head.kind is MessageType.REQUEST
    answer = payloads.answer(
        head, {}, None, {"error": "MalformedMessageError", "description": "no"}
    )
    assert answer == {
        "tag": "response",
        "result": None,
        "error": {"error": "MalformedMessageError", "description": "no"},
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "context": {},
        "warning": None,
        "reply_to": "nuropb-client-1-rq",
    }


def test_what_counts_as_a_request_while_its_type_is_unknown() -> None:
    assert Head(incoming({"nuropb_type": "reqest"})).kind is MessageType.REQUEST
    assert Head(NO_PROPERTIES).kind is MessageType.REQUEST
    assert Head(incoming({"nuropb_type": "event"})).kind is MessageType.EVENT


@pytest.mark.parametrize("kind", MessageType)
def test_encrypted_events_are_read_as_plain(kind: MessageType) -> None:
    head = head_of(nuropb_type=kind.value, encrypted="yes")
    assert head.encrypted is (kind is not MessageType.EVENT)
    assert not head_of(nuropb_type=kind.value, encrypted="").encrypted


@pytest.mark.parametrize(
    ("expiration", "ttl"),
    [
        ("60000", 60_000),
        ("0", 0),
        ("", None),
        (None, None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
    ],
)
def test_an_expiration_is_milliseconds_or_nothing(expiration: str | None, ttl: int | None) -> None:
    assert Head(incoming(expiration=expiration)).ttl == ttl


def test_a_trace_id_that_is_not_text_is_none() -> None:
    assert head_of(trace_id=7).trace_id is None


# -- the payload of what came in ----------------------------------------------------------------


def read(payload: object, *, decrypted: bool = False, **headers: str) -> dict[str, Any]:
    """Read a payload under a head with these headers."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return writer.read_payload(head_of(**headers), body, max_depth=10, decrypted=decrypted)


@pytest.mark.parametrize("tag", PAYLOADS)
def test_a_good_payload_is_read(tag: str) -> None:
    assert read(PAYLOADS[tag], nuropb_type=tag) == PAYLOADS[tag]
    if tag != "event":  # never encrypted
        assert read(PAYLOADS[tag], nuropb_type=tag, decrypted=True) == PAYLOADS[tag]


def test_what_a_peer_leaves_out_or_adds_does_no_harm() -> None:
    bare = {"service": "orders", "method": "get", "params": {}}
    payload = {**bare, "context": None, "extra": SECRET}
    assert read(payload, nuropb_type="request") == payload


INCOMING = [
    ("request", b"\xff" + SECRET.encode(), "body is not UTF-8"),
    ("request", b'{"params": "' + SECRET.encode(), "body is not JSON"),
    ("request", b"", "body is not JSON"),
    ("request", b"[" * 11 + b"]" * 11, "body is nested deeper than 10 levels"),
    ("request", [SECRET], "body: expected a JSON object, got list"),
    ("request", None, "body: expected a JSON object, got null"),
    ("request", SECRET, "body: expected a JSON object, got str"),
    ("request", {**REQUEST, "service": MISSING}, "field 'service': expected str, got nothing"),
    ("request", {**REQUEST, "method": 7}, "field 'method': expected str, got int"),
    ("request", {**REQUEST, "params": [SECRET]}, "field 'params': expected dict, got list"),
    ("command", {**REQUEST, "params": MISSING}, "field 'params': expected dict, got nothing"),
    ("event", {**EVENT, "topic": MISSING}, "field 'topic': expected str, got nothing"),
    ("event", {**EVENT, "topic": None}, "field 'topic': expected str, got null"),
    ("event", {**EVENT, "topic": "é" * 128}, "field 'topic': expected at most 255 bytes, got 256"),
    ("event", {**EVENT, "event": MISSING}, "field 'event': expected any value, got nothing"),
    (
        "response",
        {**RESPONSE, "result": MISSING},
        "field 'result': expected any value, got nothing",
    ),
    (
        "response",
        {**RESPONSE, "error": MISSING},
        "field 'error': expected dict or None, got nothing",
    ),
    ("response", {**RESPONSE, "error": SECRET}, "field 'error': expected dict or None, got str"),
    ("request", {**REQUEST, "context": SECRET}, "field 'context': expected dict or None, got str"),
    ("request", {**REQUEST, "tag": "command"}, "field 'tag' differs from the header nuropb_type"),
    ("request", {**REQUEST, "tag": SECRET}, "field 'tag' differs from the header nuropb_type"),
    (
        "request",
        {**REQUEST, "correlation_id": SECRET},
        "field 'correlation_id' differs from the property",
    ),
]


@pytest.mark.parametrize(("kind", "payload", "problem"), INCOMING)
@pytest.mark.parametrize("decrypted", [False, True])
def test_each_problem_of_a_payload_is_named(
    kind: str, payload: Any, problem: str, decrypted: bool
) -> None:
    if isinstance(payload, dict):
        payload = {name: value for name, value in payload.items() if value is not MISSING}
    with pytest.raises(MalformedMessageError) as raised:
        read(payload, nuropb_type=kind, decrypted=decrypted)
    assert problem in str(raised.value)
    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in str(error)
        assert SECRET not in repr(error)
        error = error.__cause__ or error.__context__


EXCHANGED = [
    ("request", "tag"),
    ("request", "correlation_id"),
    ("command", "tag"),
    ("command", "correlation_id"),
    ("response", "tag"),
    ("response", "correlation_id"),
]


@pytest.mark.parametrize(("kind", "field"), EXCHANGED)
def test_a_decrypted_body_must_be_that_of_its_message(kind: str, field: str) -> None:
    """Under one key for several calls, bodies could be exchanged at the broker."""
    good = PAYLOADS[kind]
    missing = {name: value for name, value in good.items() if name != field}
    for payload in ({**good, field: "another"}, missing):
        with pytest.raises(MalformedMessageError, match=f"'{field}'"):
            read(payload, nuropb_type=kind, decrypted=True)
