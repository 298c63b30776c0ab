"""receive_transport_message, where a subclass of RMQAPI has its own.

nuropb's is a function that every message passes, the responses to its own requests among them. So
an override may be a function or a coroutine function, and return or await what the base's method
returns, or leave it alone: what it hands on is handled, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, cast

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

__all__ = ["Receiving", "answer", "responding"]

logger = logging.getLogger("nuropb_rmq.compat")

Handle = Callable[[], Coroutine[Any, Any, None]]


class _Handling:
    """The result of the base's method: awaiting it handles the message, once."""

    __slots__ = ("_begun", "_handle")

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._begun = False

    def __await__(self) -> Generator[Any, None, None]:
        if not self._begun:
            self._begun = True
            yield from self._handle().__await__()


@dataclass(slots=True)
class _Turn:
    """The message that an override handed on, while it is being called."""

    handed_on: list[_Handling] = field(default_factory=list)
    over: bool = False
    """Tasks that it began, and that outlive it, run in a copy of its context."""


_turn: ContextVar[_Turn | None] = ContextVar("nuropb_rmq_receiving", default=None)


class Receiving:
    """Gives messages to an override, and handles what that hands on to the base's method."""

    def __init__(self, override: MessageCallbackFunction) -> None:
        self._override = override
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, asyncio.Future[ResponsePayloadDict]] = {}

    async def receive(
        self,
        message: TransportServicePayload,
        complete: MessageCompleteFunction,
        metadata: dict[str, Any],
    ) -> None:
        """Call the override, and do what it handed on. Raises what it raises, after that."""
        turn = _Turn()
        failed: Exception | None = None
        token = _turn.set(turn)
        try:
            returned = self._override(message, complete, metadata)
            if isawaitable(returned):
                await returned
        except Exception as e:  # noqa: BLE001 - it is raised again
            failed = e
        finally:
            _turn.reset(token)
            turn.over = True
        for each in turn.handed_on:
            await each
        if failed is not None:
            raise failed

    def begin(self, handle: Handle) -> Awaitable[None]:
        """Handle a message, when it is awaited or the override has returned, or else at once."""
        handling = _Handling(handle)
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
        """Return the response as the override hands it on.

        Raises NuropbTimeoutError when it has not within so many seconds, and what it raises.
        """
        correlation_id = message["correlation_id"]
        waiting: asyncio.Future[ResponsePayloadDict] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = waiting
        try:
            async with asyncio.timeout(within) as patience:
                await self.receive(message, complete, metadata)
                if not waiting.done():
                    logger.warning(
                        "receive_transport_message, which is overridden, has not handed on the "
                        "response %s: call super().receive_transport_message(…), or the request "
                        "ends by its ttl",
                        correlation_id,
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
        """Give a response to the request that waits for it. False when none does."""
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
    """Return a payload in the form that message_complete takes."""
    return {
        "nuropb_protocol": NUROPB_PROTOCOL_VERSION,
        "correlation_id": payload["correlation_id"],
        "trace_id": payload["trace_id"],
        "ttl": None,
        "nuropb_type": payload["tag"],
        "nuropb_payload": payload,
    }
