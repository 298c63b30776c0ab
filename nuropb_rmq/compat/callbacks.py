"""message_callback: how a program of nuropb's transport gets messages, and ends them.

    message_callback(message, message_complete, metadata)
    message_complete([responses and events], "ack" | "nack" | "reject")

The callback is a function or a coroutine function. message_complete may be called at once or
later, on the loop or in another thread, and counts once; nothing that it is given makes it raise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from threading import get_ident
from typing import Any, Final, Protocol, cast

from ..amqp.settlement import Settlement
from ..exceptions import MalformedMessageError, NuropbException
from ..protocol import payloads, serialization
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import (
    HEADER_PROTOCOL,
    HEADER_TRACE_ID,
    HEADER_TYPE,
    HEADER_VERSION,
    KINDS,
    NUROPB_PROTOCOL_VERSION,
    NUROPB_PROTOCOL_VERSIONS_SUPPORTED,
    NUROPB_VERSION,
    AcknowledgeAction,
    MessageCallbackFunction,
    MessageCompleteFunction,
    TransportServicePayload,
)
from ..protocol.message import Completion, Message, describe
from ..protocol.reader import Head, short, type_of
from ..safe_logging import report
from ..transport.delivery import Delivery
from ..transport.sender import PostedRequest
from .message_complete import OPEN, ResponseCall, ServiceCall, Stage
from .settling import SettlingChannel

logger = logging.getLogger("nuropb_rmq.compat")

END_WITHIN: Final = 2.0
"""Seconds that callbacks of responses have to end in, once the transport is stopped."""

_ACTIONS: Final[Mapping[Settlement, AcknowledgeAction]] = {
    Settlement.ACK: "ack",
    Settlement.CALL_AGAIN: "ack",
    Settlement.REJECT: "reject",
    Settlement.REQUEUE: "nack",
}
_MAX_DEPTH: Final = 100
"""Of what decode_rmq_body decodes, which knows no configuration."""
_OF_REQUESTS: Final = {HEADER_TYPE: "request", HEADER_VERSION: NUROPB_VERSION}
"""Metadata of a request that failed are those of the request (nuropb's rule)."""
_OF_RESPONSES: Final = {HEADER_TYPE: "response"}
_CONCLUDED: Final = Completion(Outcome.DONE)
"""What a handler returns that has ended its delivery: nobody looks at it."""


_verbose = False


def verbose(value: bool | None = None) -> bool:
    """Return whether messages of the service queue are logged at DEBUG; True or False sets it.

    The log shows types and ids, never payloads.
    """
    global _verbose  # noqa: PLW0603 - nuropb's switch is of the module
    if value is not None:
        _verbose = value
    return _verbose


class Owner(Protocol):
    """The part of RMQTransport that its callbacks use."""

    is_leader: bool

    @property
    def service_name(self) -> str: ...

    @property
    def instance_id(self) -> str: ...


Acknowledge = Callable[[SettlingChannel, int, AcknowledgeAction, bool], None]
Metrics = Callable[[dict[str, Any]], None]


class Callbacks:
    """Connects a transport's hooks to a program's message_callback.

    `acknowledge` and `metrics`, where given, are called at each settlement.
    """

    def __init__(
        self,
        owner: Owner,
        message_callback: MessageCallbackFunction,
        *,
        client_only: bool,
        acknowledge: Acknowledge | None,
        metrics: Metrics | None,
    ) -> None:
        self._owner = owner
        self._callback = message_callback
        self._client_only = client_only
        self._service_name = owner.service_name
        self._instance_id: str | None = None
        self._acknowledge = acknowledge
        self._metrics = metrics
        self._observed = acknowledge is not None or metrics is not None
        self._loop: asyncio.AbstractEventLoop
        self.thread = 0
        """That of the loop."""
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """The transport is being started, on this loop."""
        self._loop = asyncio.get_running_loop()
        self.thread = get_ident()
        self._instance_id = None

    async def end(self, within: float) -> None:
        """The transport is stopped: callbacks of responses that still run end in so many seconds.

        They have END_WITHIN to end by themselves, and as much again when they are cancelled.
        """
        loop, mine = asyncio.get_running_loop(), asyncio.current_task()
        tasks = {each for each in self._tasks if each is not mine and each.get_loop() is loop}
        timeout = max(0.0, min(END_WITHIN, within / 2))
        if tasks:
            _, running = await asyncio.wait(tasks, timeout=timeout)
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=timeout)

    def on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """Call it in the loop's thread, from another one."""

        def run() -> None:  # in one: asyncio's debug mode prints the arguments of what it calls
            self.thread = get_ident()  # the loop may have gone on in another thread
            call(*arguments)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:
            logger.warning("message_complete: the event loop is closed; ignored")

    # -- messages of the service queue: the transport's handler ----------------------------

    async def take(self, message: Message) -> Completion:
        """Give a message to the callback, and wait until message_complete was called."""
        work = cast(Delivery, message.delivery)
        head = work.head
        metadata = self.metadata(
            head.shape.headers, head.correlation_id, head.trace_id, head.encrypted
        )
        call = ServiceCall(self, work, message, metadata)
        if self._observed:
            work.settler = call.settle
        if _verbose:
            logger.debug("%r, trace %r, delivery %d", message, head.trace_id, work.content.tag)
        try:
            returned = self._callback(
                _service_message(head, message.payload), call.complete, metadata
            )
            if returned is not None and isawaitable(returned):
                await returned
            if call.stage is OPEN:
                await call.completed()
        except Exception as e:
            if call.stage is OPEN:
                raise
            _log_failure("after message_complete", head.correlation_id, e)
        finally:
            if call.stage is OPEN:
                call.stage = Stage.GONE
        return _CONCLUDED

    # -- settlements: Hooks.settler ---------------------------------------------------------

    def settler(self) -> Callable[[Delivery, Settlement], None] | None:
        """What settles messages that never reached the callback: they could not be read."""
        if not self._observed:
            return None
        return self._settle_unread

    def _settle_unread(self, work: Delivery, settlement: Settlement) -> None:
        head = work.head
        headers = head.shape.headers
        metadata = self.metadata(headers, head.correlation_id, head.trace_id, head.encrypted)
        self.settle(work, settlement, metadata, time.monotonic())

    def settle(
        self, work: Delivery, settlement: Settlement, metadata: dict[str, Any], began: float
    ) -> None:
        """Settle a delivery through the program's own acknowledge_service_message."""
        if self._acknowledge is None:
            work.write(settlement)
        else:
            channel = SettlingChannel(work)
            # What is given back unhandled may come again, however often it came before.
            again = work.content.redelivered or work.head.call_again_count > 0
            redelivered = again and settlement is not Settlement.REQUEUE
            action = _ACTIONS[settlement]
            try:
                self._acknowledge(channel, work.content.tag, action, redelivered)
            except BaseException as e:  # noqa: BLE001 - the program's own: it settles, whatever it is
                report(logger, logging.ERROR, e, "acknowledge_service_message failed")
            if not channel.settled:
                logger.warning("acknowledge_service_message did not settle: %s", action)
                work.write(settlement)
        called_again = work.settlement is Settlement.CALL_AGAIN and settlement is Settlement.ACK
        action = "nack" if called_again else _ACTIONS[settlement]
        self.measure(metadata, began, action, work.sent)

    def metadata(
        self, headers: Mapping[str, Any], correlation_id: str, trace_id: str | None, encrypted: bool
    ) -> dict[str, Any]:
        """Return the metadata of a message."""
        owner = self._owner
        if self._instance_id is None:  # it may be made by start()
            self._instance_id = owner.instance_id
        return {
            "start_time": time.time(),
            "service_name": self._service_name,
            "instance_id": self._instance_id,
            "is_leader": owner.is_leader,
            "client_only": self._client_only,
            "nuropb_type": headers.get(HEADER_TYPE) or "",
            "nuropb_version": headers.get(HEADER_VERSION) or "",
            "correlation_id": correlation_id,
            "trace_id": "unknown" if trace_id is None else trace_id,
            "encrypted": encrypted,
        }

    def measure(
        self, metadata: dict[str, Any], began: float, action: AcknowledgeAction, count: int
    ) -> None:
        """Complete the metadata, and give it to the program's own metadata_metrics.

        `began` is in monotonic time; `count` messages were sent.
        """
        if self._metrics is None:
            return
        metadata["acknowledgement"] = action
        metadata["message_count"] = count
        metadata["flow_complete"] = True
        metadata["end_time"] = time.time()
        metadata["duration"] = time.monotonic() - began
        try:
            self._metrics(metadata)
        except BaseException as e:  # noqa: BLE001 - the program's own function
            report(logger, logging.ERROR, e, "metadata_metrics failed")

    # -- responses: Hooks.on_response and Hooks.on_failure ----------------------------------

    def on_response(self, head: Head, payload: dict[str, Any]) -> None:
        """A response to a posted request."""
        headers = head.shape.headers
        metadata = self.metadata(headers, head.correlation_id, head.trace_id, head.encrypted)
        self._hand_over(_service_message(head, payload), metadata)

    def on_failure(self, request: PostedRequest, error: NuropbException) -> None:
        """A request gets no response: its author gets one that tells the error."""
        sent = request.payload
        correlation_id, trace_id = request.correlation_id, sent["trace_id"]
        payload = payloads.response(
            None,
            describe(error),
            correlation_id=correlation_id,
            trace_id=trace_id,
            context=sent["context"],
        )
        message = _response_message(payload)
        metadata = self.metadata(_OF_REQUESTS, correlation_id, trace_id, request.encrypted)
        self._hand_over(message, metadata)

    def as_received(
        self, payload: dict[str, Any], encrypted: bool
    ) -> tuple[TransportServicePayload, MessageCompleteFunction, dict[str, Any]]:
        """Return what the callback would get with this response."""
        ids = payload["correlation_id"], payload["trace_id"]
        metadata = self.metadata(_OF_RESPONSES, *ids, encrypted)
        return _response_message(payload), ResponseCall(self, metadata).complete, metadata

    def _hand_over(self, message: TransportServicePayload, metadata: dict[str, Any]) -> None:
        call = ResponseCall(self, metadata)
        try:
            returned = self._callback(message, call.complete, metadata)
        except Exception as e:  # noqa: BLE001 - the program's own function
            _log_failure("with a response", message["correlation_id"], e)
            return
        if returned is not None and isawaitable(returned):
            task = self._loop.create_task(
                self._finish(returned, message["correlation_id"]), name="nuropb-response"
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _finish(self, returned: Awaitable[object], correlation_id: str) -> None:
        try:
            await returned
        except Exception as e:  # noqa: BLE001 - the program's own function
            _log_failure("with a response", correlation_id, e)


def _service_message(head: Head, payload: dict[str, Any]) -> TransportServicePayload:
    return {
        "nuropb_protocol": NUROPB_PROTOCOL_VERSION,  # no other is accepted
        "nuropb_type": head.shape.headers[HEADER_TYPE],  # its kind; an enum's `value` is slow
        "nuropb_payload": payload,
        "correlation_id": head.correlation_id,
        "trace_id": head.trace_id,
        "ttl": head.ttl,
    }


def _response_message(payload: dict[str, Any]) -> TransportServicePayload:
    return {
        "nuropb_protocol": NUROPB_PROTOCOL_VERSION,
        "nuropb_type": "response",
        "nuropb_payload": payload,
        "correlation_id": payload["correlation_id"],
        "trace_id": payload["trace_id"],
        "ttl": None,
    }


def _log_failure(when: str, correlation_id: str, error: Exception) -> None:
    logger.error("message_callback failed %s: %s %s", when, correlation_id, type(error).__name__)
    report(logger, logging.DEBUG, error, "%s", correlation_id)


class Properties(Protocol):
    """What decode_rmq_body reads of a message's properties: pika's and aiormq's have it."""

    headers: Mapping[str, Any] | None
    correlation_id: str | None
    expiration: str | None


def decode_rmq_body(method: object, properties: Properties, body: bytes) -> TransportServicePayload:
    """A message that came in, as message_callback gets it; `method` is not looked at.

    Raises MalformedMessageError.
    """
    headers = properties.headers or {}
    protocol, kind = headers.get(HEADER_PROTOCOL), headers.get(HEADER_TYPE)
    if protocol not in NUROPB_PROTOCOL_VERSIONS_SUPPORTED:
        raise MalformedMessageError(f"header {HEADER_PROTOCOL} is {short(protocol)}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise MalformedMessageError(f"header {HEADER_TYPE} is {short(kind)}, no type of message")
    payload = serialization.decode(body, max_depth=_MAX_DEPTH)
    if not isinstance(payload, dict):
        raise MalformedMessageError(f"body is {type_of(payload)}, an object is needed")
    expiration = properties.expiration or ""
    return {
        "nuropb_protocol": protocol,
        "nuropb_type": KINDS[kind].value,
        "nuropb_payload": payload,
        "correlation_id": properties.correlation_id or "",
        "trace_id": headers.get(HEADER_TRACE_ID),
        "ttl": int(expiration) if expiration.isascii() and expiration.isdigit() else None,
    }
