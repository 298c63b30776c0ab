"""Retry: which errors of a method let its message come back, when, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..config.outage import REFUSALS
from ..config.times import delays
from ..exceptions import NuropbCallAgain, NuropbConfigurationError
from ..safe_logging import Blame, blamed

_MOST: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Handle a message again when its handler has failed: at once, and after growing delays.

    attempts: number of times that it is handled, the first one included (5). After the last it is a
        dead letter, which has the number.
    immediate: number of further tries within each attempt, at once and in this process (0).
    delays: seconds before the second, third, … attempt; the last is for all that follow. They are
        rounded up to one of the delays of the service, of all its Retrys together, 12 at most.
    only: classes of exceptions that are retried; () stands for all.
    but_not: classes that are not retried, of those. Refusals (NuropbValidationError,
        NuropbAuthenticationError, NuropbAuthorizationError, NuropbDeprecatedError) are retried
        when `only` names them.
    requests: retry requests, too, as far as their requesters still wait.

    What callers cause (wrong parameters, an unknown method) is never retried. A message that would
    come back after its expiration does not; its time in the service queue behind a delay is not
    counted, for nobody knows it. An event comes back to all of its handlers here, by the Retry of
    the first of them that has one. Raises NuropbConfigurationError.
    """

    attempts: int = 5
    immediate: int = 0
    delays: Sequence[float] = (1, 5, 30, 120, 600, 3600)
    only: tuple[type[BaseException], ...] = ()
    but_not: tuple[type[BaseException], ...] = ()
    requests: bool = False

    def __post_init__(self) -> None:
        for name, least in (("attempts", 1), ("immediate", 0)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= _MOST:
                problem = f"expected a whole number from {least} on, got {value!r}"
                raise NuropbConfigurationError(name, problem)
        for name in ("only", "but_not"):
            classes = getattr(self, name)
            if isinstance(classes, type):
                object.__setattr__(self, name, (classes,))
            elif not isinstance(classes, tuple) or not all(
                isinstance(each, type) and issubclass(each, BaseException) for each in classes
            ):
                problem = f"expected classes of exceptions, got {classes!r}"
                raise NuropbConfigurationError(name, problem)
        values: Any = self.delays
        several = isinstance(values, Iterable) and not isinstance(values, str)
        object.__setattr__(self, "delays", tuple(values) if several else (values,))
        delays("delays", self.delays)
        if self.attempts > 1 and not self.delays:
            raise NuropbConfigurationError(
                "delays", "are missing: all attempts but the first come back by them"
            )

    def covers(self, error: BaseException) -> bool:
        """Return whether an error of a handler is retried."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.covers, error.exceptions))
        if not isinstance(error, Exception) or blamed(error) is not Blame.HANDLER:
            return False
        if isinstance(error, NuropbCallAgain):  # at once and once only, whatever a Retry says
            return False
        if self.only:
            return isinstance(error, self.only) and not isinstance(error, self.but_not)
        return not isinstance(error, (*self.but_not, *REFUSALS))

    def after(self, attempts: int) -> float | None:
        """Return the seconds until the next attempt; None when that was the last."""
        if attempts >= self.attempts:
            return None
        return self.delays[min(attempts, len(self.delays)) - 1]
