"""Decide how a handled message is settled and answered: one table.

A failed message is rejected, so that it reaches the dead-letter exchange and an operator; a failed
request is answered as well. In place of the reject, transport/letters sends a copy that says why,
or acks a request whose requester has the error. "Call again" puts a request or command back, once
only. Events are not called again: they are acknowledged (nuropb's rule).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar, Final

from ..amqp.settlement import Settlement
from .constants import MessageType


class Outcome(Enum):
    """The end of handling a message."""

    # Enum's own is written in Python, and every message looks this up.
    __hash__: ClassVar[Callable[[object], int]] = object.__hash__

    DONE = auto()
    FAILED = auto()
    CALL_AGAIN = auto()
    RETRY = auto()
    """The handler has raised RetryLater: it comes back after a delay."""


class Answer(Enum):
    """The answer that the requester gets."""

    NOTHING = auto()
    OUTCOME = auto()
    """The result or the error of the handler."""
    CALL_AGAIN_REJECTED = auto()


# For hot paths: looking up a member of an enum takes up to 0.25 µs (CPython 3.11).
DONE: Final = Outcome.DONE


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of `decide()`."""

    settlement: Settlement
    answer: Answer


_ACK = Decision(Settlement.ACK, Answer.NOTHING)
_REJECT = Decision(Settlement.REJECT, Answer.NOTHING)
_AGAIN = Decision(Settlement.CALL_AGAIN, Answer.NOTHING)
_RETRY = Decision(Settlement.RETRY, Answer.NOTHING)

_HANDLED = (MessageType.REQUEST, MessageType.COMMAND, MessageType.EVENT)

# (kind, outcome, whether it was called again before) → decision
_TABLE = {
    (MessageType.REQUEST, Outcome.DONE, False): Decision(Settlement.ACK, Answer.OUTCOME),
    (MessageType.REQUEST, Outcome.DONE, True): Decision(Settlement.ACK, Answer.OUTCOME),
    (MessageType.REQUEST, Outcome.FAILED, False): Decision(Settlement.REJECT, Answer.OUTCOME),
    (MessageType.REQUEST, Outcome.FAILED, True): Decision(Settlement.REJECT, Answer.OUTCOME),
    (MessageType.REQUEST, Outcome.CALL_AGAIN, False): _AGAIN,
    (MessageType.REQUEST, Outcome.CALL_AGAIN, True): Decision(
        Settlement.REJECT, Answer.CALL_AGAIN_REJECTED
    ),
    (MessageType.COMMAND, Outcome.DONE, False): _ACK,
    (MessageType.COMMAND, Outcome.DONE, True): _ACK,
    (MessageType.COMMAND, Outcome.FAILED, False): _REJECT,
    (MessageType.COMMAND, Outcome.FAILED, True): _REJECT,
    (MessageType.COMMAND, Outcome.CALL_AGAIN, False): _AGAIN,
    (MessageType.COMMAND, Outcome.CALL_AGAIN, True): _REJECT,
    (MessageType.EVENT, Outcome.DONE, False): _ACK,
    (MessageType.EVENT, Outcome.DONE, True): _ACK,
    (MessageType.EVENT, Outcome.FAILED, False): _REJECT,
    (MessageType.EVENT, Outcome.FAILED, True): _REJECT,
    (MessageType.EVENT, Outcome.CALL_AGAIN, False): _ACK,
    (MessageType.EVENT, Outcome.CALL_AGAIN, True): _ACK,
    **{(kind, Outcome.RETRY, again): _RETRY for kind in _HANDLED for again in (False, True)},
}


def decide(kind: MessageType, outcome: Outcome, call_again_count: int) -> Decision:
    """Return the decision for a message of the service queue; raises KeyError for a response."""
    return _TABLE[kind, outcome, call_again_count > 0]
