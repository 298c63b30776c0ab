"""End messages of message_callback: message_complete, and acknowledge_service_message's channel."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from threading import get_ident
from typing import Any, Final, Protocol

from ..amqp.settlement import Settlement
from ..exceptions import NuropbTransportError, NuropbValidationError
from ..printable import short, type_of
from ..protocol import payloads, writer
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import AcknowledgeAction, TransportRespondPayload
from ..protocol.message import Message, context_of, describe
from ..safe_logging import ServiceLog
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


class CallHost(Protocol):
    """The part of `Callbacks` that its calls use."""

    thread: int

    @property
    def log(self) -> ServiceLog:
        """The logger of the service instance."""

    def on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """Run `call` in the loop's thread, from another thread."""

    def settle(
        self, work: Delivery, settlement: Settlement, metadata: dict[str, Any], began: float
    ) -> None:
        """Settle a delivery by the program's overrides; `began` is in monotonic time."""

    def measure(
        self, metadata: dict[str, Any], began: float, action: AcknowledgeAction, count: int
    ) -> None:
        """Complete the metadata, and call the program's metadata_metrics."""


class CallState(Enum):
    """State of one call of message_callback."""

    OPEN = auto()
    COMPLETE = auto()
    """message_complete was called."""
    GONE = auto()
    """The handler ended before: by its deadline, its own error, or stop()."""


# For code that runs for every message: looking up an enum's member takes up to 0.25 µs on CPython
# 3.11.
OPEN: Final = CallState.OPEN
COMPLETE: Final = CallState.COMPLETE


class ServiceCall:
    """One request, command or event that the callback got."""

    __slots__ = ("_began", "_host", "_message", "_metadata", "_waiter", "_work", "state")

    def __init__(
        self, host: CallHost, work: Delivery, message: Message, metadata: dict[str, Any]
    ) -> None:
        self._host = host
        self._work = work
        self._message = message
        self._metadata = metadata
        self._began = time.monotonic()
        self.state = OPEN
        self._waiter: asyncio.Future[None] | None = None

    async def completed(self) -> None:
        """Wait until message_complete is called."""
        if self.state is OPEN:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def complete(
        self,
        response_messages: list[TransportRespondPayload],
        acknowledgement: AcknowledgeAction,
    ) -> None:
        """Take the call of message_complete."""
        if get_ident() != self._host.thread:
            self._host.on_loop(self.complete, response_messages, acknowledgement)
            return
        message = self._message
        if self.state is not OPEN:
            late = self.state is CallState.GONE
            self._host.log.warning(
                "message_complete of %s %s was called %s; ignored",
                message.kind.value,
                message.correlation_id,
                "too late: its handler has ended" if late else "again",
                about=message,
            )
            return
        self.state = COMPLETE
        try:
            outcome, answers = _ending(message, response_messages, acknowledgement)
        except Exception as error:  # noqa: BLE001 - the arguments are the program's
            self._host.log.error(  # noqa: TRY400 - the text says it all
                "message_complete of %s %s: %s; the message counts as failed",
                message.kind.value,
                message.correlation_id,
                error,
                about=message,
            )
            context = context_of(message)
            failure = payloads.answer(self._work.head, context, None, describe(error))
            outcome, answers = Outcome.FAILED, [failure]
        message.complete(outcome, answers)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def settle(self, work: Delivery, settlement: Settlement) -> None:
        """Settle the delivery; this is its Delivery.settler."""
        self._host.settle(work, settlement, self._metadata, self._began)


