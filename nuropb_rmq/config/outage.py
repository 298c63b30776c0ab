"""The setting of the outage mode: when it begins, how often it tries, and which errors count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..exceptions import (
    NuropbAuthenticationError,
    NuropbAuthorizationError,
    NuropbCallAgain,
    NuropbConfigurationError,
    NuropbDeprecatedError,
    NuropbValidationError,
    RetryLater,
)
from ..protocol.constants import MAX_SECONDS
from ..safe_logging import Blame, blamed
from .address import typed

LONGEST_SHARE: Final = 0.5
"""Share of handler_timeout for which a message may wait for its turn."""
REFUSALS: Final = (
    NuropbValidationError,
    NuropbAuthorizationError,
    NuropbAuthenticationError,
    NuropbDeprecatedError,
)
"""Errors with which a handler refuses its caller: neither waiting nor another try cures them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """When handlers fail one after the other, handle one message at a time until one succeeds.

    It begins when `after` handlers in a row have failed; a handler that succeeds sets the count
    back to 0. From then on one message is tried every `probe_every` seconds, one at a time, until a
    handler succeeds; then the service goes on at full speed. Until then a command or event that
    fails is not dead-lettered: it goes back to the end of the service queue. So at most the first
    `after` of them become dead letters. A request that fails is answered with its error and ends as
    always, because its caller waits and can decide.

    An error counts when waiting may cure it. What follows neither counts nor sets the count back,
    and such a message ends as always, in an outage, too: what is refused before the handler runs
    (unknown method, wrong parameters, not authorized, unreadable); errors of authorize_func;
    NuropbValidationError, NuropbAuthorizationError, NuropbAuthenticationError and
    NuropbDeprecatedError, with which a handler refuses its caller; NuropbCallAgain; RetryLater
    without a cause, with which a handler only waits; an error of a message whose own time is over;
    and the classes in `but_not`, with their subclasses. A handler_timeout counts, and so does the
    cause of a RetryLater. An answer to nuropb_describe sets nothing back.

    `but_not` has by default what a sender can most easily make a handler raise by odd data. Add
    what your database raises for odd data, such as `(*Outage().but_not,
    sqlalchemy.exc.IntegrityError)`: else whoever may send messages can slow the service down.

    Raises NuropbConfigurationError.
    """

    after: int = 10
    """Number of failures in a row with which it begins."""
    probe_every: float = 10.0
    """Seconds. A message waits in the process for up to prefetch_count times as long."""
    but_not: tuple[type[BaseException], ...] = (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    )
    """Classes of errors that do not count, with their subclasses."""

    def __post_init__(self) -> None:
        wanted = "a number of failures, an integer from 1 on"
        if typed("outage.after", self.after, int, wanted) < 1:
            raise NuropbConfigurationError("outage.after", f"must be {wanted}, not {self.after}")
        every = self.probe_every
        if type(every) is int:  # an int of any length, which may be too large for a float
            every = float(max(-1, min(every, 2**64)))
        wanted = f"seconds, a number above 0, at most {MAX_SECONDS}"
        every = typed("outage.probe_every", every, float, wanted)
        if not 0 < every <= MAX_SECONDS:
            raise NuropbConfigurationError("outage.probe_every", f"must be {wanted}, not {every}")
        object.__setattr__(self, "probe_every", every)  # the class is frozen
        wanted = "a tuple of exception classes"
        for kind in typed("outage.but_not", self.but_not, tuple, wanted):
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise NuropbConfigurationError("outage.but_not", f"must be {wanted}, not {kind!r}")


def counts(outage: Outage, error: BaseException) -> bool:
    """Return whether this error of a message counts as a failure of its handler.

    A group counts when one of its members does: each handler of an event may have failed.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(counts(outage, member) for member in error.exceptions)
    asked_for = isinstance(error, (*REFUSALS, NuropbCallAgain, RetryLater))
    failed = not asked_for and blamed(error) is Blame.HANDLER
    return failed and not isinstance(error, outage.but_not)


def check_waits(outage: Outage, *, prefetch_count: int, handler_timeout: float) -> None:
    """Raise NuropbConfigurationError if a message could wait too long for its turn.

    handler_timeout is below the broker's consumer_timeout, which ends the channel.
    """
    if prefetch_count == 0:
        raise NuropbConfigurationError(
            "prefetch_count", "must not be 0 with an outage: messages wait in the process then"
        )
    longest = handler_timeout * LONGEST_SHARE
    if outage.probe_every * prefetch_count > longest:
        raise NuropbConfigurationError(
            "outage.probe_every",
            f"must be at most {longest / prefetch_count:g}, not {outage.probe_every:g}: "
            f"{prefetch_count} messages (prefetch_count) wait for their turns, and none may wait "
            f"for more than half of handler_timeout ({longest:g} s)",
        )
