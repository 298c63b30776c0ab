"""Decide about the unconfirmed messages of an ended channel, from the broker's reason for its end.

The broker looks at the messages of a channel in their order, and closes the channel at the first
one that it refuses; at those behind it, it never looks (rabbit_channel.erl in rabbitmq-server: a
channel that is closing ignores all methods but Channel.Close and Channel.CloseOk).

Why: docs/decisions/006-refused-and-unconfirmed.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..exceptions import (
    ConnectionLostError,
    MessageTooLargeError,
    NuropbException,
    NuropbOutcomeUnknownError,
    NuropbTransportError,
    TopicRefusedError,
)
from . import frames
from .outgoing import ALONE, NEVER, Outgoing

_NOT_OUR_FAULT: Final = (0, 320)
"""Reply codes of an end that no message of ours can have caused: none, CONNECTION_FORCED."""
_SIZE: Final = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")
_TOPIC: Final = "access to topic '"
_CUT: Final = "..."
"""How RabbitMQ ends a text that a short string has no room for."""
_EXCHANGE_AT: Final = 4 + 2
"""Where the exchange's name begins in Basic.Publish, behind class, method and a reserved field."""

Judge = Callable[[Outgoing], NuropbException | None]
"""The error of a message that the broker refuses for the reason it gave; None for another."""


@dataclass(slots=True)
class Aftermath:
    """What becomes of each message that was written and not confirmed."""

    again: list[Outgoing] = field(default_factory=list)
    """They are written again, in this order."""
    ended: list[tuple[Outgoing, NuropbException]] = field(default_factory=list)
    limit: int | None = None
    """Bytes of the largest body that the broker takes, when it said so."""


def aftermath(reason: ConnectionLostError, written: Sequence[Outgoing]) -> Aftermath:
    """Decide for messages that were written to a channel, in this order, and not confirmed.

    Where the broker's words name the message that it refused, that one ends with a typed error,
    and those behind it are written again; else no command or event is.
    """
    result = Aftermath()
    judge, result.limit = _judge(reason)
    first = next((n for n, each in enumerate(written) if judge(each) is not None), len(written))
    blamed = first < len(written)
    for n, message in enumerate(written):
        if blamed and n >= first:
            error = judge(message)
        elif message.resend is NEVER:
            error = _unknown(reason)
        elif blamed or reason.code in _NOT_OUR_FAULT:
            error = None
        elif message.resend is ALONE:
            problem = f"the broker refuses it, and closed the channel ({reason.code})"
            error = NuropbTransportError(problem, None, reason)
        else:
            message.resend, error = ALONE, None
        if error is None:
            result.again.append(message)
        else:
            result.ended.append((message, error))
    return result


def too_large(size: int, limit: int) -> MessageTooLargeError:
    """The error of a body that is over the broker's own limit."""
    return MessageTooLargeError(
        f"the body of {size} bytes is larger than the broker takes: its max_message_size is "
        f"{limit} bytes",
        size=size,
        limit=limit,
    )


def _judge(reason: ConnectionLostError) -> tuple[Judge, int | None]:
    """How to tell what the broker refused, and the limit of a body's size if it named that."""
    found = _SIZE.search(reason.text)
    if found is not None:
        limit = int(found[2])
        return lambda message: _oversize(message, limit), limit
    _, named, topic = reason.text.partition(_TOPIC)
    if named:
        # The broker remembers, for each channel, what it may publish: of several messages with
        # this topic it refused the first.
        return lambda message: _of_topic(message, topic, reason), None
    return lambda _: None, None


def _oversize(message: Outgoing, limit: int) -> NuropbException | None:
    size = len(message.body)
    return too_large(size, limit) if size > limit else None


def _of_topic(
    message: Outgoing, said: str, reason: ConnectionLostError
) -> TopicRefusedError | None:
    exchange, at = frames.read_shortstr(message.method, _EXCHANGE_AT)
    topic, _ = frames.read_shortstr(message.method, at)
    named = f"{topic}' in exchange '"
    whole = f"{named}{exchange}' in vhost '"
    cut = said.removesuffix(_CUT)
    if said.startswith(whole) or (len(named) <= len(cut) < len(said) and whole.startswith(cut)):
        # Not in the broker's words, which name the user: it may be an answer to somebody.
        problem = f"the broker refuses events on topic {topic!r}: this user may not write it"
        return TopicRefusedError(problem, None, reason, topic=topic)
    return None


def _unknown(reason: ConnectionLostError) -> NuropbOutcomeUnknownError:
    return NuropbOutcomeUnknownError(
        "written, but the channel was lost before the broker confirmed it: "
        f"it may or may not have been delivered ({reason})",
        None,
        reason,
    )
