"""Which dead letters are meant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..config.address import typed
from ..config.times import age
from ..exceptions import NuropbConfigurationError
from ..protocol.constants import MessageType
from ..service.topics import matcher, matches
from .letter import DeadLetter

_TEXTS = ("reason", "method", "topic", "error", "correlation_id", "trace_id", "failure_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Letters that have all of this; None stands for any.

    Raises NuropbConfigurationError or, for a time, NuropbValidationError, which name the field.
    """

    own: bool | None = None
    """True: of this service; False: of others."""
    reason: str | None = None
    """rejected, expired, maxlen or delivery_limit."""
    type: MessageType | str | None = None
    method: str | None = None
    topic: str | None = None
    """A topic, with * and # as in AMQP."""
    error: str | None = None
    """Name of the exception's class."""
    correlation_id: str | None = None
    trace_id: str | None = None
    failure_id: str | None = None
    older_than: float | None = None
    """Seconds since it failed, at least; letters whose time is not known do not match."""
    younger_than: float | None = None
    """Seconds since it failed, at most."""

    def __post_init__(self) -> None:
        for name in _TEXTS:
            if (text := getattr(self, name)) is not None:
                typed(name, text, str, "a string")
        if self.own is not None:
            typed("own", self.own, bool, "True, False or None")
        for name in ("older_than", "younger_than"):
            if (since := getattr(self, name)) is not None:
                object.__setattr__(self, name, age(name, since))
        if self.type is not None:
            try:
                object.__setattr__(self, "type", MessageType(self.type))
            except ValueError as e:
                problem = f"must be one of {', '.join(MessageType)}, not {self.type!r}"
                raise NuropbConfigurationError("type", problem) from e

    def matches(self, letter: DeadLetter, now: datetime) -> bool:
        """Return whether a letter has all of this."""
        for name in ("own", "reason", "type", "error", "correlation_id", "trace_id", "failure_id"):
            wanted = getattr(self, name)
            if wanted is not None and getattr(letter, name) != wanted:
                return False
        return self._is_of_age(letter, now) and self._is_named(letter)

    def _is_of_age(self, letter: DeadLetter, now: datetime) -> bool:
        oldest, youngest = self.younger_than, self.older_than
        if oldest is None and youngest is None:
            return True
        if letter.failed_at is None:
            return False
        since = (now - letter.failed_at) / timedelta(seconds=1)
        return (youngest is None or since >= youngest) and (oldest is None or since <= oldest)

    def _is_named(self, letter: DeadLetter) -> bool:
        """Compare method and topic, for which the body may have to be decoded: last of all."""
        if self.method is not None and letter.method != self.method:
            return False
        if self.topic is None:
            return True
        topic = letter.topic
        return topic is not None and matches(matcher(self.topic), topic)


ALL = DeadLetterFilter()


def now() -> datetime:
    """Return the time that ages are counted from."""
    return datetime.now(UTC)
