"""NuropbInterface and the type names of nuropb.interface; its exceptions are in `exceptions`."""

from __future__ import annotations

import asyncio
from abc import ABC
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypedDict

from ..protocol.constants import (
    AcknowledgeAction,
    CommandPayloadDict,
    EventPayloadDict,
    MessageCompleteFunction,
    RequestPayloadDict,
    ResponsePayloadDict,
    TransportServicePayload,
)

NuropbSerializeType = Literal["json"]
NuropbMessageType = Literal["request", "response", "event", "command"]
NuropbLifecycleState = Literal[
    "client-start",
    "client-encode",
    "client-send",
    "service-receive",
    "service-decode",
    "service-handle",
    "service-encode",
    "service-reply",
    "service-ack",
    "client-receive",
    "client-decode",
    "client-handle",
    "client-ack",
    "client-end",
]

PayloadDict = ResponsePayloadDict | RequestPayloadDict | CommandPayloadDict | EventPayloadDict
ServicePayloadTypes = ResponsePayloadDict | CommandPayloadDict | EventPayloadDict
ResponsePayloadTypes = ResponsePayloadDict | EventPayloadDict

ResultFutureResponsePayload = asyncio.Future[ResponsePayloadDict]
ResultFutureAny = asyncio.Future[Any]
AcknowledgeCallbackFunction = Callable[[AcknowledgeAction], None]
ConnectionCallbackFunction = Callable[[type["NuropbInterface"], str, str], None]


class EventType(TypedDict):
    """An event of a NuropbSuccess."""

    topic: str
    payload: Any
    target: list[Any] | None


class NuropbInterface(ABC):
    """Interface of a NuroPb API over any transport.

    Times are in milliseconds. RMQAPI documents the methods and their errors.
    """

    _service_name: str
    _instance_id: str
    _service_instance: object | None

    @property
    def service_name(self) -> str:
        """The service's name."""
        return self._service_name

    @property
    def instance_id(self) -> str:
        """The instance's id."""
        return self._instance_id

    async def connect(self) -> None:
        """Connect; raises when that fails."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Let handlers finish, and disconnect."""
        raise NotImplementedError

    @property
    def connected(self) -> bool:
        """True while it is connected."""
        raise NotImplementedError

    @property
    def is_leader(self) -> bool:
        """True when this instance leads its service."""
        raise NotImplementedError

    def receive_transport_message(
        self,
        service_message: TransportServicePayload,
        message_complete_callback: MessageCompleteFunction,
        metadata: dict[str, Any],
    ) -> Awaitable[None] | None:
        """Handle a message, and complete it."""
        raise NotImplementedError

    async def request(  # noqa: PLR0917 - nuropb's signature
        self,
        service: str,
        method: str,
        params: dict[str, Any],
        context: dict[str, Any],
        ttl: int | None = None,
        trace_id: str | None = None,
        rpc_response: bool = True,
    ) -> Any:
        """Call a method of a service, and wait for its result."""
        raise NotImplementedError

    def command(  # noqa: PLR0917 - nuropb's signature
        self,
        service: str,
        method: str,
        params: dict[str, Any],
        context: dict[str, Any],
        ttl: int | None = None,
        trace_id: str | None = None,
    ) -> Awaitable[None]:
        """Call a method of a service without an answer."""
        raise NotImplementedError

    def publish_event(
        self,
        topic: str,
        event: Any,
        context: dict[str, Any],
        trace_id: str | None = None,
    ) -> Awaitable[None]:
        """Publish an event."""
        raise NotImplementedError
