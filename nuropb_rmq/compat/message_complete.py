"""One message in the hands of message_callback; `complete` is its message_complete."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from threading import get_ident
from typing import Any, Final, Protocol

from ..amqp.settlement import Settlement
from ..exceptions import NuropbValidationError
from ..protocol import payloads, writer
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import AcknowledgeAction, TransportRespondPayload
from ..protocol.message import Message, context_of, describe
from ..protocol.reader import short, type_of
from ..transport.delivery import Delivery

logger = logging.getLogger("nuropb_rmq.compat")

_OUTCOMES: Final[Mapping[str, Outcome]] = {
    "ack": Outcome.DONE,
    "nack": Outcome.CALL_AGAIN,
    "reject": Outcome.FAILED,
}
Ending = tuple[Outcome, Sequence[Mapping[str, Any]]]
_AGAIN: Final = Outcome.CALL_AGAIN
_DICT_OR_NONE: Final = (dict, type(None))
_MAPPINGS: Final = (dict, Mapping)  # the quick answer first


class Flow(Protocol):
    """The part of `Callbacks` that a call uses."""

    thread: int

    def on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """Call it in the loop's thread, from another one."""

    def settle(
        self, work: Delivery, settlement: Settlement, metadata: dict[str, Any], began: float
    ) -> None:
        """Settle a delivery."""

    def measure(
        self, metadata: dict[str, Any], began: float, action: AcknowledgeAction, count: int
    ) -> None:
        """It is complete."""


class Stage(Enum):
    """Where a call is."""

    OPEN = auto()
    COMPLETE = auto()
    """message_complete was called."""
    GONE = auto()
    """Its handler ended before that: by its deadline, its own error, or stop()."""


# For what every message passes: an enum's member takes up to 0.25 µs to look up (CPython 3.11).
OPEN: Final = Stage.OPEN
COMPLETE: Final = Stage.COMPLETE


class ServiceCall:
    """One request, command or event in the hands of the callback."""

    __slots__ = (
        "_began",
        "_flow",
        "_message",
        "_metadata",
        "_waiter",
        "_work",
        "stage",
    )  # fmt: skip

    def __init__(
        self,
        flow: Flow,
        work: Delivery,
        message: Message,
        metadata: dict[str, Any],
    ) -> None:
        self._flow = flow
        self._work = work
        self._message = message
        self._metadata = metadata
        self._began = time.monotonic()
        self.stage = OPEN
        self._waiter: asyncio.Future[None] | None = None

    async def completed(self) -> None:
        """Wait until it was called."""
        if self.stage is OPEN:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def complete(
        self,
        response_messages: list[TransportRespondPayload],
        acknowledgement: AcknowledgeAction,
    ) -> None:
        """message_complete."""
        if get_ident() != self._flow.thread:
            self._flow.on_loop(self.complete, response_messages, acknowledgement)
            return
        message = self._message
        if self.stage is not OPEN:
            late = self.stage is Stage.GONE
            logger.warning(
                "message_complete of %s %s was called %s; ignored",
                message.kind.value,
                message.correlation_id,
                "too late: its handler has ended" if late else "again",
            )
            return
        self.stage = COMPLETE
        try:
            outcome, answers = _ending(message, response_messages, acknowledgement)
        except Exception as error:  # noqa: BLE001 - it is given whatever a program makes
            logger.error(  # noqa: TRY400 - it is an answer to the program, and needs no traceback
                "message_complete of %s %s: %s; the message counts as failed",
                message.kind.value,
                message.correlation_id,
                error,
            )
            context = context_of(message)
            failure = payloads.answer(self._work.head, context, None, describe(error))
            outcome, answers = Outcome.FAILED, [failure]
        message.complete(outcome, answers)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def settle(self, work: Delivery, settlement: Settlement) -> None:
        """Delivery.settler."""
        self._flow.settle(work, settlement, self._metadata, self._began)


class ResponseCall:
    """One response in the hands of the callback. It is settled already, and is not answered."""

    __slots__ = ("_began", "_flow", "_metadata", "stage")

    def __init__(self, flow: Flow, metadata: dict[str, Any]) -> None:
        self._flow = flow
        self._metadata = metadata
        self._began = time.monotonic()
        self.stage = OPEN

    def complete(
        self,
        response_messages: list[TransportRespondPayload],
        acknowledgement: AcknowledgeAction,
    ) -> None:
        """message_complete."""
        if get_ident() != self._flow.thread:
            self._flow.on_loop(self.complete, response_messages, acknowledgement)
            return
        if self.stage is not OPEN:
            logger.warning("message_complete of a response was called again; ignored")
            return
        self.stage = COMPLETE
        if response_messages or acknowledgement != "ack":
            logger.warning(
                "message_complete: a response is not answered, and needs no more than ack"
            )
        self._flow.measure(self._metadata, self._began, "ack", 0)


def _ending(message: Message, responses: object, acknowledgement: object) -> Ending:
    """What message_complete was given, checked. Raises NuropbValidationError naming the part."""
    outcome = _OUTCOMES.get(acknowledgement) if isinstance(acknowledgement, str) else None
    if outcome is None:
        raise NuropbValidationError(
            f"acknowledgement: {short(acknowledgement)}, use 'ack', 'nack' or 'reject'"
        )
    if outcome is _AGAIN or responses is None:
        return outcome, ()
    if not isinstance(responses, (list, tuple)):
        raise NuropbValidationError(f"response_messages: {type_of(responses)}, a list is needed")
    return outcome, _answers(message, responses)


def _answers(message: Message, responses: Sequence[object]) -> Sequence[Mapping[str, Any]]:
    """The payloads; of several responses the first, for a request has one answer.

    (nuropb's RMQAPI gives two when a request failed, of which the second is worthless.)
    """
    correlation_id = message.correlation_id
    if len(responses) == 1:  # as nearly always
        plain = _plain(responses[0], correlation_id)
        if plain is not None:
            return (plain,)
    answers: list[Mapping[str, Any]] = []
    answered = False
    for number, each in enumerate(responses):
        plain = _plain(each, correlation_id)
        if plain is not None:
            if not answered:
                answers.append(plain)
            answered = True
            continue
        payload = each.get("nuropb_payload") if isinstance(each, _MAPPINGS) else None
        tag = payload.get("tag") if isinstance(payload, _MAPPINGS) else None
        if payload is None or tag not in ("response", "event"):
            raise NuropbValidationError(
                f"response_messages[{number}]: a mapping is needed whose 'nuropb_payload' has "
                "the tag response or event"
            )
        if tag == "event":
            ids = {"correlation_id": correlation_id, "trace_id": message.trace_id}
            payload = {**payload, **ids}
        elif answered:
            continue
        elif payload.get("correlation_id") not in (None, "", correlation_id):
            raise NuropbValidationError(
                f"response_messages[{number}]: its correlation_id is not that of the message"
            )
        else:
            answered = True
        writer.check_outgoing(payload)
        answers.append(payload)
    return answers


def _plain(response: object, correlation_id: str) -> Mapping[str, Any] | None:
    """The payload of a response that lacks nothing, as nearly all are; ids are not looked at."""
    payload = response.get("nuropb_payload") if type(response) is dict else None
    if (
        type(payload) is dict
        and payload.get("tag") == "response"
        and payload.get("correlation_id") in (None, "", correlation_id)
        and "result" in payload
        and isinstance(payload.get("error", ""), _DICT_OR_NONE)
        and isinstance(payload.get("context"), _DICT_OR_NONE)
    ):
        return payload
    return None
