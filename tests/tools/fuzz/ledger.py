"""The outcome of every message of a fuzz run, and the failures among them."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from nuropb_rmq.amqp import frames
from nuropb_rmq.protocol.dead_letter import HEADER_MESSAGE_ID

from .mail import Fate
from .messages import Message
from .reading import Read, judge_delivered

AGAIN = 4
"""One of so many messages that can be read asks to be called again."""
_COPIED_ID = HEADER_MESSAGE_ID.encode() + rb"S.{4}(\d+)"
PERHAPS = (Fate.ACCEPTED, Fate.UNKNOWN)
"""Fates of what may be in the queue."""


@dataclass(slots=True)
class Record:
    """One message: what it is, and what has become of it."""

    message: Message | None
    """Until something has."""
    what: str
    to_responses: bool
    kind: str
    """Empty for one that cannot be read."""
    why: str
    """Empty for one that can be read, however the broker passes it on."""
    answered: bool
    perhaps_answered: bool
    digest: int
    fate: Fate | None = None
    ran: int = 0
    dead: int = 0
    called_again: bool = False

    @property
    def ends(self) -> list[tuple[int, int]]:
        """The right numbers of executions and dead letters, once the broker has accepted it."""
        if self.to_responses:
            return [(0, 0)]
        times = 2 if self.called_again and self.kind != "event" else 1
        return [(times, 0)] * bool(self.kind) + [(0, 1)] * bool(self.why)

    @property
    def is_right(self) -> bool:
        """True when what became of it is right."""
        found = (self.ran, self.dead)
        as_accepted = found in self.ends
        match self.fate:
            case Fate.ACCEPTED:
                return as_accepted
            case Fate.UNKNOWN:
                return as_accepted or found == (0, 0)
            case _:
                return found == (0, 0)


class Ledger:
    """Every message, by its number."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self._readable: dict[str, int] = {}
        self.fates: Counter[Fate] = Counter()
        self.answers = 0
        self.under_way = 0
        """Messages in the service's queue, or on their way to it (about: fates may be unknown)."""
        self.strange: list[str] = []
        """Descriptions of arrivals that belong to no message."""

    def sends(self, message: Message) -> None:
        """It is about to be published."""
        verdicts = judge_delivered(message)
        reads = [each.read for each in verdicts if each.read is not None]
        answered = [each.answered and not message.to_responses for each in verdicts]
        self.records[message.number] = Record(
            message,
            message.what,
            message.to_responses,
            reads[0].kind if reads else "",
            ", ".join(each.why for each in verdicts if each.read is None),
            all(answered),
            any(answered),
            zlib.crc32(message.body),
        )
        if not message.to_responses:
            self.under_way += 1
            for read in reads:
                self._readable[_key(read)] = message.number

    def has_fate(self, message: Message, fate: Fate) -> None:
        """Note what the broker did with a message."""
        self.fates[fate] += 1
        record = self.records[message.number]
        record.fate = fate
        if message.to_responses:
            record.message = None
        if fate is not Fate.ACCEPTED and not message.to_responses:
            self.under_way -= 1

    def runs(self, read: Read, count: int) -> bool:
        """The service runs this; whether it has to ask for being called again."""
        number = self._readable.get(_key(read))
        if number is None:
            self.strange.append(f"executed, and must not be: {str(read)[:500]}")
            return False
        record = self.records[number]
        self._has_become(record)
        record.ran += 1
        record.kind = read.kind
        again = number % AGAIN == 0 and count == 0
        record.called_again = record.called_again or again
        return again

    def is_dead(self, properties: frames.Properties, body: bytes) -> None:
        """It has come out of the dead-letter queue."""
        number = _number_of(properties)
        record = self.records.get(number)
        if record is None:
            self.strange.append(f"dead-lettered, and never sent: {body[:200]!r}")
            return
        self._has_become(record)
        record.dead += 1
        if zlib.crc32(body) != record.digest:
            self.strange.append(f"message {number} was changed on its way to the dead letters")

    def _has_become(self, record: Record) -> None:
        """Something has become of it."""
        if not record.ran and not record.dead:
            self.under_way -= 1
        record.message = None

    def is_answered(self, _: frames.Properties, __: bytes) -> None:
        """An answer has come."""
        self.answers += 1

    # -- at the end -------------------------------------------------------------------------

    def may_be_answers(self, found: int) -> bool:
        """Return whether so many answers are right."""
        records = self.records.values()
        least = sum(each.answered for each in records if each.fate is Fate.ACCEPTED)
        most = sum(each.perhaps_answered for each in records if each.fate in PERHAPS)
        return least <= found <= most

    def may_be_dropped(self, found: int) -> bool:
        """Return whether it is right that so many were dropped at the response queue."""
        records = self.records.values()
        least = sum(each.to_responses for each in records if each.fate is Fate.ACCEPTED)
        most = sum(each.to_responses for each in records if each.fate in PERHAPS)
        return least <= found <= most

    def failures(self) -> Iterator[str]:
        """A line for each thing that must not be."""
        yield from self.strange
        for number, record in self.records.items():
            if not record.is_right:
                yield (
                    f"message {number} ({record.what}), {record.fate}, "
                    f"{record.kind or record.why!r}: executed and dead-lettered "
                    f"{record.ran, record.dead} times, of {record.ends}; {record.message or ''}"
                )

    def summary(self) -> str:
        """Return a line with the number of messages of each outcome."""
        records = self.records.values()
        return (
            f"{len(records):,} messages: {self.fates[Fate.ACCEPTED]:,} accepted, "
            f"{self.fates[Fate.REFUSED]:,} refused, {self.fates[Fate.UNKNOWN]:,} unknown; "
            f"{sum(each.dead for each in records):,} dead-lettered, "
            f"{sum(each.ran > 0 for each in records):,} executed, "
            f"{sum(each.called_again for each in records):,} of them called again, "
            f"{sum(each.to_responses for each in records):,} to a response queue, "
            f"{self.answers:,} answers"
        )


def _number_of(letter: frames.Properties) -> int:
    """Return the number that the mailer gave a message, in its message id; -1: it has none.

    A copy that says why it failed keeps that id in a header: looked for in the bytes, for the
    rest of the table may be unreadable.
    """
    copied = re.search(_COPIED_ID, letter.headers or b"", re.DOTALL)
    told = copied[1].decode() if copied else (letter.message_id or "").partition(".")[0]
    return int(told) if told.isdigit() else -1


def _key(read: Read) -> str:
    return repr((read.kind, read.correlation_id, read.payload))
