"""Call message_callback, by which a program of nuropb's transport gets messages.

    message_callback(message, message_complete, metadata)
    message_complete([responses and events], "ack" | "nack" | "reject")

The callback is a function or a coroutine function. message_complete may be called at once or later,
in the loop's thread or another one. Only its first call counts, and no argument makes it raise.
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
from ..printable import short, type_of
from ..protocol import serialization
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
from ..protocol.reader import Head
from ..safe_logging import ServiceLog, report
from ..transport.delivery import Delivery
from ..transport.sender import PostedRequest
from .message_complete import OPEN, CallState, ResponseCall, ServiceCall, SettlingChannel, ids_of
from .receiving import answer

logger = logging.getLogger("nuropb_rmq.compat")

END_WITHIN: Final = 2.0
"""Seconds that callbacks of responses get to end after the transport has stopped."""

_ACTIONS: Final[Mapping[Settlement, AcknowledgeAction]] = {
    Settlement.ACK: "ack",
    Settlement.CALL_AGAIN: "ack",
    Settlement.REJECT: "reject",
    Settlement.REQUEUE: "nack",
}
_MAX_DEPTH: Final = 100
"""The max_json_depth of decode_rmq_body, which has no configuration."""
_OF_REQUESTS: Final = {HEADER_TYPE: "request", HEADER_VERSION: NUROPB_VERSION}
"""Headers for the metadata of a failed request: the request's own, as in nuropb."""
_OF_RESPONSES: Final = {HEADER_TYPE: "response"}
_CONCLUDED: Final = Completion(Outcome.DONE)
"""Result of a handler that has completed its message; it is ignored."""


_verbose = False


def verbose(value: bool | None = None) -> bool:
    """Return whether messages of the service queue are logged at DEBUG; `value` sets it.

    The log shows types and ids, never payloads.
    """
    global _verbose  # noqa: PLW0603 - nuropb's switch is of the module
    if value is not None:
        _verbose = value
    return _verbose


class Identity(Protocol):
    """The part of `RMQTransport` that its callbacks use, for metadata."""

    is_leader: bool

    @property
    def service_name(self) -> str: ...

    @property
    def instance_id(self) -> str: ...


Acknowledge = Callable[[SettlingChannel, int, AcknowledgeAction, bool], None]
Metrics = Callable[[dict[str, Any]], None]


