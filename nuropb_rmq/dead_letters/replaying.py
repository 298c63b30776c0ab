"""Send dead letters back to the queue of their service: what goes back, and when a letter goes.

A letter is taken out of its queue when the broker has confirmed its copy, and not before: whoever
is killed in between leaves both. It goes to the service queue by the default exchange, and never
to the exchange that it first came by: every other subscriber would get an event again.

Why: docs/decisions/015-looking-at-dead-letters.md
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from ..amqp import frames
from ..amqp.getting import Got
from ..exceptions import AMQPProtocolError, ConnectionLostError
from ..protocol.constants import (
    HEADER_CALL_AGAIN_COUNT,
    HEADER_CALL_AGAIN_EXCHANGE,
    HEADER_CALL_AGAIN_ROUTING_KEY,
    MessageType,
)
from ..protocol.dead_letter import HEADER_REPLAY_COUNT, HEADER_REPLAY_ID, stripped
from ..protocol.header_table import without
from .letter import DeadLetter
from .looking import Pass
from .putting import WINDOW, Outcome, Putter
from .results import Tally

SETTLE_WITHIN: Final = 2.0
"""Seconds that an interrupted replay waits for confirms, so that fewer letters come twice."""
_PERSISTENT: Final = 2
_WRITTEN_ANEW: Final = frozenset(
    name.encode()
    for name in (
        HEADER_CALL_AGAIN_COUNT,
        HEADER_CALL_AGAIN_EXCHANGE,
        HEADER_CALL_AGAIN_ROUTING_KEY,
        HEADER_REPLAY_COUNT,
        HEADER_REPLAY_ID,
    )
)

NOT_OWN: Final = "of another service"
REQUEST: Final = "a request, whose caller is gone"
UNREADABLE: Final = "headers that cannot be read"
TOO_LARGE: Final = "larger than max_body_bytes"
HEADERS_TOO_LARGE: Final = "headers larger than a frame"
UNCONFIRMED: Final = "published, and not confirmed: it may be handled all the same"
STILL_THERE: Final = "replayed, and still in the queue: the connection was lost before it was out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """Kinds of letters that are replayed only when somebody says so."""

    requests: bool
    foreign: bool

    def missing(self, letter: DeadLetter) -> str | None:
        """Return why a letter is not replayed; None: it is."""
        if letter.problem is not None:
            return UNREADABLE
        if not letter.own and not self.foreign:
            return NOT_OWN
        if letter.type is MessageType.REQUEST and not self.requests:
            return REQUEST
        return None if letter.is_whole else TOO_LARGE


@dataclass(slots=True)
class _Sent:
    """A letter that was published, and others of the same failure, which go with it."""

    tags: list[int]
    outcome: Outcome | None = None


class Replayer:
    """Publishes letters of one pass, and takes out those that the broker has confirmed."""

    def __init__(
        self,
        letters: Pass,
        putter: Putter,
        consent: Consent,
        replay_id: str,
        *,
        expiration: float | None,
    ) -> None:
        """`expiration` is in seconds; None: what is replayed never expires."""
        self.tally = Tally()
        self.stopped: str | None = None
        """Why it makes no sense to go on."""
        self._pass = letters
        self._putter = putter
        self._consent = consent
        self._id = replay_id
        self._expiration = None if expiration is None else str(round(expiration * 1000))
        self._number = 0
        self._refused_in_a_row = 0
        # By failure id, for two letters of one failure are one.
        self._failures: dict[str, _Sent] = {}

    def is_over(self, limit: int | None) -> bool:
        """Return whether so many were published, or it makes no sense to go on."""
        return self.stopped is not None or (limit is not None and self._number >= limit)

    async def replay(self, got: Got, letter: DeadLetter) -> None:
        """Publish a letter that may be, when there is room in the window.

        Raises ConnectionLostError, or TimeoutError when the broker confirms nothing.
        """
        if (why := self._consent.missing(letter)) is not None:
            self.tally.left[why] += 1
            return
        first = self._failures.get(letter.failure_id or "")
        if first is not None:
            self._goes_with(first, got)
            return
        replay_id = f"{self._id}-{self._number + 1}"
        try:
            properties = _packed(got, letter, replay_id, self._expiration)
        except (AMQPProtocolError, frames.FieldError):
            self.tally.left[UNREADABLE] += 1
            return
        if not self._putter.fits(properties):
            self.tally.left[HEADERS_TOO_LARGE] += 1
            return
        await self._putter.room()
        self._number += 1
        sent = _Sent([got.tag])
        if letter.failure_id is not None:
            self._failures[letter.failure_id] = sent
        self._putter.put(
            properties, got.body, replay_id, lambda outcome: self._settle(sent, outcome)
        )

    def _goes_with(self, first: _Sent, got: Got) -> None:
        if first.outcome is None:
            first.tags.append(got.tag)
        elif first.outcome is Outcome.CONFIRMED:
            self._take_out(got.tag)
        else:
            self.tally.left[first.outcome] += 1

    def _settle(self, sent: _Sent, outcome: Outcome) -> None:
        sent.outcome = outcome
        if outcome is Outcome.CONFIRMED:
            self._refused_in_a_row = 0
            self.tally.done += 1
            for tag in sent.tags:
                self._take_out(tag)
            return
        self.tally.left[outcome] += len(sent.tags)
        self._refused_in_a_row += 1
        # The others would come back, too.
        if outcome is Outcome.RETURNED or self._refused_in_a_row >= WINDOW:
            self.stopped = outcome.value

    def _take_out(self, tag: int) -> None:
        if not self._pass.ack(tag):
            self.tally.left[STILL_THERE] += 1

    async def finish(self) -> None:
        """Wait a moment for confirms, and count what has none."""
        with suppress(ConnectionLostError, TimeoutError):
            async with asyncio.timeout(SETTLE_WITHIN):
                await self._putter.settled()
        if self._putter.unconfirmed:
            self.tally.left[UNCONFIRMED] += self._putter.unconfirmed


def _packed(got: Got, letter: DeadLetter, replay_id: str, expiration: str | None) -> bytes:
    """Pack the properties of a letter that goes back; raises AMQPProtocolError.

    Headers stay byte for byte, without what told of the failure. How it had come goes along where
    a call-again would write it, for the service checks what a message may do by that.
    """
    properties = frames.decode_properties(got.raw_properties)
    headers = without(stripped(properties.headers or b""), _WRITTEN_ANEW)
    entry = frames.table_entry
    if letter.exchange:
        headers += entry(HEADER_CALL_AGAIN_EXCHANGE, letter.exchange)
        headers += entry(HEADER_CALL_AGAIN_ROUTING_KEY, letter.routing_key)
    headers += entry(HEADER_REPLAY_COUNT, letter.replay_count + 1)
    headers += entry(HEADER_REPLAY_ID, replay_id)
    return frames.encode_properties(
        replace(
            properties,
            headers=headers,
            delivery_mode=_PERSISTENT,
            expiration=expiration,
            message_id=letter.message_id or None,  # of a copy: that of the message it was made of
            user_id=None,
        )
    )
