"""The answer and the events of a handled message: packed, sent, and what follows when they fail.

Why: docs/decisions/006-refused-and-unconfirmed.md
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from ..amqp.outgoing import OnDone, Outgoing
from ..amqp.settlement import REJECT, Settlement
from ..config.settings import TransportConfig
from ..exceptions import NuropbException, NuropbTransportError, TransportClosedError
from ..protocol import payloads
from ..protocol.constants import REQUEST
from ..protocol.message import context_of, describe
from ..protocol.reader import Head
from .delivery import Delivery
from .packer import Outbound
from .sealing import Sealing

logger = logging.getLogger("nuropb_rmq.transport")


def _is_response(payload: Mapping[str, Any]) -> bool:
    return payload.get("tag") == "response"


def _named(head: Head) -> tuple[str, str]:
    return head.kind.value, head.correlation_id


class Answers:
    """Sends what handlers answer and publish."""

    def __init__(self, config: TransportConfig, outbound: Outbound, sealing: Sealing) -> None:
        self._outbound = outbound
        self._sealing = sealing
        self._pattern = config.reply_to_pattern
        # Few destinations are many messages': each is looked at once.
        self._admits = lru_cache(maxsize=1024)(re.compile(self._pattern).fullmatch)
        self._refused_reply_to = False

    def publish(self, work: Delivery, messages: Sequence[Mapping[str, Any]]) -> None:
        """Pack everything before anything is sent: then all of it goes, or nothing."""
        head = work.head
        if len(messages) == 1 and messages[0].get("tag") == "response":
            # What follows does the same, for any messages, in twice the time.
            reply_to = self._reply_to(head)
            if reply_to is None:
                return
            answer = self._outbound.reply(head, messages[0], reply_to, encrypted=work.decrypted)
            work.decrypted = False
            work.sent = 1
            self._send(answer, work.expect())
            return
        if len(messages) > 1:
            # Events first: the key that a request came with serves one answer, and none goes plain.
            messages = sorted(messages, key=_is_response)
        packed = []
        events = 0
        sealed = work.decrypted
        for payload in messages:
            if not _is_response(payload):
                packed.append(self._outbound.event(head, payload))
                events += 1
            elif work.decrypted is sealed and (reply_to := self._reply_to(head)) is not None:
                packed.append(self._outbound.reply(head, payload, reply_to, encrypted=sealed))
                work.decrypted = False
        work.sent = len(packed)
        if events:
            topics = [payload["topic"] for payload in messages[:events]]
            self._send_events(
                work, dict(zip(packed[:events], topics, strict=True)), packed[events:]
            )
            return
        for each in packed:
            self._send(each, work.expect())

    def _send(self, message: Outgoing, on_done: OnDone) -> None:
        try:
            self._outbound.publish(message, on_done)
        except NuropbTransportError as e:  # closed
            on_done(e)

    def _send_events(
        self, work: Delivery, events: Mapping[Outgoing, str], answers: Sequence[Outgoing]
    ) -> None:
        """Publish the events, by their topics, and when all are confirmed the answer.

        So a requester is never told of a success whose event was not published.
        """
        held = [(each, work.expect()) for each in answers]
        left = len(events)
        work.wait_for(left)
        failed = False

        def done(topic: str, error: NuropbException | None) -> None:
            nonlocal left, failed
            left -= 1
            if error is not None:
                what = f"its event on topic {topic!r}"
                failed = self.undelivered(work, what, error) or failed
            if left == 0:
                for answer, on_done in held:
                    if failed:
                        on_done(None)  # another answer went in its place
                    else:
                        self._send(answer, on_done)
            work.published()

        for event, topic in events.items():
            self._send(event, partial(done, topic))

    def undelivered(self, work: Delivery, what: str, error: NuropbException) -> bool:
        """Let a message fail whose answer or event could not be delivered.

        Returns False when it has failed before, and its answer says so.
        """
        head = work.head
        if isinstance(error, TransportClosedError):
            work.settle(Settlement.REQUEUE)  # nothing is known to be wrong with it
            return True
        if work.settlement is REJECT:
            logger.warning("%s %s: %s was not delivered: %s", *_named(head), what, error)
            return False
        if work.stale:
            logger.warning(
                "%s %s: %s was not delivered; the broker delivers the message again: %s",
                *_named(head),
                what,
                error,
            )
            # Nothing is written for a channel that has ended; what is delivered again before the
            # last confirm takes the place of this delivery, and is not to be acknowledged.
            work.settlement = Settlement.REQUEUE
            return True
        logger.warning(
            "%s %s was handled, but goes to the dead letters: %s was not delivered: %s",
            *_named(head),
            what,
            error,
        )
        work.settlement = REJECT
        if head.kind is REQUEST and (reply_to := self._reply_to(head)) is not None:
            said = describe(error)
            said["description"] = f"done, but {what} was not delivered: {said['description']}"
            self._answer_again(
                work, payloads.answer(head, context_of(work.message), None, said), reply_to
            )
        return True

    def _answer_again(self, work: Delivery, payload: Mapping[str, Any], reply_to: str) -> None:
        """Send another answer than the one that was packed before."""
        head = work.head
        try:
            if head.encrypted:  # the answer before has used the key that the request came with
                self._sealing.owe_again(work.content.body, head.correlation_id)
            answer = self._outbound.reply(head, payload, reply_to, encrypted=head.encrypted)
        except NuropbException as e:
            logger.warning("%s %s cannot be answered: %s", *_named(head), e)
            if head.encrypted:
                self._sealing.forget_received(head.correlation_id)
        else:
            self._send(answer, work.expect())

    def _reply_to(self, head: Head) -> str | None:
        """Where to answer; only what the configured pattern admits is ever published to."""
        reply_to = head.reply_to
        if not reply_to or not head.correlation_id:
            return None
        if self._admits(reply_to) is None:
            if not self._refused_reply_to:
                self._refused_reply_to = True
                logger.warning(
                    "no answer to %r: reply_to_pattern %r does not admit it (said once)",
                    reply_to,
                    self._pattern,
                )
            return None
        return reply_to