class Callbacks:
    """Connection between a transport's hooks and a program's message_callback.

    `acknowledge` and `metrics` are the overrides of acknowledge_service_message and
    metadata_metrics; they are called for each settlement.
    """

    def __init__(
        self,
        identity: Identity,
        message_callback: MessageCallbackFunction,
        *,
        client_only: bool,
        acknowledge: Acknowledge | None,
        metrics: Metrics | None,
    ) -> None:
        self._identity = identity
        self._callback = message_callback
        self._client_only = client_only
        self._service_name = identity.service_name
        # None until it is needed: start() may generate it.
        self._instance_id: str | None = None
        self._acknowledge = acknowledge
        self._metrics = metrics
        self._observed = acknowledge is not None or metrics is not None
        self._loop: asyncio.AbstractEventLoop
        self.thread = 0
        """The identifier of the loop's thread."""
        # Callbacks of responses that are coroutines and still run.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def log(self) -> ServiceLog:
        """The logger of the service instance."""
        return ServiceLog(logger, self._service_name, self._identity.instance_id)

    def begin(self) -> None:
        """Note the loop on which the transport starts."""
        self._loop = asyncio.get_running_loop()
        self.thread = get_ident()
        self._instance_id = None

    async def end(self, within: float) -> None:
        """Wait for the callbacks of responses that still run, `within` seconds at most.

        They get END_WITHIN to end by themselves, are then cancelled, and get as much again.
        """
        loop, own = asyncio.get_running_loop(), asyncio.current_task()
        tasks = {task for task in self._tasks if task is not own and task.get_loop() is loop}
        timeout = max(0.0, min(END_WITHIN, within / 2))
        if tasks:
            _, running = await asyncio.wait(tasks, timeout=timeout)
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=timeout)

    def on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """Run `call` in the loop's thread, from another thread."""

        def run() -> None:  # without arguments, which asyncio's debug mode would print
            self.thread = get_ident()  # the loop may have gone on in another thread
            call(*arguments)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:
            self.log.warning("message_complete was ignored: the event loop is closed")

    # -- messages of the service queue: the transport's handler ----------------------------

    async def take(self, message: Message) -> Completion:
        """Give a message to the callback, and wait until message_complete is called."""
        work = cast(Delivery, message.delivery)
        head = work.head
        metadata = self._metadata_of(head)
        call = ServiceCall(self, work, message, metadata)
        if self._observed:
            work.settler = call.settle
        if _verbose:
            ids = (message, head.trace_id, work.content.tag)
            self.log.debug("%r, trace %r, delivery %d", *ids, about=work)
        try:
            returned = self._callback(
                _service_message(head, message.payload), call.complete, metadata
            )
            if returned is not None and isawaitable(returned):
                await returned
            if call.state is OPEN:
                await call.completed()
        except Exception as e:
            if call.state is OPEN:
                raise
            self._log_failure("after message_complete", head.correlation_id, e)
        finally:
            if call.state is OPEN:
                call.state = CallState.GONE
        return _CONCLUDED

    # -- settlements: Hooks.settler ---------------------------------------------------------

    def settler(self) -> Callable[[Delivery, Settlement], None] | None:
        """Return the settler of messages that could not be read, which the callback never gets."""
        if not self._observed:
            return None
        return self._settle_unread

    def _settle_unread(self, work: Delivery, settlement: Settlement) -> None:
        self.settle(work, settlement, self._metadata_of(work.head), time.monotonic())

    def settle(
        self, work: Delivery, settlement: Settlement, metadata: dict[str, Any], began: float
    ) -> None:
        """Settle a delivery by the program's overrides; `began` is in monotonic time."""
        if self._acknowledge is None:
            work.write(settlement)
        else:
            channel = SettlingChannel(work)
            # nuropb rejects a redelivered "nack"; a message to be requeued must not be.
            again = work.content.redelivered or work.head.call_again_count > 0
            redelivered = again and settlement is not Settlement.REQUEUE
            action = _ACTIONS[settlement]
            try:
                self._acknowledge(channel, work.content.tag, action, redelivered)
            except BaseException as e:  # noqa: BLE001 - the program's own function: settle all the same
                failed = "acknowledge_service_message failed"
                report(self.log, logging.ERROR, e, failed, about=work)
            if not channel.settled:
                text = "acknowledge_service_message did not settle; settled with %s"
                self.log.warning(text, action, about=work)
                work.write(settlement)
        action = "nack" if settlement is Settlement.CALL_AGAIN else _ACTIONS[settlement]
        self.measure(metadata, began, action, work.sent)

    def metadata(
        self, headers: Mapping[str, Any], correlation_id: str, trace_id: str | None, encrypted: bool
    ) -> dict[str, Any]:
        """Return the metadata of a message."""
        if self._instance_id is None:
            self._instance_id = self._identity.instance_id
        return {
            "start_time": time.time(),
            "service_name": self._service_name,
            "instance_id": self._instance_id,
            "is_leader": self._identity.is_leader,
            "client_only": self._client_only,
            "nuropb_type": headers.get(HEADER_TYPE) or "",
            "nuropb_version": headers.get(HEADER_VERSION) or "",
            "correlation_id": correlation_id,
            "trace_id": "unknown" if trace_id is None else trace_id,
            "encrypted": encrypted,
        }

    def _metadata_of(self, head: Head) -> dict[str, Any]:
        return self.metadata(head.shape.headers, head.correlation_id, head.trace_id, head.encrypted)

    def measure(
        self, metadata: dict[str, Any], began: float, action: AcknowledgeAction, count: int
    ) -> None:
        """Complete the metadata, and call the program's metadata_metrics.

        `began` is in monotonic time; `count` is the number of messages sent.
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
            report(self.log, logging.ERROR, e, "metadata_metrics failed", **ids_of(metadata))

    # -- responses: Hooks.on_response and Hooks.on_failure ----------------------------------

    def on_response(self, head: Head, payload: dict[str, Any]) -> None:
        """Give a response to a posted request to the callback."""
        self._hand_over(_service_message(head, payload), self._metadata_of(head))

    def on_failure(self, request: PostedRequest, error: NuropbException) -> None:
        """Give the callback a response with the error of a request that gets none."""
        payload = answer(request.payload, None, describe(error))
        ids = payload["correlation_id"], payload["trace_id"]
        metadata = self.metadata(_OF_REQUESTS, *ids, request.encrypted)
        self._hand_over(_response_message(payload), metadata)

    def as_received(
        self, payload: dict[str, Any], encrypted: bool
    ) -> tuple[TransportServicePayload, MessageCompleteFunction, dict[str, Any]]:
        """Return the callback's arguments for this response."""
        ids = payload["correlation_id"], payload["trace_id"]
        metadata = self.metadata(_OF_RESPONSES, *ids, encrypted)
        return _response_message(payload), ResponseCall(self, metadata).complete, metadata

    def _hand_over(self, message: TransportServicePayload, metadata: dict[str, Any]) -> None:
        call = ResponseCall(self, metadata)
        try:
            returned = self._callback(message, call.complete, metadata)
        except (Exception, asyncio.CancelledError) as e:  # noqa: BLE001 - the program's own function
            self._log_failure("with a response", message["correlation_id"], e)
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
            self._log_failure("with a response", correlation_id, e)

    def _log_failure(self, when: str, correlation_id: str, error: BaseException) -> None:
        text, name = "message_callback failed %s: %s %s", type(error).__name__
        self.log.error(text, when, correlation_id, name, correlation_id=correlation_id)
        report(
            *(self.log, logging.DEBUG, error, "%s", correlation_id), correlation_id=correlation_id
        )


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