def ids_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what log records say of a message, by its metadata."""
    known = ("correlation_id", "trace_id")
    return {name: metadata[name] for name in known if metadata[name] != "unknown"}


class ResponseCall:
    """One response that the callback got. It needs neither an ack nor an answer."""

    __slots__ = ("_began", "_host", "_metadata", "state")

    def __init__(self, host: CallHost, metadata: dict[str, Any]) -> None:
        self._host = host
        self._metadata = metadata
        self._began = time.monotonic()
        self.state = OPEN

    def complete(
        self,
        response_messages: list[TransportRespondPayload],
        acknowledgement: AcknowledgeAction,
    ) -> None:
        """Take the call of message_complete."""
        if get_ident() != self._host.thread:
            self._host.on_loop(self.complete, response_messages, acknowledgement)
            return
        if self.state is not OPEN:
            text = "message_complete of a response was called again; ignored"
            self._host.log.warning(text, **ids_of(self._metadata))
            return
        self.state = COMPLETE
        if response_messages or acknowledgement != "ack":
            text = "message_complete of a response: expected [] and 'ack'; the rest is ignored"
            self._host.log.warning(text, **ids_of(self._metadata))
        self._host.measure(self._metadata, self._began, "ack", 0)


class SettlingChannel:
    """Channel of acknowledge_service_message: pika's three methods that settle, for one delivery.

    They return nothing, as pika's do; when the channel is gone, the broker delivers again.
    """

    __slots__ = ("_work", "settled")

    def __init__(self, work: Delivery) -> None:
        self._work = work
        self.settled: bool = False

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """Acknowledge it. Raises NuropbTransportError for another tag, or `multiple`."""
        self._settle(delivery_tag, multiple, Settlement.ACK)

    def basic_nack(
        self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True
    ) -> None:
        """Requeue it, or dead-letter it without `requeue`. Raises as basic_ack does."""
        settlement = Settlement.REQUEUE if requeue else Settlement.REJECT
        self._settle(delivery_tag, multiple, settlement)

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> None:
        """Requeue it, or dead-letter it without `requeue`. Raises as basic_ack does."""
        self.basic_nack(delivery_tag, False, requeue)

    def _settle(self, delivery_tag: int, multiple: bool, settlement: Settlement) -> None:
        own = self._work.content.tag
        if multiple or delivery_tag != own:
            raise NuropbTransportError(
                f"this channel settles delivery {own} only, not {delivery_tag}"
                f"{' and those before it' if multiple else ''}"
            )
        if self.settled:
            log = self._work.log.onto(logger)
            log.warning("delivery %d was settled before; ignored", own, about=self._work)
            return
        self.settled = True
        self._work.write(settlement)


def _ending(message: Message, responses: object, acknowledgement: object) -> Ending:
    """Check message_complete's arguments. Raises NuropbValidationError, naming the argument."""
    outcome = _OUTCOMES.get(acknowledgement) if isinstance(acknowledgement, str) else None
    if outcome is None:
        raise NuropbValidationError(
            f"acknowledgement: expected 'ack', 'nack' or 'reject', got {short(acknowledgement)}"
        )
    if outcome is _AGAIN or responses is None:
        return outcome, ()
    if not isinstance(responses, (list, tuple)):
        raise NuropbValidationError(f"response_messages: expected a list, got {type_of(responses)}")
    return outcome, _answers(message, responses)


def _answers(message: Message, responses: Sequence[object]) -> Sequence[Mapping[str, Any]]:
    """Return the payloads. Of several responses only the first counts: a request has one answer.

    (nuropb's RMQAPI makes a second, useless response when a request fails.)
    """
    correlation_id = message.correlation_id
    if len(responses) == 1:  # the usual case, in less time
        plain = _plain(responses[0], correlation_id)
        if plain is not None:
            return (plain,)
    answers: list[Mapping[str, Any]] = []
    answered = False
    for number, response in enumerate(responses):
        plain = _plain(response, correlation_id)
        if plain is not None:
            if not answered:
                answers.append(plain)
            answered = True
            continue
        payload = response.get("nuropb_payload") if isinstance(response, _MAPPINGS) else None
        tag = payload.get("tag") if isinstance(payload, _MAPPINGS) else None
        if payload is None or tag not in ("response", "event"):
            raise NuropbValidationError(
                f"response_messages[{number}]: expected a mapping whose 'nuropb_payload' has the "
                "tag response or event"
            )
        if tag == "event":
            ids = {"correlation_id": correlation_id, "trace_id": message.trace_id}
            payload = {**payload, **ids}
        elif answered:
            continue
        elif payload.get("correlation_id") not in (None, "", correlation_id):
            raise NuropbValidationError(
                f"response_messages[{number}]: expected the correlation_id of the message, or none"
            )
        else:
            answered = True
        writer.check_outgoing(payload)
        answers.append(payload)
    return answers


def _plain(response: object, correlation_id: str) -> Mapping[str, Any] | None:
    """Return the payload of a complete response, or None; its trace id is not checked."""
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
