"""Dead letters that failed alike, counted together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ..protocol.constants import MessageType
from .letter import DeadLetter

MOST: Final = 1000
"""Groups that are counted each; letters of further ones are counted in one, whose fields are all
empty."""

_Key = tuple[bool, str, MessageType | None, str | None, str | None, str | None]
_OTHERS: Final[_Key] = (False, "", None, None, None, None)


@dataclass(slots=True, kw_only=True)
class DeadLetterGroup:
    """Letters with the same reason, type, method or topic, error, and shape of its text."""

    own: bool
    reason: str
    type: MessageType | None
    method: str | None
    """The method, or the topic of an event."""
    error: str | None
    shape: str | None
    """The error's text with # for what has digits in it; None: there is no text."""
    count: int = 0
    first: datetime | None = None
    """When the first of them failed; None: no letter tells."""
    last: datetime | None = None
    example: str | None = None
    """Failure id, or else correlation id, of one of them."""

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        self.count += 1
        self.example = self.example or letter.failure_id or letter.correlation_id or None
        if (at := letter.failed_at) is not None:
            self.first = at if self.first is None else min(self.first, at)
            self.last = at if self.last is None else max(self.last, at)


class Grouping:
    """Counts letters by group."""

    def __init__(self) -> None:
        self._groups: dict[_Key, DeadLetterGroup] = {}

    def add(self, letter: DeadLetter) -> None:
        """Count a letter in its group."""
        named = letter.topic if letter.type is MessageType.EVENT else letter.method
        key = (letter.own, letter.reason, letter.type, named, letter.error, letter.shape)
        if key not in self._groups and len(self._groups) >= MOST:
            key = _OTHERS
        group = self._groups.get(key)
        if group is None:
            own, reason, kind, method, error, shape = key
            group = self._groups[key] = DeadLetterGroup(
                own=own, reason=reason, type=kind, method=method, error=error, shape=shape
            )
        group.add(letter)

    def largest_first(self) -> tuple[DeadLetterGroup, ...]:
        """Return the groups, those with most letters first."""
        return tuple(sorted(self._groups.values(), key=lambda group: -group.count))