class Properties(Protocol):
    """The message properties that decode_rmq_body reads; pika's and aiormq's have them."""

    headers: Mapping[str, Any] | None
    correlation_id: str | None
    expiration: str | None


def decode_rmq_body(method: object, properties: Properties, body: bytes) -> TransportServicePayload:
    """Decode a message to the form that message_callback gets; `method` is ignored.

    Raises MalformedMessageError.
    """
    headers = properties.headers or {}
    protocol, kind = headers.get(HEADER_PROTOCOL), headers.get(HEADER_TYPE)
    if protocol not in NUROPB_PROTOCOL_VERSIONS_SUPPORTED:
        raise MalformedMessageError(
            f"header {HEADER_PROTOCOL}: expected {NUROPB_PROTOCOL_VERSION}, got {short(protocol)}"
        )
    if not isinstance(kind, str) or kind not in KINDS:
        raise MalformedMessageError(
            f"header {HEADER_TYPE}: expected a type of message, got {short(kind)}"
        )
    payload = serialization.decode(body, max_depth=_MAX_DEPTH)
    if not isinstance(payload, dict):
        raise MalformedMessageError(f"body: expected an object, got {type_of(payload)}")
    expiration = properties.expiration or ""
    return {
        "nuropb_protocol": protocol,
        "nuropb_type": KINDS[kind].value,
        "nuropb_payload": payload,
        "correlation_id": properties.correlation_id or "",
        "trace_id": headers.get(HEADER_TRACE_ID),
        "ttl": int(expiration) if expiration.isascii() and expiration.isdigit() else None,
    }
