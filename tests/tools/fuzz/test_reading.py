"""Without a broker: what the library makes of any message is what it must make of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from nuropb_rmq import EncryptionError, MalformedMessageError, MessageType
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.frames import Content
from nuropb_rmq.config.settings import TransportConfig
from nuropb_rmq.protocol import writer
from nuropb_rmq.protocol.reader import Head, whole_body
from nuropb_rmq.transport.pending_requests import Replies
from nuropb_rmq.transport.routes import Routes
from nuropb_rmq.transport.sealing import Sealing
from nuropb_rmq.transport.stats import Counts

from ...encrypting import serving
from ...support import LOG
from .bodies import MAX_BODY
from .messages import Draft, Message, drafts
from .reading import Read, judge, way_of

EXAMPLES = 250
MANY = 30_000
ROUTES = Routes(TransportConfig(amqp_url="amqp://localhost", service_name="orders"))
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


def arrived(message: Message) -> Content:
    """As the router hands it over."""
    body = message.body if len(message.body) <= MAX_BODY else b""
    return Content(
        1,
        False,
        b"".join(map(frames.shortstr, way_of(message))),
        raw_properties=message.raw_properties,
        body_size=len(message.body),
        body=body,
    )


async def read(message: Message, sealing: Sealing) -> Read:
    """Read a message as the dispatcher does, or the table of requests, up to its payload.

    Raises MalformedMessageError and EncryptionError.
    """
    head = Head(arrived(message))
    if head.problem is not None:
        raise head.problem
    if (head.kind is MessageType.RESPONSE) is not message.to_responses:
        raise MalformedMessageError("in the wrong queue")
    body = whole_body(head.content)
    if head.encrypted:
        body = await sealing.unseal(body, head.correlation_id)
    payload = writer.read_payload(head, body, max_depth=100, decrypted=head.encrypted)
    if not message.to_responses:
        ROUTES.check(head, payload)
    return Read(head.kind.value, head.correlation_id, payload)


async def same(draft: Draft) -> None:
    """The library and the reference make the same of it."""
    message = draft.numbered(1)
    verdict = judge(message)
    found: Read | None = None
    with suppress(MalformedMessageError, EncryptionError):
        found = await read(message, Sealing(serving()))
    assert repr(found) == repr(verdict.read), (str(message), verdict)  # NaN is not NaN
    head = Head(arrived(message))
    assert head.ttl is None or head.ttl >= 0
    assert isinstance(head.headers, dict)


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=QUIET)
@given(drafts())
async def test_any_message_is_read_as_it_must_be(draft: Draft) -> None:
    await same(draft)


@pytest.mark.long
@pytest.mark.timeout(900)
@settings(deadline=None, max_examples=MANY, suppress_health_check=QUIET)
@given(drafts())
async def test_any_of_very_many_messages_is_read_as_it_must_be(draft: Draft) -> None:
    await same(draft)


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=QUIET)
@given(drafts())
async def test_a_request_that_waits_ends_with_a_response_or_a_typed_error(draft: Draft) -> None:
    """Whatever comes to a response queue under its id; what is no response does not end it."""
    message = replace(draft, to_responses=True).numbered(1)
    content = arrived(message)
    config = TransportConfig(amqp_url="amqp://localhost", service_name="fuzz", client_only=True)
    replies = Replies(Sealing(serving()), config, Counts(), LOG)
    correlation_id = Head(content).correlation_id
    waiting = [replies.open(each, 60) for each in {correlation_id, "another"}]
    replies.receive(None, content)
    ended: dict[str, Any] = {}
    for each in waiting:
        if each.future.done():
            error = each.future.exception()
            ended[each.correlation_id] = error or each.future.result()
    verdict = judge(message)
    if ended:
        (result,) = ended.values()
        assert [*ended] == [correlation_id]
        if isinstance(result, Exception):
            assert isinstance(result, MalformedMessageError | EncryptionError)
            assert verdict.read is None
        else:
            assert verdict.read is not None
            assert repr(result) == repr(verdict.read.payload)
    else:
        assert sum(replies.dropped.values()) == 1
        assert verdict.read is None or verdict.read.kind != "response"
    for each in waiting:
        replies.close(each)
    assert len(replies) == 0
    replies.fail_all(MalformedMessageError("the end"))
    await asyncio.sleep(0)
