"""Pack and send the answers and events of handled messages, and act when one is not delivered.

Why: docs/decisions/006-refused-and-unconfirmed.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from ..amqp.outgoing import OnDone, Outgoing
from ..amqp.settlement import ACK, REJECT, Settlement
from ..config.settings import TransportConfig
from ..exceptions import NuropbException, NuropbTransportError, TransportClosedError
from ..protocol import payloads
from ..protocol.constants import REQUEST
from ..protocol.message import context_of, describe
from ..protocol.reader import Head
from .delivery import Delivery
from .letters import Letters
from .packer import Outbound
from .sealing import Sealing
from .tracing import current


def _is_response(payload: Mapping[str, Any]) -> bool:
    return payload.get("tag") == "response"


def _named(head: Head) -> tuple[str, str]:
    return head.kind.value, head.correlation_id


class Answers:
    """Sender of the answers and events of handlers."""

    def __init__(
        self, config: TransportConfig, outbound: Outbound, sealing: Sealing, letters: Letters
    ) -> None:
        self._outbound = outbound
        self._log = outbound.log
        self._letters = letters
        self._sealing = sealing
        self._pattern = config.reply_to_pattern
        # Matches `reply_to` against the pattern. Few destinations serve many messages: it caches.
        self._admits = lru_cache(maxsize=1024)(re.compile(self._pattern).fullmatch)
        # True once a refused `reply_to` has been logged.
        self._refused_reply_to = False

    def publish(self, work: Delivery, messages: Sequence[Mapping[str, Any]]) -> None:
        """Pack all messages before any is sent: all of them go, or none.

        Raises what Outbound.pack() raises.
        """
        head = work.head
        if len(messages) == 1 and messages[0].get("tag") == "response":
            # The general code below does the same in twice the time.
            reply_to = self._admit_reply_to(head)
            if reply_to is None:
                return
            answer = self._outbound.reply(head, messages[0], reply_to, encrypted=work.decrypted)
            work.decrypted = False
            work.sent = 1
            self._send(answer, work.expect())
            return
        if len(messages) > 1:
            # Events first. The key of a request encrypts one answer; no other may go in plain text.
            messages = sorted(messages, key=_is_response)
        packed: list[Outgoing] = []
        events = 0
        sealed = work.decrypted
        try:
            for payload in messages:
                if not _is_response(payload):
                    packed.append(self._outbound.event(head, payload))
                    events += 1
                elif work.decrypted is sealed and (reply_to := self._admit_reply_to(head)):
                    packed.append(self._outbound.reply(head, payload, reply_to, encrypted=sealed))
                    work.decrypted = False
        except NuropbException as e:
            for message in packed:
                self._outbound.drop(message, e)
            raise
        work.sent = len(packed)
        if events:
            topics = [payload["topic"] for payload in messages[:events]]
            self._send_events(
                work, dict(zip(packed[:events], topics, strict=True)), packed[events:]
            )
            return
        for message in packed:
            self._send(message, work.expect())

    def _send(self, message: Outgoing, on_done: OnDone) -> None:
        try:
            self._outbound.publish(message, on_done)
        except NuropbTransportError as e:  # closed
            on_done(e)

    def _send_events(
        self, work: Delivery, events: Mapping[Outgoing, str], answers: Sequence[Outgoing]
    ) -> None:
        """Publish the events (message: topic), and the answers when all events are confirmed.

        A requester thus never gets a success whose event was not published.
        """
        held = [(answer, work.expect()) for answer in answers]
        unconfirmed = len(events)
        work.wait_for(unconfirmed)
        failed: NuropbException | None = None

        def done(topic: str, error: NuropbException | None) -> None:
            nonlocal unconfirmed, failed
            unconfirmed -= 1
            if error is not None:
                part = f"its event on topic {topic!r}"
                if self.undelivered(work, part, error):
                    failed = error
            if unconfirmed == 0:
                for answer, on_done in held:
                    if failed is None:
                        self._send(answer, on_done)
                    else:  # undelivered() has sent another answer
                        self._outbound.drop(answer, failed)
                        on_done(None)
            work.published()

        for event, topic in events.items():
            self._send(event, partial(done, topic))

    def undelivered(self, work: Delivery, part: str, error: NuropbException) -> bool:
        """Let a message fail because `part`, its answer or event, could not be delivered.

        Returns False when it has failed before, and its answer says so.
        """
        with current(work.span):
            return self._undelivered(work, part, error)

    def _undelivered(self, work: Delivery, part: str, error: NuropbException) -> bool:
        head = work.head
        if isinstance(error, TransportClosedError):
            work.settle(Settlement.REQUEUE)  # stop(): another instance may handle it
            return True
        if work.error is not None or work.settlement is REJECT:
            text = "%s %s: %s was not delivered: %s"
            self._log.warning(text, *_named(head), part, error, about=work)
            if work.settlement is ACK:  # its requester does not know
                work.settlement = REJECT
                self._letters.send(work)
            return False
        if work.stale:
            self._log.warning(
                "%s %s: %s was not delivered; the broker delivers the message again: %s",
                *_named(head),
                part,
                error,
                about=work,
            )
            # This is not written: the channel has ended. But the message may be delivered again
            # before the last confirm; that delivery then takes this one's place, and no ack may
            # end it.
            work.settlement = Settlement.REQUEUE
            return True
        self._log.warning(
            "%s %s was handled, but goes to the dead letters: %s was not delivered: %s",
            *_named(head),
            part,
            error,
            about=work,
        )
        work.settlement, work.error = REJECT, error
        self._letters.send(work)
        if head.kind is REQUEST and (reply_to := self._admit_reply_to(head)) is not None:
            failure = describe(error)
            failure["description"] = f"done, but {part} was not delivered: {failure['description']}"
            self._answer_again(
                work, payloads.answer(head, context_of(work.message), None, failure), reply_to
            )
        return True

    def _answer_again(self, work: Delivery, payload: Mapping[str, Any], reply_to: str) -> None:
        """Send an answer in place of one that was packed before."""
        head = work.head
        try:
            if head.encrypted:  # the first answer has used up the request's key
                self._sealing.owe_again(work.content.body, head.correlation_id)
            answer = self._outbound.reply(head, payload, reply_to, encrypted=head.encrypted)
        except NuropbException as e:
            self._log.warning("%s %s cannot be answered: %s", *_named(head), e, about=work)
            if head.encrypted:
                self._sealing.forget_received(head.correlation_id)
        else:
            self._send(answer, work.expect())

    def _admit_reply_to(self, head: Head) -> str | None:
        """Return the queue to answer to; None if there is none, or reply_to_pattern refuses it."""
        reply_to = head.reply_to
        if not reply_to or not head.correlation_id:
            return None
        if self._admits(reply_to) is None:
            if not self._refused_reply_to:
                self._refused_reply_to = True
                self._log.warning(
                    "no answer to %r: reply_to_pattern %r does not admit it (logged once)",
                    reply_to,
                    self._pattern,
                    about=head,
                )
            return None
        return reply_to
