"""Call receive_transport_message where a subclass of RMQAPI overrides it.

In nuropb every message passes this function, responses included. An override may be a function or a
coroutine function. A message that it gives to the base's method is handled once, whether the
override awaits the base's result, returns it or ignores it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, cast

from ..broker.session import Run
from ..exceptions import NuropbTimeoutError
from ..protocol import payloads
from ..protocol.constants import (
    NUROPB_PROTOCOL_VERSION,
    MessageCallbackFunction,
    MessageCompleteFunction,
    ResponsePayloadDict,
    TransportRespondPayload,
    TransportServicePayload,
)
from ..safe_logging import ServiceLog
from .message_complete import ids_of
from .overrides import Once

logger = logging.getLogger("nuropb_rmq.compat")


@dataclass(slots=True)
class _Turn:
    """One call of an override, and the messages that it gave to the base's method."""

    handed_on: list[Once] = field(default_factory=list)
    over: bool = False
    """True once it has returned; tasks that it started may still run in its context."""


_turn: ContextVar[_Turn | None] = ContextVar("nuropb_rmq_receiving", default=None)


class Receiving:
    """Caller of an override; handles the messages that the override gives to the base's method."""

    def __init__(self, override: MessageCallbackFunction) -> None:
        self._override = override
        self._tasks: set[asyncio.Task[None]] = set()
        # Correlation id → the future of a request whose response the override may still keep.
        self._waiting: dict[str, asyncio.Future[ResponsePayloadDict]] = {}

    async def receive(
        self,
        message: TransportServicePayload,
        complete: MessageCompleteFunction,
        metadata: dict[str, Any],
    ) -> None:
        """Call the override, then handle its messages. Raises at the end what it raised."""
        turn = _Turn()
        failed: Exception | None = None
        token = _turn.set(turn)
        try:
            returned = self._override(message, complete, metadata)
            if isawaitable(returned):
                await returned
        except Exception as e:  # noqa: BLE001 - raised below
            failed = e
        finally:
            _turn.reset(token)
            turn.over = True
        for handling in turn.handed_on:
            await handling
        if failed is not None:
            raise failed

    def begin(self, handle: Run) -> Awaitable[None]:
        """Return an awaitable that handles a message.

        Within an override it runs when it is awaited, or after the override; else in a task now.
        """
        handling = Once(handle)
        turn = _turn.get()
        if turn is not None and not turn.over:
            turn.handed_on.append(handling)
            return handling
        task = asyncio.ensure_future(handling)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def pass_on(
        self,
        message: TransportServicePayload,
        complete: MessageCompleteFunction,
        metadata: dict[str, Any],
        *,
        within: float,
    ) -> ResponsePayloadDict:
        """Return the response that the override gives to the base's method.

        Raises NuropbTimeoutError when it gives none `within` seconds, and what the override raises.
        """
        correlation_id = message["correlation_id"]
        waiting: asyncio.Future[ResponsePayloadDict] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = waiting
        try:
            async with asyncio.timeout(within) as patience:
                await self.receive(message, complete, metadata)
                if not waiting.done():
                    names = (metadata["service_name"], metadata["instance_id"])
                    ServiceLog(logger, *names).warning(
                        "receive_transport_message, which is overridden, has not handed on the "
                        "response %s: call super().receive_transport_message(…), or the request "
                        "ends by its ttl",
                        correlation_id,
                        **ids_of(metadata),
                    )
                return await waiting
        except TimeoutError as e:
            if not patience.expired():
                raise
            raise NuropbTimeoutError(
                "the response came, and receive_transport_message, which is overridden, has not "
                "handed it on with super().receive_transport_message(…) in time"
            ) from e
        finally:
            del self._waiting[correlation_id]

    def answered(self, message: TransportServicePayload) -> bool:
        """Give a response to the request that waits for it; return False when none does."""
        waiting = self._waiting.get(message["correlation_id"])
        if waiting is None or waiting.done():
            return False
        waiting.set_result(cast(ResponsePayloadDict, message["nuropb_payload"]))
        return True


def answer(payload: Mapping[str, Any], result: Any, error: dict[str, Any] | None) -> dict[str, Any]:
    """Return the payload that answers a request."""
    return payloads.response(
        result,
        error,
        correlation_id=payload.get("correlation_id") or "",
        trace_id=payload.get("trace_id"),
        context=payload.get("context") or {},
    )


def responding(payload: Any) -> TransportRespondPayload:
    """Return a payload as a message for message_complete."""
    return {
        "nuropb_protocol": NUROPB_PROTOCOL_VERSION,
        "correlation_id": payload["correlation_id"],
        "trace_id": payload["trace_id"],
        "ttl": None,
        "nuropb_type": payload["tag"],
        "nuropb_payload": payload,
    }
