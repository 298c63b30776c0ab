"""Payload → packed message, in the hands of the publisher: one place for every way out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

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
from ..protocol import serialization, writer
from ..protocol.constants import EVENT, RESPONSE, MessageType, new_id
from ..protocol.handled import current
from ..protocol.put_back import pack_again
from ..protocol.reader import Head
from .observer import Observers, SentMessage
from .sealing import Sealing, sealed_size


class Outbound:
    """Packs payloads for their destinations."""

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
        self._loop = asyncio.get_running_loop()

    def renew_response_queue(self) -> tuple[str, str]:
        """Let the response queue have another name from now on; the old name, and the new one."""
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
        """A checked and identified payload as a message that can be published.

        `ttl` is in seconds, `deadline` in loop time; `reply_to` is the destination of a response,
        and `wrapped` the bytes of the key that it is encrypted with, as they go before it.
        `awaited`: of an encrypted request, that the key is needed for its response; whoever waits
        for that forgets it. Raises NuropbValidationError, NuropbSerializationError and
        EncryptionError; nothing has been sent then.
        """
        correlation_id = payload["correlation_id"]
        exchange, routing_key, sender = self._destination(kind, payload, reply_to)
        if encrypted and kind is EVENT:
            raise EncryptionError(
                "encrypted: events cannot be encrypted, no peer would read them; "
                "send it plain, or as a command"
            )
        body = self._encode(payload)
        size = sealed_size(len(body), wrapped) if wrapped else len(body)
        if size > self._publisher.largest:
            raise self._publisher.too_large(size)
        # As in serialization.decode().
        brackets = 2 * len(body) - len(body.replace(b"[", b"")) - len(body.replace(b"{", b""))
        if brackets > self._max_depth and serialization.nests_deeper(body, self._max_depth):
            raise NuropbSerializationError(
                f"the payload is nested deeper than max_json_depth ({self._max_depth} levels)"
            )
        expiration = None if ttl is None else writer.milliseconds(ttl)
        properties = writer.pack_properties(
            kind,
            correlation_id,
            trace_id=payload["trace_id"],
            reply_to=sender,
            expiration=expiration,
            priority=priority,
            persistent=kind in self._persistent,
            encrypted=encrypted,
        )
        method = writer.publish_method(exchange, routing_key, bool(sender))
        if encrypted:  # last of all: a key is remembered for what will be sent, for nothing else
            service = routing_key if sender else None
            body = self._sealing.seal(body, correlation_id, service, awaited=awaited)
            if len(body) > self._publisher.largest:  # for a request nobody knew how large it gets
                raise self._publisher.too_large(len(body))
        message = Outgoing(
            method,
            properties,
            body,
            deadline=deadline,
            resend=resend,
            expiration=expiration,
        )
        if self._observers.active:
            message.about = SentMessage(
                *(kind, exchange, routing_key, correlation_id, payload["trace_id"]),
                size=len(body),
                encrypted=encrypted,
            )
        return message

    def _destination(
        self, kind: MessageType, payload: Mapping[str, Any], reply_to: str | None
    ) -> tuple[str, str, str]:
        """Exchange, routing key, and where answers go: for what is sent to a service, and may not
        be lost in silence (mandatory)."""
        topology = self.topology
        if kind is EVENT:
            return topology.events_exchange.name, payload["topic"], ""
        if kind is not RESPONSE:
            return topology.rpc_exchange.name, payload["service"], topology.response_queue.name
        routing_key = reply_to or payload.get("reply_to")
        if not routing_key or not isinstance(routing_key, str):
            raise NuropbValidationError(
                "payload field 'reply_to': the name of the requester's queue is needed"
            )
        return "", routing_key, ""

    def reply(
        self, head: Head, payload: Mapping[str, Any], reply_to: str, *, encrypted: bool
    ) -> Outgoing:
        """The response to a request, packed, for send().

        It waits for the broker up to the request's expiry, and is written again when its channel
        dies before the confirm.
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
        """An event that a handler's success publishes, packed, for send().

        It waits as a response does, and is written again as one: what handles the message at
        least once publishes its events at least once. It waits for publish_timeout or, if that is
        longer, for as long as the message may: until then the broker has reason to keep it.
        """
        kind = writer.check_outgoing(payload)
        longest = self._config.handler_timeout
        waits = longest if head.ttl is None else min(head.ttl / 1000, longest)
        deadline = self._loop.time() + max(waits, self._config.publish_timeout)
        return self.pack(identify(payload), kind=kind, deadline=deadline, resend=True)

    def publish(self, message: Outgoing, on_done: OnDone) -> None:
        """Publish what was packed, of any kind; see Publisher.publish."""
        if isinstance(about := message.about, SentMessage):
            self._observers.publish(about, on_done, partial(self._publisher.publish, message))
        else:
            self._publisher.publish(message, on_done)

    def request(self, message: Outgoing, on_done: OnDone) -> None:
        """Publish a request whose response is waited for; see Publisher.request."""
        if isinstance(about := message.about, SentMessage):
            self._observers.publish(about, on_done, partial(self._publisher.request, message))
        else:
            self._publisher.request(message, on_done)

    def discard(self, message: Outgoing, error: NuropbException) -> None:
        """Settle a message that nobody waits for any more; see Publisher.discard."""
        self._publisher.discard(message, error)

    def call_again(self, head: Head, on_done: OnDone, *, held: float) -> None:
        """Put a message back into its service queue once more, as it came, with its count.

        `held`: seconds that it was here. They count against its expiration: else it could be
        handled long after its requester gave up. How long it was in the queue before is not known,
        so it may live for that much longer.

        It waits for the broker up to its expiry, past the bounds of the outbox, and is written
        again when its channel dies before the confirm, all as a reply: the delivery that it stands
        for cannot go back to the queue meanwhile, for the broker would hand it out again at once.
        """
        queue = self.topology.service_queue
        assert queue is not None  # noqa: S101 - what is called again came from that queue
        left = None if head.ttl is None else max(1, head.ttl - round(held * 1000))
        message = Outgoing(
            writer.publish_method("", queue.name, True),
            pack_again(head, left=left),
            head.content.body,
            deadline=None if left is None else self._loop.time() + left / 1000,
            expiration=left,
            resend=True,
        )
        if self._observers.active:
            message.about = SentMessage(
                *(head.kind, "", queue.name, head.correlation_id, head.trace_id),
                size=len(head.content.body),
                encrypted=head.encrypted,
            )
        self.publish(message, on_done)


def identify(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with a correlation id, a trace id and a context, where its author gave none.

    What a handler sends belongs to the activity of the message that it handles.
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
