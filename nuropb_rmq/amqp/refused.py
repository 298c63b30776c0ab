"""Decide about the unconfirmed messages of an ended channel, from the broker's reason for its end.

The broker reads the messages of a channel in order, and closes the channel at the first one that
it refuses; it never reads those after it (rabbit_channel.erl in rabbitmq-server: a channel that is
closing ignores all methods but Channel.Close and Channel.CloseOk).

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
"""Reply codes of an end that no message of ours can have caused: no code, CONNECTION_FORCED."""
_SIZE: Final = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")
_TOPIC: Final = "access to topic '"
_CUT: Final = "..."
"""The end of a text that RabbitMQ has cut to fit a short string."""
_EXCHANGE_AT: Final = 4 + 2
"""Offset of the exchange's name in Basic.Publish, after class, method and a reserved field."""

Judge = Callable[[Outgoing], NuropbException | None]
"""Returns the error of a message that the broker's reason is about, and None for any other."""


@dataclass(slots=True)
class Aftermath:
    """The decisions about the messages that were written and not confirmed."""

    again: list[Outgoing] = field(default_factory=list)
    """Messages to write again, in this order."""
    ended: list[tuple[Outgoing, NuropbException]] = field(default_factory=list)
    limit: int | None = None
    """Bytes of the largest body that the broker takes, if its reason names that."""


def aftermath(reason: ConnectionLostError, written: Sequence[Outgoing]) -> Aftermath:
    """Decide about messages that were written to a channel, in this order, and not confirmed.

    If the broker's reason identifies the message that it refused, that one ends with a typed error,
    and those after it are written again. If not, no command or event is written again.
    """
    result = Aftermath()
    judge, result.limit = _judge(reason)
    first = next((n for n, sent in enumerate(written) if judge(sent) is not None), len(written))
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
    """Return the error for a body larger than the broker's limit, both in bytes."""
    return MessageTooLargeError(
        f"the body of {size} bytes is larger than the broker takes: its max_message_size is "
        f"{limit} bytes",
        size=size,
        limit=limit,
    )


def _judge(reason: ConnectionLostError) -> tuple[Judge, int | None]:
    """Return the judge for the broker's reason, and the limit of a body's size if it names one."""
    found = _SIZE.search(reason.text)
    if found is not None:
        limit = int(found[2])
        return lambda message: _oversize(message, limit), limit
    _, named, topic = reason.text.partition(_TOPIC)
    if named:
        # The broker caches permissions by channel: of several messages with this topic it refused
        # the first.
        return lambda message: _of_topic(message, topic, reason), None
    return lambda _: None, None


def _oversize(message: Outgoing, limit: int) -> NuropbException | None:
    size = len(message.body)
    return too_large(size, limit) if size > limit else None


def _of_topic(
    message: Outgoing, text: str, reason: ConnectionLostError
) -> TopicRefusedError | None:
    exchange, at = frames.read_shortstr(message.method, _EXCHANGE_AT)
    topic, _ = frames.read_shortstr(message.method, at)
    named = f"{topic}' in exchange '"
    whole = f"{named}{exchange}' in vhost '"
    cut = text.removesuffix(_CUT)
    if text.startswith(whole) or (len(named) <= len(cut) < len(text) and whole.startswith(cut)):
        # Without the broker's text, which names the user: this may go out as an answer.
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
