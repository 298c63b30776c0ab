"""Payload → packed message → publisher: every message goes out through here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any, Final

from ..amqp.outgoing import OnDone, Outgoing
from ..amqp.publisher import Publisher
from ..broker.topology import Topology
from ..config.settings import TransportConfig
from ..exceptions import (
    EncryptionError,
    NuropbException,
    NuropbSerializationError,
    NuropbValidationError,
)
from ..printable import type_of
from ..protocol import serialization, writer
from ..protocol.constants import EVENT, RESPONSE, MessageType, new_id
from ..protocol.handled import current
from ..protocol.put_back import pack_again
from ..protocol.reader import Head
from ..safe_logging import ServiceLog
from .observed import Sending
from .observer import Observers
from .sealing import Sealing, sealed_size
from .sent_message import SentMessage

logger = logging.getLogger("nuropb_rmq.transport")

LETTER_WITHIN: Final = 5.0
"""Seconds in which the broker must confirm a dead letter's copy: its message waits, unsettled."""


class Outbound:
    """Packer of payloads, and the way to the publisher."""

    def __init__(
        self,
        config: TransportConfig,
        topology: Topology,
        publisher: Publisher,
        sealing: Sealing,
        *,
        encode: serialization.Encode,
        observers: Observers,
    ) -> None:
        self._config = config
        self._max_depth = config.max_json_depth
        self._persistent = config.persistent
        self.topology = topology
        self._publisher = publisher
        self._sealing = sealing
        self._encode = encode
        self._observers = observers
        self._sent = observers.counts.sent
        self._loop = asyncio.get_running_loop()
        self.log = ServiceLog(logger, config.service_name, topology.instance_id)

    def renew_response_queue(self) -> tuple[str, str]:
        """Give the response queue another name; return the old and the new one."""
        before, self.topology = self.topology, self.topology.renewed(self._config)
        return before.response_queue.name, self.topology.response_queue.name

    def pack(
        self,
        payload: Mapping[str, Any],
        *,
        kind: MessageType,
        ttl: float | None = None,
        priority: int | None = None,
        encrypted: bool = False,
        awaited: bool = False,
        deadline: float | None = None,
        reply_to: str | None = None,
        resend: bool = False,
        wrapped: int = 0,
    ) -> Outgoing:
        """Pack a payload, which must be checked and identified, into a message.

        `ttl` is in seconds, `deadline` in loop time. `reply_to` is the destination of a response,
        `wrapped` the size of the wrapped key before an encrypted one, in bytes. `awaited` keeps the
        key of an encrypted request for its response; the caller must forget it (forget_sent).

        Raises NuropbValidationError, NuropbSerializationError or EncryptionError.
        """
        correlation_id = payload["correlation_id"]
        exchange, routing_key, sender = self._destination(kind, payload, reply_to)
        if encrypted and kind is EVENT:
            raise EncryptionError(
                "encrypted: events cannot be encrypted, no peer could read them; "
                "send it plain, or as a command"
            )
        body = self._encode(payload)
        size = sealed_size(len(body), wrapped) if wrapped else len(body)
        if size > self._publisher.largest:
            raise self._publisher.too_large(size)
        # Counts first, as serialization.decode() does.
        brackets = 2 * len(body) - len(body.replace(b"[", b"")) - len(body.replace(b"{", b""))
        if brackets > self._max_depth and serialization.nests_deeper(body, self._max_depth):
            raise NuropbSerializationError(
                f"the payload is nested deeper than max_json_depth ({self._max_depth} levels)"
            )
        expiration = None if ttl is None else writer.milliseconds(ttl)
        sending, further = None, b""
        if self._observers.active:
            quick = self._observers.unobserved(encrypted, kind is RESPONSE)
            if quick is not None:
                further = quick
            else:
                sending = self._observers.sending(
                    SentMessage(
                        *(kind, exchange, routing_key, correlation_id, payload["trace_id"]),
                        size=len(body),
                        encrypted=encrypted,
                        method=payload["method"] if sender else None,
                        posted_at=monotonic(),
                    )
                )
                further = sending.headers
        try:
            properties = writer.pack_properties(
                kind,
                correlation_id,
                trace_id=payload["trace_id"],
                reply_to=sender,
                expiration=expiration,
                priority=priority,
                persistent=kind in self._persistent,
                encrypted=encrypted,
                further=further,
            )
            method = writer.publish_method(exchange, routing_key, bool(sender))
            if encrypted:  # after all checks: the key of what is not sent must not be kept
                service = routing_key if sender else None
                body = self._sealing.seal(body, correlation_id, service, awaited=awaited)
                if len(body) > self._publisher.largest:  # `wrapped` is only known for responses
                    raise self._publisher.too_large(len(body))
        except NuropbException as e:
            if sending is not None:
                sending.end(e)
            raise
        message = Outgoing(
            method,
            properties,
            body,
            deadline=deadline,
            resend=resend,
            expiration=expiration,
        )
        message.about = sending
        if (recording := self._observers.recording) is not None:
            message.recorded = recording.published[kind]
            message.posted_at = monotonic()
        self._sent[kind] += 1
        return message

    def _destination(
        self, kind: MessageType, payload: Mapping[str, Any], reply_to: str | None
    ) -> tuple[str, str, str]:
        """Return exchange, routing key, and the queue for answers.

        That queue is "" for events and responses; all other messages are mandatory.
        """
        topology = self.topology
        if kind is EVENT:
            return topology.events_exchange.name, payload["topic"], ""
        if kind is not RESPONSE:
            return topology.rpc_exchange.name, payload["service"], topology.response_queue.name
        routing_key = reply_to or payload.get("reply_to")
        if not routing_key or not isinstance(routing_key, str):
            raise NuropbValidationError(
                f"payload field 'reply_to': expected a queue's name, got {type_of(routing_key)}"
            )
        return "", routing_key, ""

    def reply(
        self, head: Head, payload: Mapping[str, Any], reply_to: str, *, encrypted: bool
    ) -> Outgoing:
        """Pack the response to a request, for publish().

        It waits for the broker until the request expires, and is written again when its channel
        dies before the confirm. Raises what pack() raises.
        """
        ttl = head.ttl
        return self.pack(
            {
                **payload,
                "reply_to": reply_to,
                "correlation_id": head.correlation_id,
                "trace_id": head.trace_id,
            },
            kind=RESPONSE,
            encrypted=encrypted,
            deadline=None if ttl is None else self._loop.time() + ttl / 1000,
            reply_to=reply_to,
            resend=True,
            wrapped=head.content.body.find(b".") if encrypted else 0,
        )

    def event(self, head: Head, payload: Mapping[str, Any]) -> Outgoing:
        """Pack an event that a handler publishes, for publish().

        It waits for the broker until the message expires, or for handler_timeout if that is
        shorter, and for publish_timeout at least. It is written again when its channel dies before
        the confirm: a message handled at least once publishes its events at least once. Raises
        what pack() raises.
        """
        kind = writer.check_outgoing(payload)
        longest = self._config.handler_timeout
        waits = longest if head.ttl is None else min(head.ttl / 1000, longest)
        deadline = self._loop.time() + max(waits, self._config.publish_timeout)
        return self.pack(identify(payload), kind=kind, deadline=deadline, resend=True)

    def publish(self, message: Outgoing, on_done: OnDone) -> None:
        """Publish a packed message; see Publisher.publish."""
        self._publish(message, on_done, self._publisher.publish)

    def request(self, message: Outgoing, on_done: OnDone) -> None:
        """Publish a request once responses are consumed; see Publisher.request."""
        self._publish(message, on_done, self._publisher.request)

    def _publish(
        self, message: Outgoing, on_done: OnDone, publish: Callable[[Outgoing, OnDone], None]
    ) -> None:
        try:
            if isinstance(about := message.about, Sending):
                self._observers.publish(about, on_done, partial(publish, message))
            else:
                publish(message, on_done)
        except NuropbException as e:
            if message.recorded is not None:
                message.recorded.confirmed(message.posted_at, e)
            raise

    def drop(self, message: Outgoing, error: NuropbException) -> None:
        """Note that a packed message is not published, because of this error."""
        if isinstance(about := message.about, Sending):
            about.end(error)

    def discard(self, message: Outgoing, error: NuropbException) -> None:
        """Settle a message with an error; see Publisher.discard."""
        self._publisher.discard(message, error)

    @property
    def headers_room(self) -> int:
        """Bytes of properties that can be written now; 0 when a message would have to wait."""
        return self._publisher.headers_room

    def dead_letter(self, head: Head, properties: bytes, on_done: OnDone) -> None:
        """Publish a copy of a message to the dead-letter exchange, within LETTER_WITHIN."""
        exchange, key = self.topology.dl_exchange.name, head.content.routing_key
        deadline = self._loop.time() + LETTER_WITHIN
        self._put(head, exchange, key, properties, on_done, deadline=deadline, resend=False)

    def retry(self, head: Head, queue: str, properties: bytes, on_done: OnDone) -> None:
        """Publish a copy of a message to a queue from which it comes back.

        It waits for the broker, beyond the outbox's bounds, and is written again when its channel
        dies before the confirm.
        """
        self._put(head, "", queue, properties, on_done, resend=True)

    def put_back(
        self, head: Head, on_done: OnDone, *, held: float, called_again: bool = True
    ) -> None:
        """Publish a copy of a message to its service queue.

        `called_again` makes its count one higher. `held`, the seconds that the message was here, is
        taken off its expiration, so that it is not handled long after its requester gave up. Its
        time in the queue before is not known, and prolongs its life.

        As a reply, the copy waits for the broker until it expires, beyond the outbox's bounds, and
        is written again when its channel dies before the confirm. The delivery cannot be requeued
        instead: the broker would deliver it again at once.
        """
        left = None if head.ttl is None else max(1, head.ttl - round(held * 1000))
        properties = pack_again(head, left=left, again=int(called_again))
        deadline = None if left is None else self._loop.time() + left / 1000
        key = self._service_queue
        self._put(head, "", key, properties, on_done, deadline=deadline, left=left, resend=True)

    @property
    def _service_queue(self) -> str:
        queue = self.topology.service_queue
        assert queue is not None  # noqa: S101 - the message came from that queue
        return queue.name

    def _put(
        self,
        head: Head,
        exchange: str,
        routing_key: str,
        properties: bytes,
        on_done: OnDone,
        *,
        resend: bool,
        deadline: float | None = None,
        left: int | None = None,
    ) -> None:
        """Publish a copy of a message; `left` is the rest of its expiration in milliseconds."""
        body = head.content.body
        message = Outgoing(
            writer.publish_method(exchange, routing_key, True),
            properties,
            body,
            deadline=deadline,
            expiration=left,
            resend=resend,
        )
        observers = self._observers
        if observers.active and observers.unobserved(head.encrypted, True) is None:
            about = SentMessage(
                *(head.kind, exchange, routing_key, head.correlation_id, head.trace_id),
                size=len(body),
                encrypted=head.encrypted,
                posted_at=monotonic(),
                copy=True,
            )
            message.about = observers.sending(about)
        self.publish(message, on_done)


def identify(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the payload with correlation id, trace id and context filled in.

    In a handler, the trace id is that of the handled message.
    """
    identified = dict(payload)
    if not identified.get("correlation_id"):
        identified["correlation_id"] = new_id()
    if "trace_id" not in identified:
        handled = current()
        trace_id = None if handled is None else handled.trace_id
        identified["trace_id"] = trace_id or identified["correlation_id"]
    identified["context"] = dict(identified.get("context") or ())
    return identified
